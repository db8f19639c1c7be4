"""The world as it should be: replicas, routes, and what the gateway is told."""
