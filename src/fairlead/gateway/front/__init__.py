"""Clients' side: connections, what they ask, and who they are."""
