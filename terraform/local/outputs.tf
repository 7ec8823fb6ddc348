output "name" {
  description = "Name of the cluster."
  value       = var.name
}

output "provider" {
  description = "Where the cluster runs."
  value       = "local"
}

output "region" {
  description = "Stands where a cloud has its region."
  value       = "local"
}

output "head_id" {
  description = "Name of the head node, as `daft list` shows it."
  value       = "${var.name}-head"
}

output "head_address" {
  description = "Address at which this machine reaches the head node."
  value       = "127.0.0.1"
}

output "head_private_address" {
  description = "The same address: nothing of a local cluster is meant for another machine."
  value       = "127.0.0.1"
}

output "number_of_workers" {
  description = "How many worker nodes were asked for."
  value       = var.number_of_workers
}

output "worker_group" {
  description = "What the names of the worker nodes begin with."
  value       = "${var.name}-worker"
}

output "ssh_user" {
  description = "Null: no SSH leads to the nodes of a local cluster."
  value       = null
}

output "ssh_key_name" {
  description = "Null: no SSH leads to the nodes of a local cluster."
  value       = null
}

output "image_id" {
  description = "Null: the nodes are processes of this machine."
  value       = null
}

output "instance_type" {
  description = "Null: the nodes are processes of this machine."
  value       = null
}

output "zone" {
  description = "Null: the nodes are processes of this machine."
  value       = null
}

output "secret_name" {
  description = "Null: the cluster's token lies in its run folder, for its owner alone."
  value       = null
}
