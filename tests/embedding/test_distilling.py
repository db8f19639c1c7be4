"""A table of word vectors from a model: the model on numpy, and what is made of its vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from fairlead.embedding.distilling import COMMON, ZIPF, distil
from fairlead.embedding.minilm import HEADS, LAYERS, MiniLm
from fairlead.embedding.safetensors import read_safetensors
from support.small_bert import FIRST_WORD, as_safetensors, vocabulary, weights


def slowly(w: dict[str, np.ndarray], ids: Sequence[int]) -> np.ndarray:
    """BERT as it is written down, one token and one head after the other, in double precision."""
    w = {name: tensor.astype(np.float64) for name, tensor in w.items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean()) / math.sqrt(x.var() + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        return np.array([0.5 * each * (1 + math.erf(each / math.sqrt(2))) for each in x])

    words, places, kinds = (
        w[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
    )
    x = [
        norm(words[token] + places[at] + kinds[0], "embeddings.LayerNorm")
        for at, token in enumerate(ids)
    ]
    size = len(x[0]) // HEADS
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        query, key, value = (
            [linear(each, f"{layer}.attention.self.{part}") for each in x]
            for part in ("query", "key", "value")
        )
        for at, each in enumerate(list(x)):
            seen = []
            for head in (slice(start, start + size) for start in range(0, HEADS * size, size)):
                looks = np.exp([query[at][head] @ k[head] / math.sqrt(size) for k in key])
                seen.append(
                    sum(a * v[head] for a, v in zip(looks / looks.sum(), value, strict=True))
                )
            out = linear(np.concatenate(seen), f"{layer}.attention.output.dense")
            mid = norm(each + out, f"{layer}.attention.output.LayerNorm")
            wide = gelu(linear(mid, f"{layer}.intermediate.dense"))
            x[at] = norm(mid + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = np.mean(x, axis=0)
    return mean / np.linalg.norm(mean)


def test_the_model_on_numpy_is_bert_also_for_texts_of_other_lengths() -> None:
    texts = [[101, 2_000, 102], [101, 2_100, 2_005, 3_000, 1_000, 102], [101, 102]]
    rows = MiniLm(weights()).forward(texts)
    for row, ids in zip(rows, texts, strict=True):
        assert row == pytest.approx(slowly(weights(), ids), abs=2e-5)


def test_tensors_are_read_by_name_and_others_are_left_out() -> None:
    found = read_safetensors(as_safetensors(weights()))
    assert found.keys() == weights().keys()
    assert all(np.array_equal(found[name], tensor) for name, tensor in weights().items())


def test_damaged_tensors_are_an_error() -> None:
    tensors = {"a": np.ones((2, 3), np.float32)}
    whole = as_safetensors(tensors)
    for cut in range(0, len(whole) - 8 * 4, 5):  # what lies behind is of the other type
        with pytest.raises(ValueError, match="tensors: "):
            read_safetensors(whole[:cut])
    for wrong in (
        b'"shape": [2, 4]', b'"shape": [-2, -3]', b'"shape": ["2", []]', b'"shape": 6', b'"s": [2]',
    ):  # fmt: skip
        header = whole[8:].partition(b'"shape": [2, 3]')
        changed = header[0] + wrong + header[2]
        size = int.from_bytes(whole[:8], "little") + len(wrong) - len(header[1])
        with pytest.raises(ValueError, match="the header is damaged"):
            read_safetensors(size.to_bytes(8, "little") + changed)


class Linear:
    """Says of a word what is linear in the vector that it begins with."""

    def __init__(self) -> None:
        self.token_vectors = weights()["embeddings.word_embeddings.weight"]
        unit = self.token_vectors / np.linalg.norm(self.token_vectors, axis=1, keepdims=True)
        draw = np.random.default_rng(5)
        self._all = (unit @ draw.standard_normal((24, 24)) + 0.5).astype(np.float32)

    def forward(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        assert all((begin, end) == (101, 102) for begin, _, end in ids)
        return self._all[[token for _, token, _ in ids]]


def test_rare_words_are_told_from_the_common_ones() -> None:
    every = distil(Linear(), vocabulary(), 30_000)  # type: ignore[arg-type]
    some = distil(Linear(), vocabulary(), 600)  # type: ignore[arg-type]
    for word in ("word3", "word700", "word1100", "##part90", "?"):
        one, other = every.known(word), some.known(word)
        assert one is not None
        assert other is not None
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.98, word


def test_a_table_has_the_words_parts_and_marks_and_rare_ones_weigh_more() -> None:
    told: list[tuple[int, int]] = []
    table = distil(MiniLm(weights()), vocabulary(), 600, lambda *far: told.append(far))
    for word in ("!", "?", "a", "b", "word0", "word1203", "##part0", "##part99"):
        assert table.known(word) is not None, word
    for word in ("[CLS]", "[unused7]", "é3", "слово5"):
        assert table.known(word) is None, word
    assert len(table) == 4 + 1_204 + 100
    assert told[-1] == (604, 604)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    for rank in (0, 9, 1_203):
        vector = table.known(f"word{rank}")
        assert vector is not None
        share = ZIPF / (rank + 1)
        assert np.linalg.norm(vector) == pytest.approx(COMMON / (COMMON + share), rel=0.02)
    assert vocabulary()["word0"] == FIRST_WORD
