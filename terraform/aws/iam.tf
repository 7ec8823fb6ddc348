# A role for the head and one for the workers, because only the head may write the cluster's secret and end the cluster.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

locals {
  node_roles = var.iam_instance_profile == null ? toset(["head", "worker"]) : toset([])

  # IAM knows no regions: without the region in them, two clusters of one name would share these names.
  role_names = { for role in local.node_roles : role => "${var.name}-${var.region}-${role}" }

  statements = [
    {
      Sid      = "ReportStatus"
      Effect   = "Allow"
      Action   = "ec2:CreateTags"
      Resource = "arn:${data.aws_partition.current.partition}:ec2:${var.region}:${data.aws_caller_identity.current.account_id}:instance/*"
      Condition = {
        # On itself only: the session name in an instance's aws:userid is its instance id
        # (docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html, "Principal key values").
        StringLike = { "aws:userid" = "*:$${ec2:InstanceID}" }
        # ForAllValues is also true of a request without any key; Null rules that out.
        "ForAllValues:StringEquals" = { "aws:TagKeys" = ["daft:status", "daft:detail", "daft:ends", "daft:ssh-host-key"] }
        Null                        = { "aws:TagKeys" = "false" }
      }
    },
    {
      Sid      = "ReadSecret"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = aws_ssm_parameter.ray.arn
    },
  ]
  head_statements = [
    {
      Sid      = "WriteSecret"
      Effect   = "Allow"
      Action   = "ssm:PutParameter"
      Resource = aws_ssm_parameter.ray.arn
    },
    {
      Sid    = "ReadLimits"
      Effect = "Allow"
      Action = "ssm:GetParameter"
      # By name, since there may be none: the head then has to hear that, and not that it may not ask.
      Resource = "arn:${data.aws_partition.current.partition}:ssm:${var.region}:${data.aws_caller_identity.current.account_id}:parameter${local.limits_name}"
    },
    {
      Sid      = "EndWorkers"
      Effect   = "Allow"
      Action   = "autoscaling:UpdateAutoScalingGroup"
      Resource = "arn:${data.aws_partition.current.partition}:autoscaling:${var.region}:${data.aws_caller_identity.current.account_id}:autoScalingGroup:*:autoScalingGroupName/${local.worker_group}"
      # To none, and to no other number: jobs have the head's rights too.
      Condition = { NumericEquals = { "autoscaling:MaxSize" = "0" } }
    },
    {
      Sid       = "EndItself"
      Effect    = "Allow"
      Action    = "ec2:TerminateInstances"
      Resource  = "arn:${data.aws_partition.current.partition}:ec2:${var.region}:${data.aws_caller_identity.current.account_id}:instance/*"
      Condition = { StringLike = { "aws:userid" = "*:$${ec2:InstanceID}" } }
    },
  ]
  policies = {
    head   = jsonencode({ Version = "2012-10-17", Statement = concat(local.statements, local.head_statements) })
    worker = jsonencode({ Version = "2012-10-17", Statement = local.statements })
  }

  instance_profile = {
    head   = var.iam_instance_profile != null ? var.iam_instance_profile : one([for role, profile in aws_iam_instance_profile.node : profile.name if role == "head"])
    worker = var.iam_instance_profile != null ? var.iam_instance_profile : one([for role, profile in aws_iam_instance_profile.node : profile.name if role == "worker"])
  }
}

resource "aws_iam_role" "node" {
  for_each    = local.node_roles
  name        = local.role_names[each.key]
  path        = "/daft/"
  description = "The ${each.key} of the Ray cluster ${var.name} in ${var.region}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.${data.aws_partition.current.dns_suffix}" }
    }]
  })
  tags = merge(local.tags, { "Name" = local.role_names[each.key], "daft:role" = each.key })
}

resource "aws_iam_role_policy" "node" {
  for_each = local.node_roles
  name     = "daft"
  role     = aws_iam_role.node[each.key].name
  policy   = local.policies[each.key]
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each   = { for pair in setproduct(local.node_roles, toset(var.iam_policy_arns)) : join(" ", pair) => pair }
  role       = aws_iam_role.node[each.value[0]].name
  policy_arn = each.value[1]
}

resource "aws_iam_instance_profile" "node" {
  for_each = local.node_roles
  name     = local.role_names[each.key]
  path     = "/daft/"
  role     = aws_iam_role.node[each.key].name
  tags     = merge(local.tags, { "Name" = local.role_names[each.key], "daft:role" = each.key })
}
