"""Texts to vectors on the CPU, cheap enough to watch all traffic with.

Whoever watches takes any `Embedder`: hashed n-grams need nothing, a static table of token vectors
is fitted to a larger model's vectors of the service's own prompts. Texts stay in this process.
"""
