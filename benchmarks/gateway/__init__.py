"""The gateway beside its peers: what a request, a stream and a worker cost. See `__main__`."""
