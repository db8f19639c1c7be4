"""MiniLM (all-MiniLM-L6-v2) on numpy: vectors of a full model, without torch.

Six layers of BERT: attention and a feed-forward part, each added and normalised; the mean over
tokens, scaled to length 1 (Wang et al. 2020, *MiniLM*; Reimers, Gurevych 2019, *Sentence-BERT*).
Far too slow to watch traffic with: it is the teacher of what does (`distilling`, `fitting`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fairlead.embedding.interface import Matrix

HEADS, LAYERS, TOKENS_MAX = 12, 6, 128


class MiniLm:
    """The model of these weights, by BERT's names."""

    def __init__(self, weights: Mapping[str, Matrix]) -> None:
        self._weights = weights

    @property
    def token_vectors(self) -> Matrix:
        """One vector per token, as the model begins with; tokens x 384."""
        return self._weights["embeddings.word_embeddings.weight"]

    def forward(self, ids: Sequence[Sequence[int]]) -> Matrix:
        """One row of length 1 per list of token ids, each with its marks of beginning and end."""
        longest = max(map(len, ids))
        tokens = np.zeros((len(ids), longest), np.int64)
        mask = np.zeros((len(ids), longest), np.float32)
        for row, each in enumerate(ids):
            tokens[row, : len(each)] = each
            mask[row, : len(each)] = 1.0
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][tokens]
        x = x + w["embeddings.position_embeddings.weight"][:longest]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            x = self._layer(x, mask, f"encoder.layer.{layer}")
        mean: Matrix = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        return mean

    def _layer(self, x: NDArray[np.float32], mask: Matrix, name: str) -> NDArray[np.float32]:
        rows, longest, width = x.shape
        size = width // HEADS
        query, key, value = self._by_head(x, name)
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(math.sqrt(size))
        scores += (mask[:, None, None, :] - 1.0) * 1e4
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        seen = (scores @ value).transpose(0, 2, 1, 3).reshape(rows, longest, width)
        seen = self._linear(seen, f"{name}.attention.output.dense")
        x = self._norm(x + seen, f"{name}.attention.output.LayerNorm")
        wide = _gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._norm(
            x + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _by_head(self, x: NDArray[np.float32], name: str) -> Iterator[NDArray[np.float32]]:
        """Query, key and value: texts x heads x tokens x a head's share of the width."""
        rows, longest, width = x.shape
        for part in ("query", "key", "value"):
            made = self._linear(x, f"{name}.attention.self.{part}")
            yield made.reshape(rows, longest, HEADS, width // HEADS).transpose(0, 2, 1, 3)

    def _linear(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        made: NDArray[np.float32] = x @ self._weights[f"{name}.weight"].T
        return made + self._weights[f"{name}.bias"]

    def _norm(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-12))
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """By Abramowitz and Stegun 7.1.26 for the error function: within 1.5e-7."""
    z = np.abs(x) * np.float32(1 / math.sqrt(2))
    t = 1.0 / (1.0 + 0.3275911 * z)
    poly = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    erf = np.sign(x) * (1.0 - poly * np.exp(-z * z))
    made: NDArray[np.float32] = 0.5 * x * (1.0 + erf)
    return made
