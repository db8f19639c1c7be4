"""What is known of embedders without loading numpy."""

from __future__ import annotations

WORDS, HASHED, MODEL, STATIC = "words", "hashed", "model", "static"
"""What the names of four kinds begin with."""
ASKED = 12_004
"""Of so many words a model is asked: with the marks before them, BERT's first 14,000 tokens."""


def asks_model(name: str) -> bool:
    """Whether an embedder of this name asks a model for each text."""
    return name.startswith(f"{MODEL}-")


def is_fitted(name: str) -> bool:
    """Whether an embedder of this name was fitted to what one service is asked."""
    return name.startswith(f"{STATIC}-")


def knows_meanings(name: str) -> bool:
    """Whether an embedder of this name knows what words mean, and not only how they are spelt."""
    return not name.startswith(f"{HASHED}-")
