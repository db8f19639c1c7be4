"""Hashed n-grams: vectors without a model and without a download.

A word's vector is the sum over its letters' n-grams (3 to 5, with the word's ends marked) and over
itself of a sign at a place, both taken from a hash (Weinberger et al. 2009, *Feature hashing*;
Bojanowski et al. 2017, subword vectors). A text's vector is the sum over its words, each weighted
by how rare it is among the prompts that the embedder was fitted to (Arora, Liang, Ma 2017: weight
a / (a + share)); unfitted, all weigh the same. It knows words and spelling, and no meanings.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fairlead.embedding.interface import LETTERS_MAX, Matrix, scaled

_WORDS = re.compile(r"\w+|[^\w\s]")
_LETTERS_PER_WORD_MAX = 64
_CACHE_MAX = 20_000
_TEXTS = 64
_COMMON = 1e-3
_SHARES_MAX = 5_000


class HashedNgrams:
    """Hashed n-grams; `shares` is how common words are, as `fitted` learns it."""

    def __init__(self, dimension: int = 384, shares: Mapping[str, float] | None = None) -> None:
        if not 16 <= dimension <= 4096:
            raise ValueError(f"dimension {dimension}: must be between 16 and 4096")
        given = dict(sorted((shares or {}).items()))
        bad = next((word for word, share in given.items() if not 0.0 <= share <= 1.0), None)
        if bad is not None:
            raise ValueError(f"share {given[bad]} of the word {bad!r}: must be between 0 and 1")
        self._dimension = dimension
        self.shares: Mapping[str, float] = given
        self._places: dict[str, int] = {}
        self._table = np.zeros((256, dimension), np.float32)
        told = hashlib.sha256(repr(list(given.items())).encode()).hexdigest()[:12]
        self._name = f"hashed-{dimension}-{told}"

    @classmethod
    def fitted(cls, texts: Iterable[str], dimension: int = 384) -> HashedNgrams:
        """Weighs words by how rare they are in these prompts.

        Not in those that calibrate a reference (`fairlead.stats.drift.reference.halves`).
        """
        counts = Counter(word for text in texts for word in words(text))
        total = max(counts.total(), 1)
        return cls(dimension, {w: count / total for w, count in counts.most_common(_SHARES_MAX)})

    @property
    def name(self) -> str:
        """Which embedder with which settings."""
        return self._name

    @property
    def dimension(self) -> int:
        """Numbers per vector."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Matrix:
        """A row of length 1 per text."""
        rows = np.zeros((len(texts), self._dimension), np.float32)
        for start in range(0, len(texts), _TEXTS):
            part = [words(text) for text in texts[start : start + _TEXTS]]
            filled = [row for row, found in enumerate(part, start) if found]
            if not filled:
                continue
            if len(self._places) >= _CACHE_MAX:
                self._places.clear()
            places = [self._place(word) for found in part for word in found]
            sizes = [len(found) for found in part if found]
            begins = np.cumsum([0, *sizes[:-1]])
            rows[filled] = np.add.reduceat(self._table[places], begins, axis=0)
        return scaled(rows)

    def _place(self, word: str) -> int:
        """The row of the table with this word's vector."""
        place = self._places.get(word)
        if place is None:
            place = self._places[word] = len(self._places)
            if place >= len(self._table):
                self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._table[place] = self._made(word)
        return place

    def _made(self, word: str) -> NDArray[np.float32]:
        vector = np.zeros(self._dimension, np.float32)
        marked = f"<{word}>"
        grams = [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
        for gram in grams:
            self._add(vector, gram, 1.0)
        # the word itself weighs as much as all of its n-grams together
        self._add(vector, f" {word}", max(1.0, len(grams) ** 0.5))
        weight = _COMMON / (_COMMON + self.shares.get(word, 0.0))
        return vector * np.float32(weight / float(np.linalg.norm(vector) or 1.0))

    def _add(self, vector: NDArray[np.float32], gram: str, weight: float) -> None:
        value = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
        place = (value >> 1) % self._dimension
        vector[place] += weight if value & 1 else -weight


def words(text: str) -> list[str]:
    """Lower-case words and marks of a text; words longer than 64 letters are cut."""
    return [word[:_LETTERS_PER_WORD_MAX] for word in _WORDS.findall(text[:LETTERS_MAX].lower())]
