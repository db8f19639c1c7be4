"""Pairs and published benchmarks that releases are asked to see bias."""
