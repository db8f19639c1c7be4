"""Guardrails of releases: what is looked at in prompts and answers, and what becomes of a hit."""
