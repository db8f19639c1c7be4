"""The snapshot: where it comes from, and as the worker uses it."""
