"""Write small model files, sound ones and, piece by piece, broken ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

U8, U32, F32, STRING, ARRAY = 0, 4, 6, 8, 9
TYPE_F32, TYPE_Q8_0 = 0, 8
BYTES_PER_BLOCK = {TYPE_F32: (1, 4), TYPE_Q8_0: (32, 34)}


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def string_entry(key: str, value: str) -> bytes:
    return entry(key, STRING, text(value))


def number_entry(key: str, value: int) -> bytes:
    return entry(key, U32, struct.pack("<I", value))


def array_entry(key: str, kind: int, count: int, items: bytes) -> bytes:
    return entry(key, ARRAY, struct.pack("<IQ", kind, count) + items)


ENTRIES = (
    string_entry("general.architecture", "llama"),
    string_entry("general.name", "tiny"),
    number_entry("llama.context_length", 128),
    array_entry("tokenizer.ggml.tokens", STRING, 2, text("a") + text("b")),
    array_entry("tokenizer.ggml.scores", F32, 2, struct.pack("<2f", 0, 1)),
)


@dataclass(frozen=True)
class Tensor:
    name: str | bytes = "blk.0.weight"
    shape: tuple[int, ...] = (32, 2)
    kind: int = TYPE_Q8_0
    offset: int | None = None

    @property
    def size(self) -> int:
        block, size = BYTES_PER_BLOCK.get(self.kind, (1, 4))
        elements = 1
        for length in self.shape:
            elements *= length
        return elements // block * size


TENSORS = (Tensor("token_embd.weight"), Tensor("output_norm.weight", (32,), TYPE_F32))


def gguf(
    *,
    entries: Sequence[bytes] = ENTRIES,
    tensors: Sequence[Tensor] = TENSORS,
    version: int = 3,
    magic: bytes = b"GGUF",
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
    fill: bytes = b"\x01",
    pad_last: bool = True,
    behind: bytes = b"",
) -> bytes:
    infos, data, offset = b"", b"", 0
    for tensor in tensors:
        stated = offset if tensor.offset is None else tensor.offset
        infos += text(tensor.name) + struct.pack("<I", len(tensor.shape))
        infos += struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, tensor.kind, stated)
        data += b"\0" * (offset - len(data)) + fill * tensor.size
        offset = len(data) + -len(data) % alignment
    if pad_last:
        data += b"\0" * (offset - len(data))
    claimed = counts if counts is not None else (len(tensors), len(entries))
    head = magic + struct.pack("<IQQ", version, *claimed) + b"".join(entries) + infos
    return head + b"\0" * (-len(head) % alignment) + data + behind


def safetensors(header: Any = None, *, data: bytes = bytes(8), raw: bytes | None = None) -> bytes:
    if header is None:
        header = {"a.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    encoded = raw if raw is not None else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
