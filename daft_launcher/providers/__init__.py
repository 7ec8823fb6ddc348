"""What differs from cloud to cloud: one module a provider."""
