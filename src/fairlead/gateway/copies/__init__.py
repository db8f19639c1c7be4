"""Copies of requests whose answers no client gets: shadows, and the sample that is kept."""
