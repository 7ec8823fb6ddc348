resource "aws_security_group" "nodes" {
  name        = "daft-${var.name}"
  description = "Nodes of the Ray cluster ${var.name}"
  vpc_id      = terraform_data.placement.input.vpc_id
  tags        = merge(local.tags, { "Name" = var.name })
}

locals {
  # cidrsubnet(x, 0, 0) clears the host bits as EC2 does; left alone, they would show as a change forever.
  ssh_cidrs = toset([for cidr in concat(var.ssh_allowed_cidrs, var.operator_cidrs) : cidrsubnet(cidr, 0, 0)])
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each          = local.ssh_cidrs
  security_group_id = aws_security_group.nodes.id
  description       = "SSH"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = strcontains(each.value, ":") ? null : each.value
  cidr_ipv6         = strcontains(each.value, ":") ? each.value : null
  tags              = merge(local.tags, { "Name" = var.name })
}

resource "aws_vpc_security_group_ingress_rule" "between_nodes" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "Everything between the nodes"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.nodes.id
  tags                         = merge(local.tags, { "Name" = var.name })
}

resource "aws_vpc_security_group_egress_rule" "ipv4" {
  security_group_id = aws_security_group.nodes.id
  description       = "Outbound"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
  tags              = merge(local.tags, { "Name" = var.name })
}

resource "aws_vpc_security_group_egress_rule" "ipv6" {
  security_group_id = aws_security_group.nodes.id
  description       = "Outbound"
  ip_protocol       = "-1"
  cidr_ipv6         = "::/0"
  tags              = merge(local.tags, { "Name" = var.name })
}
