"""Write a random-weight llama of about 100 kB as a GGUF file: `python tiny_gguf.py OUT`.

The values follow the GGUF version 3 specification. Weights are drawn from a fixed seed, so that
the file is the same each time. Its answers are noise; that is enough to test a server.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
F32 = 0
ALIGNMENT = 32
WIDTH, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 2, 128, 512
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
WORDS = ("how", "do", "i", "the", "card", "bank", "my", "a", "top", "up", "hello", "money")
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def vocabulary(
    words: Sequence[str], characters: Sequence[str] = ()
) -> tuple[list[str], list[float], list[int]]:
    """A sentencepiece vocabulary: three special tokens, 256 bytes, letters and some words.

    Args:
        characters: More that are one token each; the last ones of the vocabulary.
    """
    tokens, kinds = ["<unk>", "<s>", "</s>"], [UNKNOWN, CONTROL, CONTROL]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    kinds += [BYTE] * 256
    pieces = ["▁", *(chr(c) for c in range(ord("a"), ord("z") + 1)), *(f"▁{w}" for w in words)]
    tokens += [*dict.fromkeys(pieces), *characters]
    kinds += [NORMAL] * (len(tokens) - len(kinds))
    return tokens, [-float(i) for i in range(len(tokens))], kinds


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(key: str, kind: int, items: list[bytes]) -> bytes:
    return entry(key, ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def number(key: str, value: int) -> bytes:
    return entry(key, UINT32, struct.pack("<I", value))


def architecture(context: int, vocabulary_size: int, layers: int = LAYERS) -> list[bytes]:
    return [
        entry("general.architecture", STRING, text("llama")),
        entry("general.name", STRING, text("tiny random llama")),
        number("llama.context_length", context),
        number("llama.embedding_length", WIDTH),
        number("llama.block_count", layers),
        number("llama.feed_forward_length", FEED_FORWARD),
        number("llama.attention.head_count", HEADS),
        number("llama.attention.head_count_kv", HEADS),
        number("llama.rope.dimension_count", WIDTH // HEADS),
        number("llama.vocab_size", vocabulary_size),
        entry("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-5)),
    ]


def metadata(
    context: int,
    words: Sequence[str],
    characters: Sequence[str] = (),
    chat_template: str = CHAT_TEMPLATE,
    layers: int = LAYERS,
) -> list[bytes]:
    tokens, scores, kinds = vocabulary(words, characters)
    return [
        *architecture(context, len(tokens), layers),
        entry("tokenizer.ggml.model", STRING, text("llama")),
        array("tokenizer.ggml.tokens", STRING, [text(t) for t in tokens]),
        array("tokenizer.ggml.scores", FLOAT32, [struct.pack("<f", s) for s in scores]),
        array("tokenizer.ggml.token_type", INT32, [struct.pack("<i", k) for k in kinds]),
        number("tokenizer.ggml.unknown_token_id", 0),
        number("tokenizer.ggml.bos_token_id", 1),
        number("tokenizer.ggml.eos_token_id", 2),
        entry("tokenizer.ggml.add_bos_token", BOOL, b"\x01"),
        entry("tokenizer.chat_template", STRING, text(chat_template)),
    ]


def tensors(words: int, layers: int = LAYERS) -> list[tuple[str, tuple[int, ...]]]:
    """Names and dimensions, the fastest first."""
    shapes: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (WIDTH, words))]
    for layer in range(layers):
        shapes += [
            (f"blk.{layer}.attn_norm.weight", (WIDTH,)),
            *((f"blk.{layer}.attn_{part}.weight", (WIDTH, WIDTH)) for part in "qkv"),
            (f"blk.{layer}.attn_output.weight", (WIDTH, WIDTH)),
            (f"blk.{layer}.ffn_norm.weight", (WIDTH,)),
            (f"blk.{layer}.ffn_gate.weight", (WIDTH, FEED_FORWARD)),
            (f"blk.{layer}.ffn_up.weight", (WIDTH, FEED_FORWARD)),
            (f"blk.{layer}.ffn_down.weight", (FEED_FORWARD, WIDTH)),
        ]
    return [*shapes, ("output_norm.weight", (WIDTH,)), ("output.weight", (WIDTH, words))]


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % ALIGNMENT)


def write(path: Path, *, seed: int = 0, context: int = CONTEXT, spells: bool = False) -> Path:
    """Write the model; another seed gives other weights and so another digest.

    Args:
        spells: It knows no words and says nothing but letters and spaces, without end: its text
            read back is the tokens that it said.
    """
    known = () if spells else WORDS
    kinds = vocabulary(known)[2]
    chance = random.Random(seed)
    named: list[tuple[str, tuple[int, ...], list[float]]] = []
    for name, dims in tensors(len(kinds)):
        count = dims[0] * (dims[1] if len(dims) == 2 else 1)
        scale, centre = (0.0, 1.0) if len(dims) == 1 else (0.1, 0.0)
        values = [chance.gauss(centre, scale) for _ in range(count)]
        if spells and name.endswith("attn_output.weight"):
            # What it says follows from the last token alone. A prompt read at once and tokens made
            # one by one differ in their last digits, and where two tokens are as good as equal
            # that would choose between them.
            values = [0.0] * count
        if spells and name == "output.weight":
            said = (kind == NORMAL for kind in kinds for _ in range(WIDTH))
            values = [
                value if is_said else 0.0 for value, is_said in zip(values, said, strict=True)
            ]
        named.append((name, dims, values))
    return write_file(path, metadata(context, known), named)


def write_file(
    path: Path, entries: Sequence[bytes], named: Sequence[tuple[str, tuple[int, ...], list[float]]]
) -> Path:
    """Write a model of these metadata and tensors (name, dimensions, values)."""
    infos: list[bytes] = []
    blocks: list[bytes] = []
    offset = 0
    for name, dims, values in named:
        block = padded(struct.pack(f"<{len(values)}f", *values))
        shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        infos.append(text(name) + shape + struct.pack("<IQ", F32, offset))
        blocks.append(block)
        offset += len(block)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(entries))
    path.write_bytes(padded(head + b"".join(entries) + b"".join(infos)) + b"".join(blocks))
    return path


if __name__ == "__main__":
    write(Path(sys.argv[1]))
