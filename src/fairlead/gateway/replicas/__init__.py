"""The replicas: which there are, which is chosen, and the connections to them."""
