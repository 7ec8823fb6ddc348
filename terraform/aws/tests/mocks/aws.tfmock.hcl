# An account with a default VPC of two subnets, both in zones that offer an arm64 type.

mock_data "aws_ec2_instance_type" {
  defaults = { supported_architectures = ["arm64"] }
}

mock_data "aws_ec2_instance_type_offerings" {
  defaults = { locations = ["us-west-2b", "us-west-2a"] }
}

mock_data "aws_vpcs" {
  defaults = { ids = ["vpc-00000000000000001"] }
}

mock_data "aws_subnets" {
  defaults = { ids = ["subnet-0000000000000000b", "subnet-0000000000000000a"] }
}

mock_data "aws_subnet" {
  defaults = { availability_zone = "us-west-2a", vpc_id = "vpc-00000000000000002" }
}

mock_data "aws_ami" {
  defaults = { architecture = "arm64", root_device_name = "/dev/xvda" }
}

mock_data "aws_ssm_parameter" {
  defaults = { value = "ami-0000000000000023a" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_resource "aws_ssm_parameter" {
  defaults = { arn = "arn:aws:ssm:us-west-2:123456789012:parameter/daft/demo/ray" }
}
