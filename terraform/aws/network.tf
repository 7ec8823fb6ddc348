# Where the nodes go: one subnet, and so one Availability Zone, because traffic between zones costs money and time.

data "aws_ec2_instance_type_offerings" "zones" {
  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [var.instance_type]
  }
}

data "aws_subnet" "given" {
  count = var.subnet_id == null ? 0 : 1
  id    = var.subnet_id
}

# The plural lookups return nothing where the singular ones fail, so that the preconditions below can say why.
data "aws_vpcs" "default" {
  count = var.subnet_id == null && var.vpc_id == null ? 1 : 0

  filter {
    name   = "is-default"
    values = ["true"]
  }
}

data "aws_subnets" "candidates" {
  count = var.subnet_id == null ? 1 : 0

  filter {
    name   = "vpc-id"
    values = [coalesce(local.vpc_id, "none")]
  }
  filter {
    name   = "availability-zone"
    values = coalescelist(local.zones, ["none"])
  }
}

data "aws_subnets" "public" {
  count = var.subnet_id == null ? 1 : 0

  filter {
    name   = "subnet-id"
    values = coalescelist(data.aws_subnets.candidates[0].ids, ["none"])
  }
  filter {
    name   = "map-public-ip-on-launch"
    values = ["true"]
  }
}

locals {
  zones          = sort(data.aws_ec2_instance_type_offerings.zones.locations)
  default_vpc_id = try(data.aws_vpcs.default[0].ids[0], null)
  own_vpc_id     = var.subnet_id != null ? data.aws_subnet.given[0].vpc_id : var.vpc_id
  vpc_id         = local.own_vpc_id != null ? local.own_vpc_id : local.default_vpc_id
  # A VPC of the user's choice that is not the head's has no place for it.
  held_subnet_id = var.subnet_id == null && try(local.held.vpc_id == local.vpc_id, false) ? local.held.subnet_id : null

  # A VPC may have private subnets beside public ones, and a head in a private one could not be reached.
  found_subnet_ids = var.subnet_id == null ? concat(sort(data.aws_subnets.public[0].ids), sort(data.aws_subnets.candidates[0].ids)) : [var.subnet_id]
}

resource "terraform_data" "region" {
  input = var.region

  lifecycle {
    ignore_changes = [input]

    postcondition {
      # Terraform would look for the cluster in the new region, find nothing and forget the one that still runs.
      condition     = self.input == var.region
      error_message = "This cluster is in ${self.input} and cannot move to ${var.region}: take it down first."
    }
  }
}

# What was found is held here, because a subnet or an offer that appears later must not move a living cluster. Only
# another choice of the user's replaces it. `input`, unlike `output`, is known while planning.
resource "terraform_data" "placement" {
  input = {
    vpc_id    = local.vpc_id
    subnet_id = local.held_subnet_id != null ? local.held_subnet_id : try(local.found_subnet_ids[0], null)
  }
  triggers_replace = [var.vpc_id, var.subnet_id, var.instance_type]

  lifecycle {
    ignore_changes = [input]

    precondition {
      condition     = length(local.zones) > 0
      error_message = "No Availability Zone of ${var.region} offers ${var.instance_type}: choose another instance_type or another region."
    }
    precondition {
      condition     = local.vpc_id != null
      error_message = "${var.region} has no default VPC: set vpc_id or subnet_id, or make one with `aws ec2 create-default-vpc --region ${var.region}`."
    }
    precondition {
      condition     = local.vpc_id == null || length(local.found_subnet_ids) > 0 || length(local.zones) == 0
      error_message = "${coalesce(local.vpc_id, "The VPC")} has no subnet in a zone that offers ${var.instance_type} (${join(", ", local.zones)}): choose another vpc_id, or another instance_type."
    }
    precondition {
      condition     = var.subnet_id == null || contains(local.zones, try(data.aws_subnet.given[0].availability_zone, ""))
      error_message = "${try(data.aws_subnet.given[0].availability_zone, "The zone")} does not offer ${var.instance_type}, and ${coalesce(var.subnet_id, "the subnet")} is there: choose a subnet_id in ${join(", ", local.zones)}, or another instance_type."
    }
    precondition {
      condition     = var.subnet_id == null || var.vpc_id == null || try(data.aws_subnet.given[0].vpc_id, null) == var.vpc_id
      error_message = "${coalesce(var.subnet_id, "The subnet")} is in ${try(data.aws_subnet.given[0].vpc_id, "another VPC")}, not in ${coalesce(var.vpc_id, "the VPC")}: leave vpc_id out, or name a subnet of it."
    }
  }
}
