"""Makes a table of word vectors from a sentence transformer, as model2vec does.

(Tulkens, van Dongen 2024.) The model is asked for a vector of each common word by itself. Those of
rarer ones are told from the vectors that the model begins with, by the linear map that is nearest
to the common ones (ridge regression). All are taken in the main directions, which are made somewhat
more equal, at length 1, times how rare the word is (Arora, Liang, Ma 2017: a / (a + share)). BERT's
vocabulary is in the order of how common words are, so that Zipf's law gives their shares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fairlead.embedding.interface import Matrix
from fairlead.embedding.kinds import ASKED
from fairlead.embedding.known_words import WordTable
from fairlead.embedding.minilm import MiniLm

DIRECTIONS = 192
COMMON = 1e-4
"""A word of this share of all words weighs half."""
ZIPF = 0.1
"""The r-th most common word has about this share, over r."""
MARKS_FROM, WORDS_FROM = 999, 1996
"""Where the vocabulary's marks and letters begin, and its words."""
EQUAL = 0.25
"""Directions are divided by their variance to this power."""
RIDGE = 0.3
BATCH = 250
BEGIN, END = "[CLS]", "[SEP]"
_KEPT = re.compile(r"(##)?[a-z0-9]+|[!-~]")
Rows = NDArray[np.float64]


def distil(
    model: MiniLm,
    vocabulary: Mapping[str, int],
    asked: int = ASKED,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> WordTable:
    """The table of all words, parts of words, and marks of a vocabulary (the id of each token).

    `asked`: of so many of the most common words the model is asked. `told` is called again and
    again with how many it has been asked of, and of how many it will be.
    """
    names = {token: name for name, token in vocabulary.items()}
    kept = [
        token
        for token in range(MARKS_FROM, len(names))
        if _KEPT.fullmatch(names[token]) and (token >= WORDS_FROM or len(names[token]) == 1)
    ]
    upto = min(WORDS_FROM + asked, len(names))
    marks = [token for token in kept if token < WORDS_FROM]
    tokens = [*marks, *range(WORDS_FROM, upto)]
    ends = vocabulary[BEGIN], vocabulary[END]
    common = _of_single(model, tokens, ends, told)
    is_kept = np.isin(tokens, kept)
    rare = [token for token in kept if token >= upto]
    rows = np.concatenate(
        [common[is_kept].astype(np.float64), _rare(common[len(marks) :], model.token_vectors, rare)]
    )
    return _table([names[token] for token in kept], _in_main_directions(rows), np.array(kept))


def _of_single(
    model: MiniLm,
    tokens: Sequence[int],
    ends: tuple[int, int],
    told: Callable[[int, int], None],
) -> Matrix:
    """The model's vectors of these tokens, each by itself between the marks of a text's ends."""
    made = []
    for start in range(0, len(tokens), BATCH):
        part = tokens[start : start + BATCH]
        made.append(model.forward([(ends[0], token, ends[1]) for token in part]))
        told(start + len(part), len(tokens))
    return np.concatenate(made)


def _rare(common: Matrix, begin: Matrix, rare: Sequence[int]) -> Rows:
    """The vectors of rarer words, as told from those that the model begins with.

    `common`: the model's vectors of the first words. `begin`: a row per token.
    """
    fitted = _with_one(begin[WORDS_FROM : WORDS_FROM + len(common)])
    by_itself = fitted.T @ fitted + RIDGE * np.eye(fitted.shape[1])
    made: Rows = _with_one(begin[rare]) @ np.linalg.solve(by_itself, fitted.T @ common)
    return made


def _with_one(rows: Matrix) -> Rows:
    """At length 1, and with a 1 behind for what all have in common."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.hstack([unit, np.ones((len(unit), 1))])


def _in_main_directions(rows: Rows) -> Rows:
    rows = rows - rows.mean(0)
    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    rows = rows @ directions[:, ::-1][:, :DIRECTIONS]
    rows /= variances[::-1][:DIRECTIONS] ** EQUAL
    unit: Rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _table(words: Sequence[str], rows: Rows, tokens: NDArray[np.int64]) -> WordTable:
    """One byte per number, and for each word what these are multiplied with."""
    shares = ZIPF / np.maximum(1, tokens - WORDS_FROM + 1)
    largest = np.abs(rows).max(1, keepdims=True)
    vectors = np.rint(rows / largest * 127).astype(np.int8)
    scales = largest[:, 0] / 127 * COMMON / (COMMON + shares)
    return WordTable(words, vectors, scales.astype(np.float32))
