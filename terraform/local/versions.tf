# Terraform's built-in provider alone: `init` downloads nothing.
terraform {
  required_version = ">= 1.11.0"
}
