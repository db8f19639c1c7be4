"""API keys, and who holds which part of a limit."""
