# What a cluster is made of when nothing but a name is said. Offline: the AWS of every run is mocked.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "demo"
  region = "us-west-2"
}

run "defaults" {
  assert {
    condition     = aws_instance.head.ami == "ami-01c3c55948a949a52" && aws_launch_template.worker.image_id == "ami-01c3c55948a949a52"
    error_message = "In us-west-2 an arm64 cluster has the predecessor's image."
  }
  assert {
    condition     = aws_instance.head.instance_type == "m7g.medium" && aws_launch_template.worker.instance_type == "m7g.medium"
    error_message = "The default type is m7g.medium."
  }
  assert {
    condition     = aws_instance.head.subnet_id == "subnet-0000000000000000a" && aws_autoscaling_group.workers.vpc_zone_identifier == toset(["subnet-0000000000000000a"])
    error_message = "All nodes are in one subnet."
  }
  assert {
    condition     = aws_instance.head.associate_public_ip_address && aws_launch_template.worker.network_interfaces[0].associate_public_ip_address == "true"
    error_message = "Nodes have public addresses."
  }
  assert {
    condition = alltrue([
      for options in [aws_instance.head.metadata_options[0], aws_launch_template.worker.metadata_options[0]] :
      options.http_tokens == "required" && options.http_put_response_hop_limit == 1
    ])
    error_message = "IMDSv2 is required, with a hop limit of 1."
  }
  assert {
    condition     = aws_instance.head.root_block_device[0].encrypted && aws_instance.head.root_block_device[0].volume_type == "gp3" && aws_instance.head.root_block_device[0].volume_size == 50
    error_message = "The head has an encrypted gp3 volume of 50 GiB."
  }
  assert {
    condition = alltrue([
      for ebs in [aws_launch_template.worker.block_device_mappings[0].ebs[0]] :
      ebs.encrypted == "true" && ebs.volume_type == "gp3" && ebs.volume_size == 50 && ebs.delete_on_termination == "true"
    ])
    error_message = "Workers have an encrypted gp3 volume of 50 GiB that goes with them."
  }
  assert {
    condition     = aws_launch_template.worker.block_device_mappings[0].device_name == "/dev/xvda"
    error_message = "The workers' volume is the image's root device."
  }
  assert {
    condition = alltrue([
      aws_autoscaling_group.workers.min_size == 0,
      aws_autoscaling_group.workers.max_size == 2,
      aws_autoscaling_group.workers.desired_capacity == 2,
      aws_autoscaling_group.workers.force_delete,
      aws_autoscaling_group.workers.wait_for_capacity_timeout == "0",
      aws_autoscaling_group.workers.mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 100,
    ])
    error_message = "Two workers on demand, and nothing waits for them."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.ssh) == 0 && length(aws_key_pair.cluster) == 0 && output.ssh_key_name == null
    error_message = "Nobody gets in who was not named."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.between_nodes.referenced_security_group_id == aws_security_group.nodes.id && aws_vpc_security_group_ingress_rule.between_nodes.ip_protocol == "-1"
    error_message = "Nodes reach each other on every port."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.ipv4.cidr_ipv4 == "0.0.0.0/0" && aws_vpc_security_group_egress_rule.ipv6.cidr_ipv6 == "::/0"
    error_message = "Outbound is open."
  }
  assert {
    condition     = aws_ssm_parameter.ray.name == "/daft/demo/ray" && aws_ssm_parameter.ray.type == "SecureString"
    error_message = "The cluster's secret is an SSM SecureString."
  }
  assert {
    condition = output.provider == "aws" && output.name == "demo" && output.region == "us-west-2" && output.ssh_user == "ec2-user" && alltrue([
      output.number_of_workers == 2,
      output.worker_group == "daft-demo-workers",
      output.head_id == aws_instance.head.id,
      output.head_address == aws_instance.head.public_ip,
      output.head_private_address == aws_instance.head.private_ip,
      output.image_id == aws_instance.head.ami,
      output.instance_type == "m7g.medium",
      output.zone == aws_instance.head.availability_zone,
      output.secret_name == "/daft/demo/ray",
    ])
    error_message = "The outputs describe the cluster."
  }
}

run "tags" {
  variables {
    tags = { team = "data" }
  }

  assert {
    condition = aws_instance.head.root_block_device[0].tags == tomap({
      "Name" = "demo-head", "daft:cluster" = "demo", "daft:managed-by" = "daft-launcher", "daft:role" = "head", "team" = "data"
      }) && aws_instance.head.tags == tomap(merge(aws_instance.head.root_block_device[0].tags, {
        "daft:generation" = substr(local.head_generation, 0, 16)
    }))
    error_message = "The head and its volume carry the cluster's tags and the user's, and the head what it was set up for."
  }
  assert {
    condition = { for tag in aws_autoscaling_group.workers.tag : tag.key => tag.value if tag.propagate_at_launch } == {
      "Name" = "demo-worker", "daft:cluster" = "demo", "daft:managed-by" = "daft-launcher", "daft:role" = "worker", "team" = "data"
    }
    error_message = "The group and its workers carry the cluster's tags and the user's."
  }
  assert {
    condition = alltrue([
      for tags in concat(
        [aws_security_group.nodes.tags, aws_ssm_parameter.ray.tags, aws_launch_template.worker.tags],
        [aws_vpc_security_group_ingress_rule.between_nodes.tags, aws_vpc_security_group_egress_rule.ipv4.tags, aws_vpc_security_group_egress_rule.ipv6.tags],
        values(aws_iam_role.node)[*].tags,
        values(aws_iam_instance_profile.node)[*].tags,
        aws_launch_template.worker.tag_specifications[*].tags,
      ) : tags["daft:cluster"] == "demo" && tags["daft:managed-by"] == "daft-launcher" && tags["team"] == "data" && can(tags["Name"])
    ])
    error_message = "Everything that takes tags has them."
  }
}

run "scaling_leaves_the_nodes_alone" {
  variables {
    number_of_workers = 200
  }

  assert {
    condition     = output.head_id == run.defaults.head_id
    error_message = "number_of_workers must not make another head."
  }
  assert {
    condition     = !strcontains(jsonencode(local.settings_of), "200")
    error_message = "number_of_workers must not be in the user data."
  }
  assert {
    condition     = aws_autoscaling_group.workers.max_size == 200 && aws_autoscaling_group.workers.desired_capacity == 200 && output.number_of_workers == 200
    error_message = "The group grows."
  }
}

run "another_type_makes_another_head" {
  variables {
    instance_type = "m7g.large"
  }

  assert {
    condition     = output.head_id != run.defaults.head_id
    error_message = "EC2 would stop the head to change its type; a new head is the honest plan."
  }
}

run "another_disk_makes_another_head" {
  variables {
    instance_type = "m7g.large"
    disk_size_gb  = 80
  }

  assert {
    condition     = output.head_id != run.another_type_makes_another_head.head_id && aws_launch_template.worker.block_device_mappings[0].ebs[0].volume_size == 80
    error_message = "disk_size_gb reaches the head and the workers."
  }
}
