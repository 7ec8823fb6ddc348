variable "name" {
  description = "Name of the cluster; its nodes are called <name>-head, <name>-worker-0 and so on."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9_-]{0,28}[a-z0-9])?$", var.name))
    error_message = "name must be 1 to 30 lower-case letters, digits, - or _, start with a letter and end with a letter or a digit."
  }
}

variable "number_of_workers" {
  description = "How many worker nodes stand beside the head node."
  type        = number
  default     = 2

  validation {
    condition     = var.number_of_workers >= 0 && var.number_of_workers <= 64 && floor(var.number_of_workers) == var.number_of_workers
    error_message = "number_of_workers must be a whole number from 0 to 64: the nodes are processes of one machine."
  }
}

variable "dependencies" {
  description = "Requirements to install beside Ray and Daft, as pip writes them."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for requirement in var.dependencies : trimspace(requirement) != ""])
    error_message = "dependencies must not hold an empty string."
  }
}

variable "python_version" {
  description = "Python of the cluster, such as 3.12; null takes that of the interpreter that runs node.py. Another one needs uv."
  type        = string
  default     = null

  validation {
    condition     = var.python_version == null || can(regex("^3\\.[0-9]{1,2}(\\.[0-9]{1,2})?$", var.python_version))
    error_message = "python_version must be a version such as 3.12 or 3.12.4."
  }
}

variable "ray_version" {
  description = "Exact version of Ray; null takes the newest that Daft allows, 2.54 at least."
  type        = string
  default     = null

  validation {
    condition = var.ray_version == null || try(
      tonumber(split(".", var.ray_version)[0]) * 1000 + tonumber(split(".", var.ray_version)[1]) >= 2054
      && can(regex("^[0-9]+(\\.[0-9]+)+([a-z.]+[0-9]+)?$", var.ray_version)), false
    )
    error_message = "ray_version must be a version such as 2.60.0, and 2.54 at least: older ones know no token authentication."
  }
}

variable "daft_version" {
  description = "Exact version of Daft; null takes the newest."
  type        = string
  default     = null

  validation {
    condition     = var.daft_version == null || can(regex("^[0-9]+(\\.[0-9]+)+([a-z.]+[0-9]+)?$", var.daft_version))
    error_message = "daft_version must be a version such as 0.7.26."
  }
}

variable "setup_commands" {
  description = "Shell commands to run in the cluster's virtual environment once everything is installed."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for command in var.setup_commands : trimspace(command) != ""])
    error_message = "setup_commands must not hold an empty string."
  }
}

variable "python" {
  description = "Python interpreter, 3.10 or newer, that runs node.py on this machine."
  type        = string
  default     = "python3"

  validation {
    condition     = trimspace(var.python) != ""
    error_message = "python must name a Python interpreter."
  }
}

variable "package_index" {
  description = "Package index to install from, such as \"https://pypi.example.com/simple\". Without it, PyPI."
  type        = string
  default     = null

  validation {
    condition     = var.package_index == null || can(regex("^https?://[^/@[:space:]]+(/[^[:space:]]*)?$", var.package_index))
    error_message = "package_index must be an http or https address without a user name or a password."
  }
}

variable "find_links" {
  description = "Folder of the machine, or address of a page, with wheels. Without a package_index it is the only source."
  type        = string
  default     = null

  validation {
    condition     = var.find_links == null || can(regex("^(/|https?://[^/@[:space:]]+(/|$))[^[:cntrl:]]*$", var.find_links))
    error_message = "find_links must be an absolute path, or an http or https address without a user name or a password."
  }
}

variable "proxy" {
  description = "HTTP proxy to install through, such as \"http://proxy.example.com:3128\"."
  type        = string
  default     = null

  validation {
    condition     = var.proxy == null || can(regex("^https?://[^/@[:space:]]+/?$", var.proxy))
    error_message = "proxy must be an http or https address without a user name or a password."
  }
}
