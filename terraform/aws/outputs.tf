output "name" {
  description = "Name of the cluster."
  value       = var.name
}

output "provider" {
  description = "Where the cluster runs."
  value       = "aws"
}

output "region" {
  description = "AWS region of the cluster."
  value       = var.region
}

output "head_id" {
  description = "Instance id of the head node."
  value       = aws_instance.head.id
}

output "head_address" {
  description = "Address of the head node for SSH: the public one, or the private one where there is no other."
  value       = try(coalesce(aws_instance.head.public_ip, aws_instance.head.private_ip), null)
}

output "head_private_address" {
  description = "Address of the head node inside the VPC."
  value       = aws_instance.head.private_ip
}

output "number_of_workers" {
  description = "How many worker nodes were asked for."
  value       = var.number_of_workers
}

output "worker_group" {
  description = "Name of the workers' Auto Scaling group."
  value       = aws_autoscaling_group.workers.name
}

output "ssh_user" {
  description = "User of the nodes that SSH logs in as."
  value       = var.ssh_user
}

output "ssh_key_name" {
  description = "EC2 key pair of the nodes; null when they have none."
  value       = local.key_name
}

output "image_id" {
  description = "Image of the nodes."
  value       = terraform_data.image.input.id
}

output "instance_type" {
  description = "Instance type of the nodes."
  value       = var.instance_type
}

output "zone" {
  description = "Availability Zone of the nodes."
  value       = aws_instance.head.availability_zone
}

output "secret_name" {
  description = "Systems Manager parameter that holds the cluster's Ray address and token."
  value       = local.secret_name
}
