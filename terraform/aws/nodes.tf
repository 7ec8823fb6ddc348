# What head and workers have in common: tags, key pair, user data and the secret they find each other by.

locals {
  tags        = merge(var.tags, { "daft:cluster" = var.name, "daft:managed-by" = "daft-launcher" })
  head_tags   = merge(local.tags, { "Name" = "${var.name}-head", "daft:role" = "head" })
  worker_tags = merge(local.tags, { "Name" = "${var.name}-worker", "daft:role" = "worker" })

  secret_name = "/daft/${var.name}/ray"

  # The head knows these two by the cluster's name: as settings they would be another head.
  limits_name  = "/daft/${var.name}/limits"
  worker_group = "daft-${var.name}-workers"

  seconds = { d = 86400, h = 3600, m = 60 }
  limits = {
    for name, span in { idle_timeout = var.idle_timeout, max_lifetime = var.max_lifetime } :
    name => sum([for part in regexall("([0-9]+)([dhm])", span) : tonumber(part[0]) * local.seconds[part[1]]])
    if span != null
  }

  # number_of_workers must never be in here: settings that change replace the node. One that is added has to be null
  # where it is not used, or it replaces the head of every cluster that there is.
  settings = {
    cluster        = var.name
    region         = var.region
    secret_name    = local.secret_name
    python_version = var.python_version
    ray_version    = var.ray_version
    daft_version   = var.daft_version
    dependencies   = var.dependencies
    ssh_user       = var.ssh_user
    package_index  = var.package_index
    find_links     = var.find_links
    proxy          = var.proxy
  }
  settings_of = {
    head   = merge(local.settings, { role = "head", setup_commands = var.setup_commands })
    worker = merge(local.settings, { role = "worker", setup_commands = [] })
  }
  # Without its comments, which take an eighth of it: that room is the settings'.
  script = replace(file("${path.module}/bootstrap.sh"), "/(?m)^ *# .*\n/", "")
  # base64, so that no string of the user's is ever quoted into shell. gzip, because EC2 takes 16 KiB; inside as well,
  # because what is base64 already hardly shrinks.
  user_data = {
    for role, settings in local.settings_of :
    role => base64gzip(replace(local.script, "@DAFT_SETTINGS@", base64gzip(jsonencode(settings))))
  }
  # The limit holds for the raw bytes, before base64
  # (docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html).
  user_data_limit = 16384
  user_data_size  = { for role, encoded in local.user_data : role => floor(length(trim(encoded, "=")) * 3 / 4) }

  # Without the comment, which says nothing: `daft up -i KEY` gives none, and another text would be another head.
  ssh_public_key = var.ssh_public_key == null ? null : join(" ", slice(split(" ", var.ssh_public_key), 0, 2))

  key_name = var.ssh_key_name != null ? var.ssh_key_name : one(aws_key_pair.cluster[*].key_name)
}

resource "aws_key_pair" "cluster" {
  count      = var.ssh_key_name == null && var.ssh_public_key != null ? 1 : 0
  key_name   = "daft-${var.name}"
  public_key = local.ssh_public_key
  tags       = merge(local.tags, { "Name" = var.name })
}

# The head writes its address and Ray's token into this one; the workers wait for them. Terraform only makes the place,
# with a write-only value, so that the secret is in no plan and no state.
resource "aws_ssm_parameter" "ray" {
  name        = local.secret_name
  description = "Address and token of the Ray cluster ${var.name}, written by its head node"
  type        = "SecureString"
  value_wo    = "pending"
  # A new version, and so "pending" again before a new head boots: its workers cannot be sent to the old one.
  value_wo_version = parseint(substr(local.head_generation, 0, 7), 16)
  tags             = merge(local.tags, { "Name" = var.name })
}

# How long the cluster may live, in seconds. The head looks here each minute, so that a change reaches it where it is.
resource "aws_ssm_parameter" "limits" {
  count          = length(local.limits) > 0 ? 1 : 0
  name           = local.limits_name
  description    = "When the head node of the Ray cluster ${var.name} ends the cluster"
  type           = "String"
  insecure_value = jsonencode(local.limits)
  tags           = merge(local.tags, { "Name" = var.name })
}
