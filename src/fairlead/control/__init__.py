"""The control plane: the loops that run the deciders, and the REST API."""
