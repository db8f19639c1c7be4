"""A model of MiniLM's shape, 24 numbers wide, whose weights a seed has drawn, and its words."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from fairlead.embedding.minilm import LAYERS, MiniLm
from fairlead.embedding.teacher import Teacher

WIDTH, INNER, TEXT_MAX = 24, 48, 16
TOKENS = 3_400
FIRST_WORD = 1_996


def vocabulary() -> dict[str, int]:
    """As BERT's: unused tokens, marks and letters, words, parts of them, other scripts."""
    names = [f"[unused{at}]" for at in range(999)]
    names[101], names[102] = "[CLS]", "[SEP]"
    names += ["!", "?", "a", "b", *(f"é{at}" for at in range(FIRST_WORD - 1_003))]
    names += [f"word{at}" for at in range(TOKENS - FIRST_WORD - 200)]
    names += [*(f"##part{at}" for at in range(100)), *(f"слово{at}" for at in range(100))]
    return {name: at for at, name in enumerate(names)}


def weights(seed: int = 3) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)

    def drawn(*shape: int, scale: float = 0.4) -> np.ndarray:
        return (scale * draw.standard_normal(shape)).astype(np.float32)

    def linear(name: str, given: int, made: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": drawn(made, given), f"{name}.bias": drawn(made)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": 1.0 + drawn(WIDTH), f"{name}.bias": drawn(WIDTH)}

    found = {
        "embeddings.word_embeddings.weight": drawn(TOKENS, WIDTH, scale=1.0),
        "embeddings.position_embeddings.weight": drawn(TEXT_MAX, WIDTH),
        "embeddings.token_type_embeddings.weight": drawn(2, WIDTH),
        **norm("embeddings.LayerNorm"),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            found |= linear(f"{name}.attention.self.{part}", WIDTH, WIDTH)
        found |= linear(f"{name}.attention.output.dense", WIDTH, WIDTH)
        found |= norm(f"{name}.attention.output.LayerNorm")
        found |= linear(f"{name}.intermediate.dense", WIDTH, INNER)
        found |= linear(f"{name}.output.dense", INNER, WIDTH)
        found |= norm(f"{name}.output.LayerNorm")
    return found


def as_safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The file's bytes, with a tensor of another type and a note among them."""
    heads: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in {**tensors, "ids": np.arange(4)}.items():
        kind = "F32" if tensor.dtype == np.float32 else "I64"
        ends = [len(data), len(data) + tensor.nbytes]
        heads[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": ends}
        data += tensor.tobytes()
    header = json.dumps(heads).encode()
    return len(header).to_bytes(8, "little") + header + data


def tokenizer() -> str:
    return json.dumps({"model": {"type": "WordPiece", "vocab": vocabulary()}})


def teacher() -> Teacher:
    return Teacher(MiniLm(weights()), tokenizer())


def sentence_teacher() -> Teacher:
    """The same with a tokenizer that the package tokenizers can read: words by their spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {**vocabulary(), "[UNK]": 0}
    words.pop("[unused0]")
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    made.post_processor = processors.BertProcessing(  # type: ignore[assignment]
        ("[SEP]", words["[SEP]"]), ("[CLS]", words["[CLS]"])
    )
    return Teacher(MiniLm(weights()), made.to_str())
