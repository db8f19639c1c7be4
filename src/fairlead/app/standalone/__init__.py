"""A gateway that runs alone: workers on a file, without control, observer or registry."""
