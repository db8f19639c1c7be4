"""Pairs of requests that champions are asked to see bias."""
