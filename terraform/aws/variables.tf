variable "name" {
  description = "Name of the cluster. It goes into the names and tags of everything the cluster is made of."
  type        = string
  nullable    = false

  validation {
    # 40 characters: "<name>-<region>-worker" has to fit into the 64 of an IAM role name.
    condition     = can(regex("^[a-z]([a-z0-9_-]{0,38}[a-z0-9])?$", var.name))
    error_message = "name must be 1 to 40 lower-case letters, digits, \"-\" or \"_\", start with a letter and end with a letter or digit."
  }
}

variable "region" {
  description = "AWS region of the cluster; the same as the provider's."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", var.region))
    error_message = "region must be an AWS region such as \"us-west-2\"."
  }
}

variable "ssh_user" {
  description = "User of the nodes that runs Ray and that SSH logs in as."
  type        = string
  default     = "ec2-user"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]{0,31}$", var.ssh_user))
    error_message = "ssh_user must be a Linux user name such as \"ec2-user\" or \"ubuntu\"."
  }
}

variable "number_of_workers" {
  description = "How many worker nodes there are beside the head node. Changing it never touches the head."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.number_of_workers >= 0 && floor(var.number_of_workers) == var.number_of_workers
    error_message = "number_of_workers must be a whole number, 0 or more."
  }
}

variable "instance_type" {
  description = "EC2 instance type of the head and of every worker. Changing it replaces them."
  type        = string
  default     = "m7g.medium"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type must be an EC2 instance type such as \"m7g.medium\"."
  }
}

variable "image_id" {
  description = "Image of all nodes. Without it, Amazon Linux 2023 for the architecture of the instance type."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null || can(regex("^ami-([0-9a-f]{8}|[0-9a-f]{17})$", var.image_id))
    error_message = "image_id must be the id of an image, such as \"ami-01c3c55948a949a52\"."
  }
}

variable "dependencies" {
  description = "Python packages to install on every node, as pip writes them."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for d in var.dependencies : trimspace(d) != "" && !can(regex("[[:cntrl:]]", d))])
    error_message = "dependencies must be package requirements such as \"pandas>=2\", each on one line and not empty."
  }
}

variable "python_version" {
  description = "Python of the nodes: \"3.12\", or with the patch release."
  type        = string
  default     = "3.12"
  nullable    = false

  validation {
    condition     = can(regex("^3\\.[0-9]{1,2}(\\.[0-9]{1,2})?$", var.python_version))
    error_message = "python_version must be such as \"3.12\" or \"3.12.4\"."
  }
}

variable "ray_version" {
  description = "Exact version of Ray on the nodes. Without it, the newest that Daft accepts."
  type        = string
  default     = null

  validation {
    condition     = var.ray_version == null || can(regex("^[0-9]+(\\.[0-9]+)*[0-9a-z.+]*$", var.ray_version))
    error_message = "ray_version must be a version such as \"2.54.0\"."
  }
}

variable "daft_version" {
  description = "Exact version of Daft on the nodes. Without it, the newest."
  type        = string
  default     = null

  validation {
    condition     = var.daft_version == null || can(regex("^[0-9]+(\\.[0-9]+)*[0-9a-z.+]*$", var.daft_version))
    error_message = "daft_version must be a version such as \"0.7.26\"."
  }
}

variable "disk_size_gb" {
  description = "Size of each node's root volume in GiB. Changing it replaces the nodes."
  type        = number
  default     = 50
  nullable    = false

  validation {
    # 16384: the most a gp3 volume can have (docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html).
    condition     = var.disk_size_gb >= 8 && var.disk_size_gb <= 16384 && floor(var.disk_size_gb) == var.disk_size_gb
    error_message = "disk_size_gb must be a whole number from 8 to 16384."
  }
}

variable "tags" {
  description = "Tags of your own for everything the cluster is made of."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for key in keys(var.tags) : key != "Name" && !startswith(key, "daft:") && !startswith(lower(key), "aws:")
    ])
    error_message = "tags must not set \"Name\" nor a key that starts with \"daft:\" (the cluster is found by these) or \"aws:\" (reserved by AWS)."
  }

  validation {
    # What IAM and Systems Manager allow; EC2 alone would take more.
    condition = alltrue([
      for key, value in var.tags :
      can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{1,128}$", key)) && can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{0,256}$", value))
    ])
    error_message = "tags must have keys of 1 to 128 and values of up to 256 characters: letters, digits, spaces and _ . : / = + - @."
  }

  validation {
    # AWS takes 50 on a resource; up to 7 are the cluster's own.
    condition     = length(var.tags) <= 40
    error_message = "tags must not be more than 40."
  }
}

variable "setup_commands" {
  description = "Shell commands that the head runs once everything is installed, in order."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for command in var.setup_commands : trimspace(command) != ""])
    error_message = "setup_commands must not have an empty command."
  }
}

variable "vpc_id" {
  description = "VPC of the cluster. Without it, the subnet's, and without that the region's default VPC."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null || can(regex("^vpc-[0-9a-f]{8,17}$", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC, such as \"vpc-0a1b2c3d4e5f67890\"."
  }
}

variable "subnet_id" {
  description = "Subnet of all nodes, whose own setting then decides whether they get public addresses. Without it, one of the VPC in a zone that offers the instance type, with public addresses."
  type        = string
  default     = null

  validation {
    condition     = var.subnet_id == null || can(regex("^subnet-[0-9a-f]{8,17}$", var.subnet_id))
    error_message = "subnet_id must be the id of a subnet, such as \"subnet-0a1b2c3d4e5f67890\"."
  }
}

variable "ssh_allowed_cidrs" {
  description = "Networks that may reach the nodes' SSH port."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.ssh_allowed_cidrs : can(cidrhost(cidr, 0))])
    error_message = "ssh_allowed_cidrs must be networks such as \"203.0.113.7/32\" or \"2001:db8::/64\"."
  }
}

variable "operator_cidrs" {
  description = "Addresses of the machine that runs `daft up`, let in like ssh_allowed_cidrs, but kept out of the committed HCL."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.operator_cidrs : can(cidrhost(cidr, 0))])
    error_message = "operator_cidrs must be networks such as \"203.0.113.7/32\" or \"2001:db8::/64\"."
  }
}

variable "ssh_key_name" {
  description = "EC2 key pair that exists already and opens the nodes. It goes before ssh_public_key."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_key_name == null || can(regex("^[ -~]{1,255}$", var.ssh_key_name))
    error_message = "ssh_key_name must be the name of an EC2 key pair: 1 to 255 ASCII characters."
  }
}

variable "ssh_public_key" {
  description = "Public key to register as the cluster's key pair when ssh_key_name is not given, in OpenSSH form."
  type        = string
  default     = null

  validation {
    # The two kinds that EC2 imports (docs.aws.amazon.com/AWSEC2/latest/UserGuide/create-key-pairs.html).
    condition     = var.ssh_public_key == null || can(regex("^(ssh-ed25519|ssh-rsa) AAAA[0-9A-Za-z+/]+={0,2}( |$)", var.ssh_public_key))
    error_message = "ssh_public_key must be an ed25519 or RSA key in OpenSSH form: \"ssh-ed25519 AAAA...\"."
  }
}

variable "iam_instance_profile" {
  description = "Name of an instance profile that exists already, for all nodes. It has to allow what iam.tf allows; then no role is made."
  type        = string
  default     = null

  validation {
    condition     = var.iam_instance_profile == null || can(regex("^[0-9A-Za-z_+=,.@-]{1,128}$", var.iam_instance_profile))
    error_message = "iam_instance_profile must be the name of an instance profile, not its ARN."
  }
}

variable "iam_policy_arns" {
  description = "IAM policies to attach to the nodes' roles, so that jobs may read your data."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.iam_policy_arns : can(regex("^arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/.+$", arn))])
    error_message = "iam_policy_arns must be ARNs such as \"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess\"."
  }

  validation {
    condition     = length(var.iam_policy_arns) == 0 || var.iam_instance_profile == null
    error_message = "iam_policy_arns cannot be added to an iam_instance_profile of yours: attach them to its role, or leave one of the two out."
  }
}

variable "spot" {
  description = "Run the workers as Spot Instances. The head is always on demand."
  type        = bool
  default     = false
  nullable    = false
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
  description = "Folder of the nodes, or address of a page, with wheels. Without a package_index it is the only source."
  type        = string
  default     = null

  validation {
    condition     = var.find_links == null || can(regex("^(/|https?://[^/@[:space:]]+(/|$))[^[:cntrl:]]*$", var.find_links))
    error_message = "find_links must be an absolute path, or an http or https address without a user name or a password."
  }
}

variable "proxy" {
  description = "HTTP proxy through which the nodes reach packages and AWS, such as \"http://proxy.example.com:3128\"."
  type        = string
  default     = null

  validation {
    condition     = var.proxy == null || can(regex("^https?://[^/@[:space:]]+/?$", var.proxy))
    error_message = "proxy must be an http or https address without a user name or a password."
  }
}

variable "held" {
  description = "What the head of a cluster was made from whose state was lost, so that it stays; `daft up` gives it once."
  type = object({
    image_id         = string
    instance_type    = string
    root_device_name = string
    subnet_id        = string
    vpc_id           = string
  })
  default = null
}

variable "max_lifetime" {
  description = "How long the cluster lives at the most, such as \"8h\". The head then ends the workers and itself."
  type        = string
  default     = null

  validation {
    condition     = var.max_lifetime == null || can(regex("^([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?$", var.max_lifetime)) && can(regex("[1-9]", var.max_lifetime))
    error_message = "max_lifetime must be a time of at least a minute, such as \"90m\", \"8h\", \"2d\" or \"1h30m\"."
  }
}

variable "idle_timeout" {
  description = "How long no job may run and nobody be logged in, such as \"30m\". The head then ends the workers and itself."
  type        = string
  default     = null

  validation {
    condition     = var.idle_timeout == null || can(regex("^([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?$", var.idle_timeout)) && can(regex("[1-9]", var.idle_timeout))
    error_message = "idle_timeout must be a time of at least a minute, such as \"90m\", \"8h\", \"2d\" or \"1h30m\"."
  }
}
