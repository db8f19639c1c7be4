"""What the larger model says of whole texts, for a table that is fitted to it (`fitting`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fairlead.embedding.fitting import fit_table
from fairlead.embedding.interface import Matrix
from fairlead.embedding.minilm import TOKENS_MAX
from fairlead.embedding.static import StaticTable, tokenizer_from
from fairlead.embedding.teacher import Teacher

_AT_ONCE, _BLOCK = 32, 256
_LETTERS_MAX = 2_000
"""The model reads so many tokens only; a tokenizer reads all that it is given."""


def taught(teacher: Teacher, texts: Sequence[str], told: Callable[[int, int], None]) -> StaticTable:
    """A table fitted to these texts.

    Args:
        told: Called with how many texts the model has been asked about, and of how many.

    Raises ValueError where there are too few, or without the package tokenizers.
    """
    vectors = _vectors(teacher, texts, told)
    tokenizer = tokenizer_from(teacher.tokenizer)
    return fit_table(tokenizer, texts, vectors, teacher.model.token_vectors)


def _vectors(teacher: Teacher, texts: Sequence[str], told: Callable[[int, int], None]) -> Matrix:
    """A row of length 1 per text; texts of about the same length are asked about together."""
    tokenizer = tokenizer_from(teacher.tokenizer)
    tokenizer.enable_truncation(TOKENS_MAX)
    tokenizer.no_padding()
    ids: list[list[int]] = []
    for start in range(0, len(texts), _BLOCK):
        cut = [text[:_LETTERS_MAX] for text in texts[start : start + _BLOCK]]
        ids += [encoding.ids for encoding in tokenizer.encode_batch(cut)]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    out = np.zeros((len(ids), teacher.model.token_vectors.shape[1]), np.float32)
    for start in range(0, len(order), _AT_ONCE):
        rows = order[start : start + _AT_ONCE]
        out[rows] = teacher.model.forward([ids[row] for row in rows])
        told(start + len(rows), len(order))
    return out
