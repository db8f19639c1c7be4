"""What several tests use: a running installation, and load on it."""
