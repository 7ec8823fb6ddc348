locals {
  # All that makes another head. EC2 could stop a head, change its type or disk and start it again, but that kills the
  # jobs just the same and leaves a node set up for the old hardware; a new one is the honest plan.
  # The settings and not the script that reads them, and of them only what is set: a later version of this module brings
  # another script and more settings, and that must not end the jobs of a cluster that was made before.
  head_generation = sha256(jsonencode([
    { for key, value in local.settings_of.head : key => value if value != null },
    terraform_data.image.input.id,
    terraform_data.placement.input.subnet_id,
    var.instance_type,
    var.disk_size_gb,
    var.ssh_key_name,
    local.ssh_public_key,
  ]))
}

resource "terraform_data" "head_generation" {
  triggers_replace = local.head_generation
}

resource "aws_instance" "head" {
  ami                         = terraform_data.image.input.id
  instance_type               = var.instance_type
  subnet_id                   = terraform_data.placement.input.subnet_id
  vpc_security_group_ids      = [aws_security_group.nodes.id]
  associate_public_ip_address = var.subnet_id == null ? true : null
  iam_instance_profile        = local.instance_profile.head
  key_name                    = local.key_name
  user_data_base64            = local.user_data.head
  # By its tag, a head whose state is lost shows whether it was set up as the configuration says.
  tags = merge(local.head_tags, { "daft:generation" = substr(local.head_generation, 0, 16) })

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.disk_size_gb
    encrypted   = true
    tags        = local.head_tags
  }

  lifecycle {
    # Another head gets the user data of its day; only what is in its generation is a reason for another head. The
    # provider keeps that of an imported head as `user_data`, and would stop the head to put the other in its place.
    ignore_changes       = [user_data, user_data_base64]
    replace_triggered_by = [terraform_data.head_generation]

    precondition {
      condition     = local.user_data_size.head <= local.user_data_limit
      error_message = "The head's user data has ${local.user_data_size.head} bytes and EC2 takes ${local.user_data_limit}: shorten dependencies and setup_commands, for example by moving commands into a script that one of them fetches."
    }
  }

  # The node needs these while it boots, and nothing else says so.
  depends_on = [
    aws_iam_role_policy.node,
    aws_iam_role_policy_attachment.node,
    aws_ssm_parameter.limits,
    aws_ssm_parameter.ray,
    aws_vpc_security_group_ingress_rule.between_nodes,
    aws_vpc_security_group_egress_rule.ipv4,
    aws_vpc_security_group_egress_rule.ipv6,
  ]
}

# The provider goes on when EC2 refuses or drops the call that tags the volume of a new head, with a word in its log alone
# (internal/service/ec2/ec2_instance.go); the next apply makes the tags, or fails with what EC2 says.
check "head_volume_tags" {
  assert {
    condition = alltrue([
      for key, value in local.head_tags : try(aws_instance.head.root_block_device[0].tags[key] == value, false)
    ])
    error_message = "EC2 has made the head, but not tagged its volume (ec2:CreateTags); another apply does"
  }
}
