# Where the nodes go and who reaches them.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "demo"
  region = "us-west-2"
}

run "private_subnets_come_last" {
  command = plan

  override_data {
    target = data.aws_subnets.public
    values = { ids = ["subnet-0000000000000000b"] }
  }

  assert {
    condition     = aws_instance.head.subnet_id == "subnet-0000000000000000b"
    error_message = "A public subnet goes before a private one."
  }
}

run "own_vpc" {
  command = plan

  variables {
    vpc_id = "vpc-00000000000000009"
  }

  assert {
    condition     = aws_security_group.nodes.vpc_id == "vpc-00000000000000009" && length(data.aws_vpcs.default) == 0 && length(data.aws_subnets.candidates) == 1
    error_message = "A subnet of the given VPC is looked for, the default VPC is not."
  }
}

run "own_subnet" {
  variables {
    subnet_id = "subnet-0000000000000000c"
  }
  override_resource {
    target = aws_instance.head
    values = { public_ip = "", private_ip = "10.77.0.9" }
  }

  assert {
    condition = alltrue([
      aws_instance.head.subnet_id == "subnet-0000000000000000c",
      aws_security_group.nodes.vpc_id == "vpc-00000000000000002",
      aws_launch_template.worker.network_interfaces[0].associate_public_ip_address == null,
      length(data.aws_subnets.candidates) == 0,
    ])
    error_message = "The given subnet is taken, with its VPC and its own setting for public addresses."
  }
  assert {
    condition     = output.head_address == "10.77.0.9" && output.head_private_address == "10.77.0.9"
    error_message = "Without a public address there is the private one."
  }
}

run "region_of_a_living_cluster" {
  command = plan

  variables {
    region    = "eu-west-1"
    subnet_id = "subnet-0000000000000000c"
  }

  expect_failures = [terraform_data.region]
}

run "zone_without_the_type" {
  command = plan

  variables {
    subnet_id = "subnet-0000000000000000c"
  }
  override_data {
    target = data.aws_subnet.given
    values = { availability_zone = "us-west-2d", vpc_id = "vpc-00000000000000002" }
  }

  expect_failures = [terraform_data.placement]
}

run "subnet_of_another_vpc" {
  command = plan

  variables {
    vpc_id    = "vpc-00000000000000009"
    subnet_id = "subnet-0000000000000000c"
  }

  expect_failures = [terraform_data.placement]
}

run "type_offered_nowhere" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type_offerings.zones
    values = { locations = [] }
  }
  override_data {
    target = data.aws_subnets.candidates
    values = { ids = [] }
  }
  override_data {
    target = data.aws_subnets.public
    values = { ids = [] }
  }

  expect_failures = [terraform_data.placement]
}

run "no_default_vpc" {
  command = plan

  override_data {
    target = data.aws_vpcs.default
    values = { ids = [] }
  }

  expect_failures = [terraform_data.placement]
}

run "no_subnet_in_a_zone_with_the_type" {
  command = plan

  override_data {
    target = data.aws_subnets.candidates
    values = { ids = [] }
  }
  override_data {
    target = data.aws_subnets.public
    values = { ids = [] }
  }

  expect_failures = [terraform_data.placement]
}

run "ssh_rules" {
  command = plan

  variables {
    ssh_allowed_cidrs = ["10.0.0.0/8", "2001:DB8::1/64", "10.1.2.3/8"]
    operator_cidrs    = ["203.0.113.7/32", "10.0.0.0/8"]
  }

  assert {
    condition = jsonencode({
      for key, rule in aws_vpc_security_group_ingress_rule.ssh :
      key => [rule.ip_protocol, rule.from_port, rule.to_port, rule.cidr_ipv4, rule.cidr_ipv6]
      }) == jsonencode({
      "10.0.0.0/8"     = ["tcp", 22, 22, "10.0.0.0/8", null]
      "2001:db8::/64"  = ["tcp", 22, 22, null, "2001:db8::/64"]
      "203.0.113.7/32" = ["tcp", 22, 22, "203.0.113.7/32", null]
    })
    error_message = "One rule a network, for port 22 alone, each network once and as EC2 writes it."
  }
}
