"""Requests that wait: for a replica, in fair order, for as long as makes sense."""
