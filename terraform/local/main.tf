# Everything of the cluster lives in <root>/run: the virtual environment, the token, a folder for each node. node.py does
# the work; what it has to know reaches it as JSON in its environment, so that no value is ever quoted into a shell.
locals {
  requirements = concat(
    [var.ray_version == null ? "ray[default]>=2.54" : "ray[default]==${var.ray_version}"],
    [var.daft_version == null ? "daft[ray]>=0.7" : "daft[ray]==${var.daft_version}"],
    var.dependencies,
  )

  # A folder of wheels alone means no index at all; to have both, name both. For uv and for pip.
  sources = { for name, value in {
    UV_DEFAULT_INDEX = var.package_index
    PIP_INDEX_URL    = var.package_index
    UV_FIND_LINKS    = var.find_links
    PIP_FIND_LINKS   = var.find_links
    UV_NO_INDEX      = var.find_links != null && var.package_index == null ? "1" : null
    PIP_NO_INDEX     = var.find_links != null && var.package_index == null ? "1" : null
    HTTP_PROXY       = var.proxy
    HTTPS_PROXY      = var.proxy
  } : name => value if value != null }
}

# A resource whose creation failed or was cut short is tainted, and Terraform runs no destroy-time provisioner for it.
# This one cannot fail, is destroyed last, and removes whatever the others left.
resource "terraform_data" "run" {
  input = { python = var.python }

  # Only needed on the way down, where another interpreter does as well: no reason for a diff.
  lifecycle {
    ignore_changes = [input]
  }

  provisioner "local-exec" {
    when        = destroy
    interpreter = ["/bin/sh", "-c"]
    command     = "exec \"$(command -v \"$DAFT_LOCAL_PYTHON\" || command -v python3)\" -EB \"$DAFT_LOCAL_PROGRAM\" remove"
    quiet       = true
    environment = {
      DAFT_LOCAL_PROGRAM = "${path.module}/node.py"
      DAFT_LOCAL_PYTHON  = self.input.python
      DAFT_LOCAL_RUN     = "${path.root}/run"
    }
  }
}

resource "terraform_data" "environment" {
  triggers_replace = {
    requirements   = local.requirements
    python_version = var.python_version
    setup_commands = var.setup_commands
    sources        = local.sources
  }

  depends_on = [terraform_data.run]

  provisioner "local-exec" {
    interpreter = [var.python, "-EB", "${path.module}/node.py"]
    command     = "environment"
    quiet       = true
    environment = {
      DAFT_LOCAL_RUN  = "${path.root}/run"
      DAFT_LOCAL_SPEC = jsonencode(self.triggers_replace)
    }
  }
}

resource "terraform_data" "head" {
  input            = { python = var.python }
  triggers_replace = [terraform_data.environment.id]

  lifecycle {
    ignore_changes = [input]
  }

  provisioner "local-exec" {
    interpreter = [var.python, "-EB", "${path.module}/node.py"]
    command     = "start"
    quiet       = true
    environment = {
      DAFT_LOCAL_RUN  = "${path.root}/run"
      DAFT_LOCAL_SPEC = jsonencode({ cluster = var.name, node = "head", number_of_nodes = var.number_of_workers + 1 })
    }
  }

  provisioner "local-exec" {
    when        = destroy
    interpreter = ["/bin/sh", "-c"]
    command     = "exec \"$(command -v \"$DAFT_LOCAL_PYTHON\" || command -v python3)\" -EB \"$DAFT_LOCAL_PROGRAM\" stop"
    quiet       = true
    environment = {
      DAFT_LOCAL_PROGRAM = "${path.module}/node.py"
      DAFT_LOCAL_PYTHON  = self.input.python
      DAFT_LOCAL_RUN     = "${path.root}/run"
      DAFT_LOCAL_SPEC    = jsonencode({ node = "head" })
    }
  }
}

resource "terraform_data" "worker" {
  count = var.number_of_workers

  input            = { python = var.python }
  triggers_replace = [terraform_data.head.id]

  lifecycle {
    ignore_changes = [input]
  }

  provisioner "local-exec" {
    interpreter = [var.python, "-EB", "${path.module}/node.py"]
    command     = "start"
    quiet       = true
    environment = {
      DAFT_LOCAL_RUN = "${path.root}/run"
      DAFT_LOCAL_SPEC = jsonencode({
        cluster         = var.name
        node            = "worker-${count.index}"
        number_of_nodes = var.number_of_workers + 1
      })
    }
  }

  provisioner "local-exec" {
    when        = destroy
    interpreter = ["/bin/sh", "-c"]
    command     = "exec \"$(command -v \"$DAFT_LOCAL_PYTHON\" || command -v python3)\" -EB \"$DAFT_LOCAL_PROGRAM\" stop"
    quiet       = true
    environment = {
      DAFT_LOCAL_PROGRAM = "${path.module}/node.py"
      DAFT_LOCAL_PYTHON  = self.input.python
      DAFT_LOCAL_RUN     = "${path.root}/run"
      DAFT_LOCAL_SPEC    = jsonencode({ node = "worker-${count.index}" })
    }
  }
}
