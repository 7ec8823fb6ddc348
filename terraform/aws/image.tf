data "aws_ec2_instance_type" "node" {
  instance_type = var.instance_type
}

data "aws_ssm_parameter" "amazon_linux" {
  count = local.chosen_image_id == null ? 1 : 0
  name  = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${local.architecture}"
}

data "aws_ami" "found" {
  # AWS marks each release deprecated after 90 days and then leaves it out unless it is asked for
  # (docs.aws.amazon.com/linux/al2023/ug/ec2.html).
  include_deprecated = true

  filter {
    name   = "image-id"
    values = [local.found_image_id]
  }
}

locals {
  architecture = contains(data.aws_ec2_instance_type.node.supported_architectures, "arm64") ? "arm64" : "x86_64"

  # The default of the predecessor, which exists in this one region.
  default_image_id = var.region == "us-west-2" && local.architecture == "arm64" ? "ami-01c3c55948a949a52" : null
  chosen_image_id  = var.image_id != null ? var.image_id : local.default_image_id
  held             = var.held != null && try(var.held.instance_type == var.instance_type, false) ? var.held : null
  found_image_id   = local.chosen_image_id != null ? local.chosen_image_id : nonsensitive(data.aws_ssm_parameter.amazon_linux[0].value)
}

# Held like the placement: AWS moves the "latest" image about twice a month, and that must not replace a living head.
resource "terraform_data" "image" {
  input = local.held == null || local.chosen_image_id != null ? {
    id               = local.found_image_id
    root_device_name = data.aws_ami.found.root_device_name
    } : {
    id               = local.held.image_id
    root_device_name = local.held.root_device_name
  }
  triggers_replace = [local.chosen_image_id, local.architecture]

  lifecycle {
    ignore_changes = [input]

    precondition {
      condition     = data.aws_ami.found.architecture == local.architecture
      error_message = "${local.found_image_id} is an image for ${data.aws_ami.found.architecture}, but ${var.instance_type} is ${local.architecture}: choose an image_id for ${local.architecture} or leave it out, or choose an instance_type that is ${data.aws_ami.found.architecture}."
    }
  }
}
