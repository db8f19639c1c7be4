"""What is known of embedders without loading numpy."""

from __future__ import annotations

WORDS, HASHED = "words", "hashed"
"""What the names of two kinds begin with."""
ASKED = 12_004
"""Of so many words a model is asked: with the marks before them, BERT's first 14,000 tokens."""


def knows_meanings(name: str) -> bool:
    """Whether an embedder of this name knows what words mean, and not only how they are spelt."""
    return not name.startswith(f"{HASHED}-")
