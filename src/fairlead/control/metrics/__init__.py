"""What control says of the installation to other tools: metrics of itself, and of replicas."""
