# Keys, IAM, Spot and user data.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "demo"
  region = "us-west-2"
}

run "longest_name" {
  command = plan

  variables {
    name   = "a123456789b123456789c123456789d123456789"
    region = "ap-southeast-7"
  }

  assert {
    condition     = alltrue([for name in values(local.role_names) : length(name) <= 64])
    error_message = "IAM takes names of up to 64 characters."
  }
}

run "existing_key_pair" {
  command = plan

  variables {
    ssh_key_name   = "my key"
    ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzHnUPxC9nTBSoGZzXTqXJhr2v0bRSHbLHSrL0YBzO+ me"
  }

  assert {
    condition     = length(aws_key_pair.cluster) == 0 && aws_instance.head.key_name == "my key" && aws_launch_template.worker.key_name == "my key" && output.ssh_key_name == "my key"
    error_message = "ssh_key_name goes before ssh_public_key."
  }
}

run "public_key" {
  command = plan

  variables {
    ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzHnUPxC9nTBSoGZzXTqXJhr2v0bRSHbLHSrL0YBzO+ me"
  }

  assert {
    condition     = aws_key_pair.cluster[0].key_name == "daft-demo" && aws_instance.head.key_name == "daft-demo" && output.ssh_key_name == "daft-demo"
    error_message = "The public key becomes the cluster's key pair."
  }
  assert {
    condition     = aws_key_pair.cluster[0].public_key == "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzHnUPxC9nTBSoGZzXTqXJhr2v0bRSHbLHSrL0YBzO+"
    error_message = "Its comment is nobody's business, and must not replace the head."
  }
}

run "roles" {
  variables {
    iam_policy_arns = ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]
  }

  assert {
    condition     = values(aws_iam_role.node)[*].name == ["demo-us-west-2-head", "demo-us-west-2-worker"] && values(aws_iam_role.node)[*].path == ["/daft/", "/daft/"]
    error_message = "The roles' names tell cluster and region."
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.node["worker"].policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid      = "ReportStatus"
          Effect   = "Allow"
          Action   = "ec2:CreateTags"
          Resource = "arn:aws:ec2:us-west-2:123456789012:instance/*"
          Condition = {
            StringLike                  = { "aws:userid" = "*:$${ec2:InstanceID}" }
            "ForAllValues:StringEquals" = { "aws:TagKeys" = ["daft:status", "daft:detail", "daft:ends", "daft:ssh-host-key"] }
            Null                        = { "aws:TagKeys" = "false" }
          }
        },
        {
          Sid      = "ReadSecret"
          Effect   = "Allow"
          Action   = "ssm:GetParameter"
          Resource = "arn:aws:ssm:us-west-2:123456789012:parameter/daft/demo/ray"
        },
      ]
    }
    error_message = "A worker may tag itself, with four keys, and read the one secret."
  }
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.node["head"].policy).Statement :
      [statement.Sid, statement.Action, try(statement.Condition, null) != null]
      ] == [
      ["ReportStatus", "ec2:CreateTags", true],
      ["ReadSecret", "ssm:GetParameter", false],
      ["WriteSecret", "ssm:PutParameter", false],
      ["ReadLimits", "ssm:GetParameter", false],
      ["EndWorkers", "autoscaling:UpdateAutoScalingGroup", true],
      ["EndItself", "ec2:TerminateInstances", true],
    ]
    error_message = "The head may also write the secret, read its limits, and end its workers and itself."
  }
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.node["head"].policy).Statement :
      [statement.Resource, jsonencode(statement.Condition)] if contains(["EndWorkers", "EndItself"], statement.Sid)
      ] == [
      ["arn:aws:autoscaling:us-west-2:123456789012:autoScalingGroup:*:autoScalingGroupName/daft-demo-workers", jsonencode({ NumericEquals = { "autoscaling:MaxSize" = "0" } })],
      ["arn:aws:ec2:us-west-2:123456789012:instance/*", jsonencode({ StringLike = { "aws:userid" = "*:$${ec2:InstanceID}" } })],
    ]
    error_message = "Its own group alone, to no worker alone; itself alone."
  }
  assert {
    condition     = sort(values(aws_iam_role_policy_attachment.node)[*].role) == tolist(["demo-us-west-2-head", "demo-us-west-2-worker"])
    error_message = "Each role has the user's policy, once."
  }
  assert {
    condition     = aws_instance.head.iam_instance_profile == "demo-us-west-2-head" && aws_launch_template.worker.iam_instance_profile[0].name == "demo-us-west-2-worker"
    error_message = "Each node has the profile of its role."
  }
}

run "own_instance_profile" {
  variables {
    iam_instance_profile = "mine"
  }

  assert {
    condition     = length(aws_iam_role.node) + length(aws_iam_role_policy.node) + length(aws_iam_instance_profile.node) + length(aws_iam_role_policy_attachment.node) == 0
    error_message = "With a profile of the user's own nothing is made in IAM."
  }
  assert {
    condition     = aws_instance.head.iam_instance_profile == "mine" && aws_launch_template.worker.iam_instance_profile[0].name == "mine"
    error_message = "All nodes have it."
  }
}

run "spot" {
  command = plan

  variables {
    spot = true
  }

  assert {
    condition     = aws_autoscaling_group.workers.mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 0 && aws_autoscaling_group.workers.mixed_instances_policy[0].instances_distribution[0].on_demand_base_capacity == 0
    error_message = "All workers are Spot Instances."
  }
  assert {
    condition     = length(aws_instance.head.instance_market_options) == 0 || try(aws_instance.head.instance_market_options[0].market_type, null) != "spot"
    error_message = "The head is not."
  }
}

run "settings" {
  variables {
    dependencies   = ["pandas>=2", "it's \"quoted\" $HOME"]
    setup_commands = ["echo `id`", "printf '%s\n' \"$${HOME}\""]
    ray_version    = "2.54.0"
    package_index  = "https://pypi.example.com/simple"
    find_links     = "/opt/wheels"
    proxy          = "http://proxy.example.com:3128"
  }

  assert {
    condition = jsonencode(local.settings_of.head) == jsonencode({
      cluster        = "demo"
      region         = "us-west-2"
      role           = "head"
      secret_name    = "/daft/demo/ray"
      python_version = "3.12"
      ray_version    = "2.54.0"
      daft_version   = null
      dependencies   = ["pandas>=2", "it's \"quoted\" $HOME"]
      setup_commands = ["echo `id`", "printf '%s\n' \"$${HOME}\""]
      ssh_user       = "ec2-user"
      package_index  = "https://pypi.example.com/simple"
      find_links     = "/opt/wheels"
      proxy          = "http://proxy.example.com:3128"
    })
    error_message = "The head's settings."
  }
  assert {
    condition     = jsonencode(local.settings_of.worker) == jsonencode(merge(local.settings_of.head, { role = "worker", setup_commands = [] }))
    error_message = "A worker's differ in role and have no setup commands."
  }
  assert {
    condition     = aws_instance.head.user_data_base64 == local.user_data.head && aws_launch_template.worker.user_data == local.user_data.worker
    error_message = "The user data reaches the nodes."
  }
}

run "user_data_within_the_limit" {
  command = plan

  variables {
    setup_commands = [for i in range(60) : sha512(tostring(i))]
  }

  assert {
    condition     = local.user_data_size.head > 4096 && local.user_data_size.head <= 16384
    error_message = "60 long commands fit."
  }
}

run "head_over_the_limit" {
  command = plan

  variables {
    setup_commands = [for i in range(400) : sha512(tostring(i))]
  }

  expect_failures = [aws_instance.head]
}

run "workers_over_the_limit" {
  command = plan

  variables {
    dependencies = [for i in range(400) : sha512(tostring(i))]
  }

  expect_failures = [aws_instance.head, aws_launch_template.worker]
}

run "generation_of_the_head" {
  command = plan

  variables {
    dependencies = ["pandas>=2"]
  }

  assert {
    condition = local.head_generation == sha256(jsonencode([
      {
        cluster        = "demo"
        dependencies   = ["pandas>=2"]
        python_version = "3.12"
        region         = "us-west-2"
        role           = "head"
        secret_name    = "/daft/demo/ray"
        setup_commands = []
        ssh_user       = "ec2-user"
      },
      terraform_data.image.input.id,
      terraform_data.placement.input.subnet_id,
      "m7g.medium",
      50,
      null,
      null,
    ]))
    error_message = "Neither the script nor a setting that is not used may make another head: an upgrade would end its jobs."
  }
}

run "no_limits" {
  command = plan

  assert {
    condition     = length(aws_ssm_parameter.limits) == 0
    error_message = "Nothing ends a cluster that nobody has limited."
  }
}

run "limits" {
  command = plan

  variables {
    max_lifetime = "1d2h3m"
    idle_timeout = "90m"
    tags         = { team = "data" }
  }

  assert {
    condition = jsonencode([for limits in aws_ssm_parameter.limits : [limits.name, limits.type, limits.insecure_value, limits.tags]]) == jsonencode([[
      "/daft/demo/limits",
      "String",
      jsonencode({ idle_timeout = 5400, max_lifetime = 93780 }),
      { "Name" = "demo", "daft:cluster" = "demo", "daft:managed-by" = "daft-launcher", "team" = "data" },
    ]])
    error_message = "In seconds, in a place of their own, with the cluster's tags."
  }
  assert {
    condition     = !strcontains(jsonencode(local.settings_of), "lifetime") && !strcontains(jsonencode(local.settings_of), "idle")
    error_message = "In the head's settings they would be another head."
  }
}

run "one_limit" {
  command = plan

  variables {
    idle_timeout = "2d"
  }

  assert {
    condition     = aws_ssm_parameter.limits[0].insecure_value == jsonencode({ idle_timeout = 172800 })
    error_message = "Only what is limited."
  }
}

run "script_without_its_comments" {
  command = plan

  assert {
    condition     = startswith(local.script, "#!/bin/bash\n") && length(regexall("(?m)^ *# ", local.script)) == 0 && length(split("\n", local.script)) > 500
    error_message = "What the nodes run is the script, and only its comments are missing."
  }
}
