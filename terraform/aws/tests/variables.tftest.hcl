# Every wrong value is refused by its own variable, before anything is asked of AWS.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "demo"
  region = "us-west-2"
}

run "name_starts_with_a_digit" {
  command = plan

  variables {
    name = "1demo"
  }

  expect_failures = [var.name]
}

run "name_upper_case" {
  command = plan

  variables {
    name = "Demo"
  }

  expect_failures = [var.name]
}

run "name_ends_with_a_dash" {
  command = plan

  variables {
    name = "demo-"
  }

  expect_failures = [var.name]
}

run "name_too_long" {
  command = plan

  variables {
    name = "a123456789b123456789c123456789d123456789e"
  }

  expect_failures = [var.name]
}

run "name_empty" {
  command = plan

  variables {
    name = ""
  }

  expect_failures = [var.name]
}

run "region_is_a_zone" {
  command = plan

  variables {
    region = "us-west-2a"
  }

  expect_failures = [var.region]
}

run "region_is_no_region" {
  command = plan

  variables {
    region = "oregon"
  }

  expect_failures = [var.region]
}

run "ssh_user_with_a_space" {
  command = plan

  variables {
    ssh_user = "ec2 user"
  }

  expect_failures = [var.ssh_user]
}

run "number_of_workers_negative" {
  command = plan

  variables {
    number_of_workers = -1
  }

  expect_failures = [var.number_of_workers]
}

run "number_of_workers_broken" {
  command = plan

  variables {
    number_of_workers = 1.5
  }

  expect_failures = [var.number_of_workers]
}

run "instance_type_without_a_size" {
  command = plan

  variables {
    instance_type = "m7g"
  }

  expect_failures = [var.instance_type]
}

run "instance_type_quoted" {
  command = plan

  variables {
    instance_type = "m7g.medium; rm"
  }

  expect_failures = [var.instance_type]
}

run "image_id_is_a_name" {
  command = plan

  variables {
    image_id = "al2023"
  }

  expect_failures = [var.image_id]
}

run "dependencies_empty" {
  command = plan

  variables {
    dependencies = [""]
  }

  expect_failures = [var.dependencies]
}

run "dependencies_of_two_lines" {
  command = plan

  variables {
    dependencies = ["pandas\nray"]
  }

  expect_failures = [var.dependencies]
}

run "python_version_two" {
  command = plan

  variables {
    python_version = "2.7"
  }

  expect_failures = [var.python_version]
}

run "python_version_range" {
  command = plan

  variables {
    python_version = ">=3.10"
  }

  expect_failures = [var.python_version]
}

run "ray_version_range" {
  command = plan

  variables {
    ray_version = ">=2"
  }

  expect_failures = [var.ray_version]
}

run "daft_version_range" {
  command = plan

  variables {
    daft_version = "~=0.7"
  }

  expect_failures = [var.daft_version]
}

run "disk_size_gb_small" {
  command = plan

  variables {
    disk_size_gb = 7
  }

  expect_failures = [var.disk_size_gb]
}

run "disk_size_gb_large" {
  command = plan

  variables {
    disk_size_gb = 16385
  }

  expect_failures = [var.disk_size_gb]
}

run "disk_size_gb_broken" {
  command = plan

  variables {
    disk_size_gb = 50.5
  }

  expect_failures = [var.disk_size_gb]
}

run "tags_of_ours" {
  command = plan

  variables {
    tags = { "daft:role" = "boss" }
  }

  expect_failures = [var.tags]
}

run "tags_of_aws" {
  command = plan

  variables {
    tags = { "AWS:x" = "y" }
  }

  expect_failures = [var.tags]
}

run "tags_name" {
  command = plan

  variables {
    tags = { Name = "x" }
  }

  expect_failures = [var.tags]
}

run "tags_characters" {
  command = plan

  variables {
    tags = { team = "a;b" }
  }

  expect_failures = [var.tags]
}

run "tags_too_many" {
  command = plan

  variables {
    tags = { for i in range(41) : "t${i}" => "x" }
  }

  expect_failures = [var.tags]
}

run "setup_commands_empty" {
  command = plan

  variables {
    setup_commands = ["  "]
  }

  expect_failures = [var.setup_commands]
}

run "vpc_id_is_a_subnet" {
  command = plan

  variables {
    vpc_id = "subnet-0123456789abcdef0"
  }

  expect_failures = [var.vpc_id]
}

run "subnet_id_is_a_vpc" {
  command = plan

  variables {
    subnet_id = "vpc-0123456789abcdef0"
  }

  expect_failures = [var.subnet_id]
}

run "ssh_allowed_cidrs_address_without_length" {
  command = plan

  variables {
    ssh_allowed_cidrs = ["203.0.113.7"]
  }

  expect_failures = [var.ssh_allowed_cidrs]
}

run "ssh_allowed_cidrs_no_address" {
  command = plan

  variables {
    ssh_allowed_cidrs = ["everyone"]
  }

  expect_failures = [var.ssh_allowed_cidrs]
}

run "operator_cidrs_address_without_length" {
  command = plan

  variables {
    operator_cidrs = ["2001:db8::1"]
  }

  expect_failures = [var.operator_cidrs]
}

run "ssh_key_name_empty" {
  command = plan

  variables {
    ssh_key_name = ""
  }

  expect_failures = [var.ssh_key_name]
}

run "ssh_public_key_is_private" {
  command = plan

  variables {
    ssh_public_key = "-----BEGIN OPENSSH PRIVATE KEY-----"
  }

  expect_failures = [var.ssh_public_key]
}

run "ssh_public_key_of_a_kind_ec2_refuses" {
  command = plan

  variables {
    ssh_public_key = "ecdsa-sha2-nistp256 AAAAE2Vj"
  }

  expect_failures = [var.ssh_public_key]
}

run "iam_instance_profile_is_an_arn" {
  command = plan

  variables {
    iam_instance_profile = "arn:aws:iam::123456789012:instance-profile/x"
  }

  expect_failures = [var.iam_instance_profile]
}

run "iam_policy_arns_is_a_name" {
  command = plan

  variables {
    iam_policy_arns = ["AmazonS3ReadOnlyAccess"]
  }

  expect_failures = [var.iam_policy_arns]
}

run "iam_policy_arns_beside_a_profile" {
  command = plan

  variables {
    iam_instance_profile = "mine"
    iam_policy_arns      = ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]
  }

  expect_failures = [var.iam_policy_arns]
}

run "null_means_the_default" {
  command = plan

  variables {
    ssh_user          = null
    number_of_workers = null
    instance_type     = null
    image_id          = null
    dependencies      = null
    python_version    = null
    disk_size_gb      = null
    tags              = null
    setup_commands    = null
    ssh_allowed_cidrs = null
    operator_cidrs    = null
    iam_policy_arns   = null
    spot              = null
  }

  assert {
    condition     = output.number_of_workers == 2 && output.instance_type == "m7g.medium" && output.ssh_user == "ec2-user"
    error_message = "null stands for the default."
  }
}

run "package_index_without_a_scheme" {
  command = plan

  variables {
    package_index = "pypi.example.com"
  }

  expect_failures = [var.package_index]
}

run "package_index_with_a_password" {
  command = plan

  variables {
    package_index = "https://ann:pw@pypi.example.com/simple"
  }

  expect_failures = [var.package_index]
}

run "find_links_relative" {
  command = plan

  variables {
    find_links = "wheels"
  }

  expect_failures = [var.find_links]
}

run "proxy_with_a_password" {
  command = plan

  variables {
    proxy = "http://ann:pw@proxy.example.com"
  }

  expect_failures = [var.proxy]
}

run "lifetime_in_seconds" {
  command = plan

  variables {
    max_lifetime = "90s"
  }

  expect_failures = [var.max_lifetime]
}

run "lifetime_without_a_unit" {
  command = plan

  variables {
    max_lifetime = "8"
  }

  expect_failures = [var.max_lifetime]
}

run "lifetime_of_nothing" {
  command = plan

  variables {
    max_lifetime = "0h"
  }

  expect_failures = [var.max_lifetime]
}

run "idle_for_an_empty_time" {
  command = plan

  variables {
    idle_timeout = ""
  }

  expect_failures = [var.idle_timeout]
}

run "idle_in_another_order" {
  command = plan

  variables {
    idle_timeout = "30m1h"
  }

  expect_failures = [var.idle_timeout]
}

run "idle_for_nothing" {
  command = plan

  variables {
    idle_timeout = "0d0m"
  }

  expect_failures = [var.idle_timeout]
}
