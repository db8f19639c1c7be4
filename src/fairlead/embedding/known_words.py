"""Word vectors: what words mean, without a model at hand.

A table has a vector for each common English word and part of a word. It is distilled from a
sentence transformer, once, on the machine that uses it (`distilling`). A word that it does not know
is the mean of the parts that it does, longest first (WordPiece, Wu et al. 2016), and beside that,
in places of their own, its hashed n-grams: so a text with words of another language, another script
or with typing errors is unlike one without, and texts of such words are told apart. A text is the
sum of its words, at length 1. Nothing is fitted to what a service is asked, so that calibration
prompts are as new to it as live ones.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairlead.embedding.hashed import add_ngrams
from fairlead.embedding.interface import Matrix
from fairlead.embedding.kinds import WORDS
from fairlead.embedding.word_sums import WordSums

BYTES_MAX = 64_000_000
"""A file that would become more than this in memory is none of ours."""
HASHED = 96
"""Numbers of a vector for the n-grams of words that are not known."""
UNKNOWN_WEIGHT = 0.5
"""Length of an unknown word's n-grams; a rare known word has length 1."""
PART = "##"
"""Begins a part of a word that is not its beginning."""
_PART_MAX = 20
_UNREADABLE = (
    OSError, ValueError, LookupError, EOFError, MemoryError, RuntimeError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


class WordTable:
    """Vectors by word, and by part of a word."""

    def __init__(
        self, words: Sequence[str], vectors: NDArray[np.int8], scales: NDArray[np.float32]
    ) -> None:
        """`vectors`: a row of -127 to 127 per word; `scales`: what each row is multiplied with.

        Raises ValueError where these do not go together.
        """
        if vectors.ndim != 2 or not vectors.size or vectors.dtype != np.int8:
            raise ValueError(f"table of words: has vectors of {vectors.dtype}, {vectors.shape}")
        self._rows = {word: row for row, word in enumerate(words)}
        if scales.shape != (len(vectors),) or len(self._rows) != len(vectors):
            raise ValueError(
                f"table of {len(self._rows)} words: has {len(vectors)} vectors and scales of shape "
                f"{scales.shape}"
            )
        if scales.dtype != np.float32 or not (np.abs(scales) <= 1.0).all():
            raise ValueError("table of words: has scales that are no 32-bit numbers from -1 to 1")
        self._vectors, self._scales = vectors, scales
        told = hashlib.sha256("\n".join(words).encode())
        told.update(vectors.tobytes() + scales.tobytes())
        self.digest = told.hexdigest()[:12]

    @classmethod
    def load(cls, path: Path) -> WordTable:
        """The table of a file. Raises ValueError where it is damaged, or cannot be read."""
        try:
            with zipfile.ZipFile(path) as packed:
                if sum(each.file_size for each in packed.infolist()) > BYTES_MAX:
                    raise ValueError(f"holds more than {BYTES_MAX:,} bytes")
                if (wrong := packed.testzip()) is not None:
                    raise ValueError(f"{wrong} does not match its checksum")
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                words = kept["words"].tobytes().decode().split("\n")
                return cls(words, kept["vectors"], kept["scales"])
        except _UNREADABLE as error:
            raise ValueError(f"table of words {path}: cannot be read: {error!r}") from error

    def as_bytes(self) -> bytes:
        """What `load` reads, as a file."""
        file = io.BytesIO()
        words = np.frombuffer("\n".join(self._rows).encode(), np.uint8)
        np.savez_compressed(file, words=words, vectors=self._vectors, scales=self._scales)
        return file.getvalue()

    def __len__(self) -> int:
        """How many words, parts of words and marks it knows."""
        return len(self._rows)

    @property
    def dimension(self) -> int:
        """Numbers per word."""
        return int(self._vectors.shape[1])

    def known(self, word: str) -> NDArray[np.float32] | None:
        """The vector of a word, if it is known as a whole."""
        row = self._rows.get(word)
        return None if row is None else (self._vectors[row] * self._scales[row]).astype(np.float32)

    def of_parts(self, word: str) -> NDArray[np.float32]:
        """The mean vector of the parts of a word that are known, longest first; zero without."""
        found, start = [], 0
        while start < len(word):
            lead = PART if start else ""
            ends = range(min(len(word), start + _PART_MAX), start, -1)
            end = next((end for end in ends if lead + word[start:end] in self._rows), 0)
            if end:
                found.append(self._rows[lead + word[start:end]])
            start = end or start + 1
        if not found:
            return np.zeros(self.dimension, np.float32)
        rows = self._vectors[found] * self._scales[found, None]
        mean: NDArray[np.float32] = rows.mean(0).astype(np.float32)
        return mean


class KnownWords:
    """An embedder that sums vectors of words, known ones and others."""

    def __init__(self, table: WordTable, hashed: int = HASHED) -> None:
        """`hashed`: numbers of a vector for unknown words."""
        self._table = table
        self._hashed = hashed
        self._sums = WordSums(self._table.dimension + hashed, self._vector_of)

    @property
    def name(self) -> str:
        """Which embedder with which table."""
        return f"{WORDS}-{self.dimension}-{self._table.digest}"

    @property
    def dimension(self) -> int:
        """Numbers per vector."""
        return self._sums.dimension

    def embed(self, texts: Sequence[str]) -> Matrix:
        """A row of length 1 per text."""
        return self._sums.embed(texts)

    def _vector_of(self, word: str) -> NDArray[np.float32]:
        vector = np.zeros(self.dimension, np.float32)
        meaning, spelling = vector[: self._table.dimension], vector[self._table.dimension :]
        known = self._table.known(word)
        if known is not None:
            meaning += known
            return vector
        meaning += self._table.of_parts(word)
        if self._hashed:
            add_ngrams(spelling, word)
            spelling *= UNKNOWN_WEIGHT / float(np.linalg.norm(spelling) or 1.0)
        return vector
