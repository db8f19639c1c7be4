"""Makes the packaged word vectors from MiniLM: src/fairlead/embedding/known_words.npz.

    python -m benchmarks.monitoring.distil --seconds 100      # goes on where it stopped

The model's vector of each common token by itself (kept below build/ as they come: some minutes on a
core). Those of rarer ones are told from the vectors that the model begins with, by the linear map
that is nearest to the common ones (ridge regression). All are taken in the main directions, which
are made somewhat more equal, at length 1, times how rare the word is. BERT's vocabulary is in the
order of how common words are, so that Zipf's law gives their shares.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

import numpy as np
from benchmarks.kept import Clock
from benchmarks.monitoring.minilm import MiniLm
from benchmarks.monitoring.vectors import CACHE, minilm_folder

from fairlead.embedding.known_words import PACKAGED

DIRECTIONS = 192
COMMON = 1e-4
"""A word of this share of all words weighs half."""
ZIPF = 0.1
"""The r-th most common word has about this share, over r."""
MARKS_FROM, WORDS_FROM, COMMON_TO = 999, 1996, 14_000
"""Where the vocabulary's marks and letters begin, its words, and those that are not distilled."""
EQUAL = 0.25
"""Directions are divided by their variance to this power."""
RIDGE = 0.3
BATCH, PART = 250, 2_000
_KEPT = re.compile(r"(##)?[a-z0-9]+|[!-~]")


def distilled(model: MiniLm, clock: Clock) -> Any:
    """The model's vectors of the common tokens, each by itself; None if time is over."""
    vocabulary = model.tokenizer.get_vocab()
    first, last = vocabulary["[CLS]"], vocabulary["[SEP]"]
    CACHE.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, COMMON_TO, PART):
        path = CACHE / f"distilled-{start}.npy"
        if not path.is_file():
            if clock.is_over:
                return None
            made = [
                model.forward([[first, token, last] for token in range(at, at + BATCH)])
                for at in range(start, start + PART, BATCH)
            ]
            np.save(path, np.concatenate(made))
            print(f"{start + PART:,} of {COMMON_TO:,} tokens", flush=True)
        parts.append(np.load(path))
    return np.concatenate(parts)


def with_rare(common: Any, begin: Any) -> Any:
    """The vectors of all tokens; `begin`: those that the model begins with, a row per token."""
    known = begin / np.linalg.norm(begin, axis=1, keepdims=True)
    known = np.hstack([known, np.ones((len(known), 1))]).astype(np.float64)
    fitted = known[WORDS_FROM : len(common)]
    target = common[WORDS_FROM:].astype(np.float64)
    by_itself = fitted.T @ fitted + RIDGE * np.eye(known.shape[1])
    told = known @ np.linalg.solve(by_itself, fitted.T @ target)
    told[: len(common)] = common
    return told


def main() -> int:
    """Distil, and write the table when all is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1e9)
    options = parser.parse_args()
    model = MiniLm(minilm_folder())
    names = {token: name for name, token in model.tokenizer.get_vocab().items()}
    ids = [
        token
        for token in range(MARKS_FROM, len(names))
        if _KEPT.fullmatch(names[token]) and (token >= WORDS_FROM or len(names[token]) == 1)
    ]
    common = distilled(model, Clock(options.seconds))
    if common is None:
        print("goes on with the next run")
        return 1
    rows = with_rare(common, model.token_vectors)[ids]
    rows -= rows.mean(0)
    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    rows = rows @ directions[:, ::-1][:, :DIRECTIONS]
    rows /= variances[::-1][:DIRECTIONS] ** EQUAL
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    shares = np.array([ZIPF / max(1, token - WORDS_FROM + 1) for token in ids])
    largest = np.abs(rows).max(1, keepdims=True)
    vectors = np.rint(rows / largest * 127).astype(np.int8)
    scales = largest[:, 0] / 127 * COMMON / (COMMON + shares)
    words = "\n".join(names[token] for token in ids).encode()
    np.savez_compressed(
        PACKAGED,
        words=np.frombuffer(words, np.uint8),
        vectors=vectors,
        scales=scales.astype(np.float32),
    )
    print(f"{len(ids):,} words, {PACKAGED.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
