"""What every embedder offers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairlead.domain.errors import Unavailable

Matrix = NDArray[np.float32]

LETTERS_MAX = 20_000
"""Of a longer text only the first so many characters count: what one text costs is bounded."""


class NotYet(Unavailable):
    """A part of the vectors is there; the rest takes another call, and nothing is wrong."""


class TextsRefused(Unavailable):
    """The model answers, but not about these texts: one is too long for it, for example.

    Attributes:
        texts: As they were given.
    """

    def __init__(self, message: str, texts: Collection[str]) -> None:
        """What it said of them."""
        super().__init__(message)
        self.texts = frozenset(texts)


class Embedder(Protocol):
    """Texts to vectors; the same text always has the same vector.

    One that asks a model raises Unavailable while that does not answer, and TextsRefused, once the
    others are known, where it does not take some.
    """

    @property
    def name(self) -> str:
        """Which embedder with which settings: vectors of different names are never compared."""

    @property
    def dimension(self) -> int:
        """Numbers per vector."""

    def embed(self, texts: Sequence[str]) -> Matrix:
        """A row of length 1 per text; a text without words has a vector as well."""


def scaled(rows: Matrix) -> Matrix:
    """The rows, in place, at length 1; what is zero becomes the vector of texts without words."""
    lengths = np.sqrt((rows * rows).sum(1))
    empty = lengths <= 1e-9
    rows[empty] = 0.0
    rows[empty, 0] = 1.0
    lengths[empty] = 1.0
    rows /= lengths[:, None]
    return rows
