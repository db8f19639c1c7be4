"""Suites, scorers and gates: what a release must show before it gets any traffic."""
