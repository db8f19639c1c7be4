"""A small table of words whose meanings a seed has drawn: words of one line are alike."""

from __future__ import annotations

import numpy as np

from fairlead.embedding.known_words import WordTable

ALIKE = (
    "doctor physician nurse",
    "banana apple fruit",
    "card cards wallet",
    "stolen robbed theft",
    "play music jazz song",
    "transfer payment exchange",
    "token ##iz ##able ##s",
)
COMMON = "the my was is where it a some ? , ."
DIMENSION = 32


def word_table(seed: int = 7) -> WordTable:
    """Words of `ALIKE` at length 1, those of `COMMON` at a twentieth of it."""
    draw = np.random.default_rng(seed)
    words: list[str] = []
    rows: list[np.ndarray] = []
    for line in ALIKE:
        meaning = draw.standard_normal(DIMENSION)
        for word in line.split():
            words.append(word)
            rows.append(meaning + 0.4 * draw.standard_normal(DIMENSION))
    for word in COMMON.split():
        words.append(word)
        rows.append(draw.standard_normal(DIMENSION))
    table = np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    largest = np.abs(table).max(1, keepdims=True)
    lengths = np.where([word in COMMON.split() for word in words], 0.05, 1.0)
    scales = (largest[:, 0] / 127 * lengths).astype(np.float32)
    return WordTable(words, np.rint(table / largest * 127).astype(np.int8), scales)
