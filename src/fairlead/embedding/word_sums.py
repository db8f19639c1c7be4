"""Texts as sums of their words' vectors, which are made once and remembered for a while."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fairlead.embedding.interface import LETTERS_MAX, Matrix, scaled

WORD_LETTERS_MAX = 64
_WORDS = re.compile(r"\w+|[^\w\s]")
_CACHE_MAX = 20_000
_TEXTS = 64


def words(text: str) -> list[str]:
    """Lower-case words and marks of a text; words longer than 64 letters are cut."""
    return [word[:WORD_LETTERS_MAX] for word in _WORDS.findall(text[:LETTERS_MAX].lower())]


class WordSums:
    """Sums words' vectors; `vector_of` makes one."""

    def __init__(self, dimension: int, vector_of: Callable[[str], NDArray[np.float32]]) -> None:
        self.dimension = dimension
        self._vector_of = vector_of
        self._places: dict[str, int] = {}
        self._table = np.zeros((256, dimension), np.float32)

    def embed(self, texts: Sequence[str]) -> Matrix:
        """A row of length 1 per text."""
        rows = np.zeros((len(texts), self.dimension), np.float32)
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
            self._table[place] = self._vector_of(word)
        return place
