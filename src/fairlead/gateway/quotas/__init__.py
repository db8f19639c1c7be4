"""Limits: what this worker holds of them, and what clients are told."""
