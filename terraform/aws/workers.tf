# A launch template and an Auto Scaling group: the same few resources for two workers and for two thousand, and AWS
# replaces a worker that is lost. Nothing here waits for the head, so that all machines boot at once.

resource "aws_launch_template" "worker" {
  name                   = "daft-${var.name}-worker"
  description            = "Workers of the Ray cluster ${var.name}"
  update_default_version = true
  image_id               = terraform_data.image.input.id
  instance_type          = var.instance_type
  key_name               = local.key_name
  user_data              = local.user_data.worker
  tags                   = merge(local.tags, { "Name" = "${var.name}-worker", "daft:role" = "worker" })

  iam_instance_profile {
    name = local.instance_profile.worker
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  network_interfaces {
    device_index                = 0
    associate_public_ip_address = var.subnet_id == null ? true : null
    delete_on_termination       = true
    security_groups             = [aws_security_group.nodes.id]
  }

  block_device_mappings {
    device_name = terraform_data.image.input.root_device_name

    ebs {
      volume_type           = "gp3"
      volume_size           = var.disk_size_gb
      encrypted             = true
      delete_on_termination = true
    }
  }

  # The group tags its instances, but not their volumes and interfaces.
  tag_specifications {
    resource_type = "volume"
    tags          = local.worker_tags
  }
  tag_specifications {
    resource_type = "network-interface"
    tags          = local.worker_tags
  }

  lifecycle {
    precondition {
      condition     = local.user_data_size.worker <= local.user_data_limit
      error_message = "The workers' user data has ${local.user_data_size.worker} bytes and EC2 takes ${local.user_data_limit}: shorten dependencies."
    }
  }
}

resource "aws_autoscaling_group" "workers" {
  name                = local.worker_group
  min_size            = 0
  max_size            = var.number_of_workers
  desired_capacity    = var.number_of_workers
  vpc_zone_identifier = [terraform_data.placement.input.subnet_id]
  health_check_type   = "EC2"

  # `up` waits for the head alone, and `down` for nothing but the order to shut down.
  wait_for_capacity_timeout = "0"
  force_delete              = true

  # Also for workers on demand: one block for both, where a launch template of its own would need `dynamic` twice.
  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 0
      on_demand_percentage_above_base_capacity = var.spot ? 0 : 100
      spot_allocation_strategy                 = "price-capacity-optimized"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.worker.id
        version            = aws_launch_template.worker.latest_version
      }
    }
  }

  # Brings a changed launch template, or another `spot`, to the workers that run already; scaling does not start it.
  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage = 0
      instance_warmup        = "0"
    }
  }

  # Tags of a group are blocks; there is no argument that takes a map.
  dynamic "tag" {
    for_each = local.worker_tags

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  lifecycle {
    # Another VPC means another security group, and the old one cannot go while workers are in it.
    replace_triggered_by = [aws_security_group.nodes.id]
  }

  depends_on = [
    aws_iam_role_policy.node,
    aws_iam_role_policy_attachment.node,
    aws_ssm_parameter.ray,
    aws_vpc_security_group_ingress_rule.between_nodes,
    aws_vpc_security_group_egress_rule.ipv4,
    aws_vpc_security_group_egress_rule.ipv6,
  ]
}
