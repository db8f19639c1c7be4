"""Fits a static token table to a larger model's vectors of the service's own prompts.

Any model will do as the teacher; only its vectors are needed. Each round goes over the prompts in
another order, leaves out some of each prompt's tokens (so that what a prompt means is not left to
one of them), and turns the sum of the others towards the teacher's vector (Adagrad, Duchi, Hazan,
Singer 2011, on 1 - cosine). Tokens that no prompt has keep the vectors that they began with: the
teacher's own, or directions drawn at random, which are far from all that is usual; that is right
for a monitor of what is new. Prompts that calibrate a reference must not be among those that are
fitted to (`fairlead.stats.drift.reference.halves`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fairlead.embedding.interface import Matrix
from fairlead.embedding.static import StaticTable, as_used, token_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXTS_MIN = 200
_BLOCK = 256
ROUNDS, DROPPED, RATE, BATCH = 12, 0.2, 0.05, 64


def fit_table(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    teacher: Matrix,
    token_vectors: Matrix | None = None,
    seed: int = 0,
) -> StaticTable:
    """The table whose sums come nearest to the teacher's vectors; the same for the same seed.

    `teacher`: a row per text. `token_vectors`: what to begin with, a row per token and as wide as
    the teacher's. Raises ValueError where these do not go together or are not finite.
    """
    target = _checked(texts, teacher)
    size, dimension = tokenizer.get_vocab_size(), target.shape[1]
    draw = np.random.default_rng(seed)
    if token_vectors is None:
        begin = draw.standard_normal((size, dimension)).astype(np.float32)
    elif token_vectors.shape[0] < size or token_vectors.shape[1:] != (dimension,):
        raise ValueError(
            f"token vectors of shape {token_vectors.shape}: needs {size} rows of {dimension}"
        )
    else:
        begin = np.array(token_vectors, np.float32)
    begin /= max(float(np.sqrt((begin * begin).sum(1).mean())), 1e-9)
    as_used(tokenizer)
    ids: list[list[int]] = []
    for start in range(0, len(texts), _BLOCK):
        ids += token_ids(tokenizer, texts[start : start + _BLOCK])
    used = np.array(sorted({token for each in ids for token in each}), np.int64)
    small = [np.searchsorted(used, each) for each in ids]
    begin[used] = _fitted(begin[used], small, target, draw)
    return StaticTable(begin.astype(np.float16), tokenizer)


def _checked(texts: Sequence[str], teacher: Matrix) -> Matrix:
    rows = np.asarray(teacher, np.float32)
    if len(texts) < TEXTS_MIN:
        raise ValueError(f"{len(texts)} prompts to fit a token table to: needs {TEXTS_MIN}")
    if rows.ndim != 2 or len(rows) != len(texts):
        raise ValueError(f"teacher's vectors of shape {rows.shape}: needs {len(texts)} rows")
    lengths = np.sqrt((rows * rows).sum(1, keepdims=True))
    if not np.isfinite(lengths).all() or lengths.min() <= 1e-9:
        raise ValueError("teacher's vectors: all must be finite, and none zero")
    unit: Matrix = rows / lengths
    return unit


def _fitted(
    table: Matrix, ids: Sequence[np.ndarray], target: Matrix, draw: np.random.Generator
) -> Matrix:
    """The vectors of the tokens in use after all rounds."""
    squares = np.full((len(table), 1), 1e-3, np.float32)
    whole = np.array([row for row, each in enumerate(ids) if len(each)])
    for _ in range(ROUNDS):
        order = draw.permutation(whole)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            _step(table, squares, [_some(ids[row], draw) for row in rows], target[rows])
    return table


def _some(tokens: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    kept = tokens[draw.random(len(tokens)) >= DROPPED]
    return kept if len(kept) else tokens


def _step(table: Matrix, squares: Matrix, ids: Sequence[np.ndarray], target: Matrix) -> None:
    """Turn each text's sum a little towards its target."""
    sizes = [len(each) for each in ids]
    flat = np.concatenate(ids)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    summed = np.add.reduceat(table[flat], starts, axis=0)
    lengths = np.maximum(np.sqrt((summed * summed).sum(1, keepdims=True)), 1e-6)
    unit = summed / lengths
    alike = (unit * target).sum(1, keepdims=True)
    slope = (alike * unit - target) / lengths
    places, back = np.unique(flat, return_inverse=True)
    change = np.zeros((len(places), table.shape[1]), np.float32)
    np.add.at(change, back, np.repeat(slope, sizes, axis=0))
    squares[places] += (change * change).mean(1, keepdims=True)
    table[places] -= RATE * change / np.sqrt(squares[places])
