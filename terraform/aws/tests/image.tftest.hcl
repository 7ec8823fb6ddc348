# Which image the nodes get, by region, architecture and the user's choice.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "demo"
  region = "us-west-2"
}

run "another_region" {
  command = plan

  variables {
    region = "eu-west-1"
  }

  assert {
    condition     = aws_instance.head.ami == "ami-0000000000000023a" && data.aws_ssm_parameter.amazon_linux[0].name == "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
    error_message = "Elsewhere it is Amazon Linux 2023 for arm64."
  }
}

run "another_architecture" {
  command = plan

  variables {
    instance_type = "m5.large"
  }
  override_data {
    target = data.aws_ec2_instance_type.node
    values = { supported_architectures = ["i386", "x86_64"] }
  }
  override_data {
    target = data.aws_ami.found
    values = { architecture = "x86_64", root_device_name = "/dev/sda1" }
  }

  assert {
    condition     = output.image_id == "ami-0000000000000023a" && data.aws_ssm_parameter.amazon_linux[0].name == "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    error_message = "For x86_64 it is Amazon Linux 2023 for x86_64."
  }
  assert {
    condition     = aws_launch_template.worker.block_device_mappings[0].device_name == "/dev/sda1"
    error_message = "The volume is the image's own root device."
  }
}

run "chosen" {
  command = plan

  variables {
    image_id = "ami-0123456789abcdef0"
  }

  assert {
    condition     = aws_instance.head.ami == "ami-0123456789abcdef0" && aws_launch_template.worker.image_id == "ami-0123456789abcdef0" && length(data.aws_ssm_parameter.amazon_linux) == 0
    error_message = "The user's image is taken, and nothing else is looked up."
  }
}

run "of_another_architecture" {
  command = plan

  variables {
    image_id = "ami-0123456789abcdef0"
  }
  override_data {
    target = data.aws_ami.found
    values = { architecture = "x86_64" }
  }

  expect_failures = [terraform_data.image]
}

run "before_aws_moves_it" {
  variables {
    region = "eu-west-1"
  }
}

run "after_aws_moved_it" {
  variables {
    region = "eu-west-1"
  }
  override_data {
    target = data.aws_ssm_parameter.amazon_linux
    values = { value = "ami-0000000000000024a" }
  }
  override_data {
    target = data.aws_subnets.public
    values = { ids = ["subnet-00000000000000001"] }
  }

  assert {
    condition     = local.found_image_id == "ami-0000000000000024a" && output.image_id == "ami-0000000000000023a" && output.head_id == run.before_aws_moves_it.head_id
    error_message = "A newer image or another subnet on AWS's side must not replace a living head."
  }
}

run "chosen_for_a_living_cluster" {
  variables {
    region   = "eu-west-1"
    image_id = "ami-0123456789abcdef0"
  }

  assert {
    condition     = output.image_id == "ami-0123456789abcdef0" && output.head_id != run.before_aws_moves_it.head_id
    error_message = "The user's choice does."
  }
}
