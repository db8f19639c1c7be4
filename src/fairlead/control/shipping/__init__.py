"""Rollouts and what decides them: from a request to ship to the end of it."""
