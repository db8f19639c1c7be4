"""What is known of embedders without loading numpy."""

from __future__ import annotations

WORDS, HASHED, MODEL = "words", "hashed", "model"
"""What the names of three kinds begin with."""
ASKED = 12_004
"""Of so many words a model is asked: with the marks before them, BERT's first 14,000 tokens."""


def asks_model(name: str) -> bool:
    """Whether an embedder of this name asks a model for each text."""
    return name.startswith(f"{MODEL}-")


def knows_meanings(name: str) -> bool:
    """Whether an embedder of this name knows what words mean, and not only how they are spelt."""
    return not name.startswith(f"{HASHED}-")
