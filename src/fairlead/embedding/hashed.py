"""Hashed n-grams: vectors without a model and without a download.

A word's vector is the sum over its letters' n-grams (3 to 5, with the word's ends marked) and over
itself of a sign at a place, both taken from a hash (Weinberger et al. 2009, *Feature hashing*;
Bojanowski et al. 2017, subword vectors). A text's vector is the sum over its words, each weighted
by how rare it is among the prompts that the embedder was fitted to (Arora, Liang, Ma 2017: weight
a / (a + share)); unfitted, all weigh the same. It knows words and spelling, and no meanings.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fairlead.embedding.interface import Matrix
from fairlead.embedding.kinds import HASHED
from fairlead.embedding.word_sums import WordSums, words

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
        self._sums = WordSums(dimension, self._made)
        told = hashlib.sha256(repr(list(given.items())).encode()).hexdigest()[:12]
        self._name = f"{HASHED}-{dimension}-{told}"

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
        return self._sums.embed(texts)

    def _made(self, word: str) -> NDArray[np.float32]:
        vector = np.zeros(self._dimension, np.float32)
        add_ngrams(vector, word)
        weight = _COMMON / (_COMMON + self.shares.get(word, 0.0))
        return vector * np.float32(weight / float(np.linalg.norm(vector) or 1.0))


def add_ngrams(vector: NDArray[np.float32], word: str) -> None:
    """Add a word's n-grams, and the word itself, which weighs as much as all of them together."""
    marked = f"<{word}>"
    grams = [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
    for gram in grams:
        _add(vector, gram, 1.0)
    _add(vector, f" {word}", max(1.0, len(grams) ** 0.5))


def _add(vector: NDArray[np.float32], gram: str, weight: float) -> None:
    value = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
    place = (value >> 1) % len(vector)
    vector[place] += weight if value & 1 else -weight
