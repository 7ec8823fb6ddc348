"""Put Ray + Daft clusters on AWS with Terraform, and try them on your own machine first."""
