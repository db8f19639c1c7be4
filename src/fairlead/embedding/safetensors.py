"""Tensors of a safetensors file: a JSON header that says where each one is, then the numbers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from fairlead.embedding.interface import Matrix

HEADER_BYTES_MAX = 1 << 20


def read_safetensors(data: bytes) -> dict[str, Matrix]:
    """The float32 tensors of a file, by name; they share its memory, and are read-only.

    Raises ValueError where it is damaged.
    """
    size = int.from_bytes(data[:8], "little")
    if size > min(HEADER_BYTES_MAX, len(data) - 8):
        raise ValueError(f"tensors: a header of {size} bytes, in a file of {len(data)}")
    try:
        heads = json.loads(data[8 : 8 + size])
        return {
            name: _tensor(data, 8 + size, head)
            for name, head in heads.items()
            if name != "__metadata__" and head["dtype"] == "F32"
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"tensors: the header is damaged: {error!r}") from error


def _tensor(data: bytes, begin: int, head: dict[str, Any]) -> Matrix:
    start, end = head["data_offsets"]
    shape = [int(each) for each in head["shape"]]
    if min([start, *shape]) < 0 or end - start != 4 * math.prod(shape) or begin + end > len(data):
        raise ValueError(f"a tensor of shape {shape} from {start} to {end}")
    return np.frombuffer(data, "<f4", math.prod(shape), begin + start).reshape(shape)
