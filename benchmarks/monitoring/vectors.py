"""Vectors of all texts by each embedder; models are kept below build/, which git ignores."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from benchmarks.monitoring import minilm
from benchmarks.monitoring.minilm import CACHE, word_table
from benchmarks.monitoring.texts import Texts

from fairlead.embedding.hashed import HashedNgrams
from fairlead.embedding.interface import Embedder
from fairlead.embedding.known_words import KnownWords
from fairlead.embedding.static import StaticTable
from fairlead.embedding.teaching import taught
from fairlead.monitoring.monitors.text_settings import TextSettings


class Setup(NamedTuple):
    """What is measured: an embedder, and how many prompts its reference has.

    `gathers`: a monitor with so many prompts at first has gathered them itself, as one of a release
    does.
    """

    title: str
    vectors: str
    reference: int
    gathers: int | None = None


OWN_TEXTS = 2_000
FIRST_TEXTS, LATER_TEXTS = TextSettings().drift_texts, TextSettings().drift_texts_later
SETUPS = {
    "words": Setup(f"word vectors, {FIRST_TEXTS:,} prompts", "words", FIRST_TEXTS),
    "words-later": Setup(
        f"word vectors, {LATER_TEXTS:,} gathered prompts", "words", LATER_TEXTS, FIRST_TEXTS
    ),
    "hashed": Setup(f"hashed n-grams, {FIRST_TEXTS:,} prompts", "hashed", FIRST_TEXTS),
    "own": Setup(f"table of its own, {FIRST_TEXTS:,} prompts", "own", FIRST_TEXTS),
    "own-later": Setup(
        f"table of its own, {LATER_TEXTS:,} gathered prompts", "own", LATER_TEXTS, FIRST_TEXTS
    ),
    "minilm-4000": Setup("MiniLM itself, 4,000 prompts", "minilm", 4_000),
}
"""By name; the first two are what the monitors of a release take where the table of words is, at
first and later; `hashed` what they take where it is not, at first; `own` what those of a service
take that has a table of its own."""


class Embeds(Protocol):
    """What makes vectors of texts."""

    def embed(self, texts: Sequence[str], /) -> Any: ...


def embedder(kind: str, texts: Texts) -> Embedder:
    """All but MiniLM, as they are used. Raises OSError where MiniLM's weights cannot be had."""
    if kind == "words":
        return KnownWords(word_table())
    return HashedNgrams() if kind == "hashed" else own_table(texts)


def embedded(kind: str, texts: Texts) -> Any:
    """All texts, one kind after the other. Raises OSError where MiniLM's weights cannot be had."""
    if kind == "minilm":
        return np.concatenate([_minilm(each) for each in texts.lists().values()])
    made = embedder(kind, texts)
    return np.concatenate([made.embed(each) for each in texts.lists().values()])


def own_table(texts: Texts) -> StaticTable:
    """As `fairlead monitor vectors --service` fits it, to 2,000 training questions.

    They are drawn from those that nothing else is made of.
    """
    folder = CACHE / f"own-table-{OWN_TEXTS}"
    if not (folder / "tokenizer.json").is_file():
        rows = random.Random(1).sample(texts.for_embedders(), OWN_TEXTS)
        known = [texts.train[at] for at in rows]
        taught(minilm.model(), known, lambda _done, _of: None).save(folder)
    return StaticTable.load(folder)


def _minilm(texts: list[str]) -> Any:
    told = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    path = CACHE / f"minilm-{told}.npy"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(path, minilm.embed(texts))
    return np.load(path)
