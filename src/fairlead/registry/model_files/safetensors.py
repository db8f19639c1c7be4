"""safetensors: a bounded check of the header, stricter than the format's own library.

Layout: the header's length as 64 bits, the header as JSON (name to dtype, shape and offsets), the
data. Checked beyond the library: duplicate keys, names by pattern, a bound on the number of
tensors (a million empty ones would take the library 10 s).
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from typing import Any, NoReturn

from fairlead.domain.errors import ModelFileRefused
from fairlead.registry.model_files.facts import ModelFacts, commonest
from fairlead.registry.model_files.reading import HeaderReader

HEADER_MAX = 16_000_000
"""Bytes; a tensor takes about 120. The format itself allows 100 MB."""
TENSORS_MAX = 100_000
DIMENSIONS_MAX = 32
ELEMENTS_MAX = 1 << 60
METADATA_KEY = "__metadata__"
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32,
    "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one element by dtype."""

_NAME = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_LENGTH = struct.Struct("<Q")


class _Refused(ValueError):
    """What is wrong, without the file's name; the JSON decoder lets it through."""


def check_safetensors(fd: int, size: int, label: str) -> ModelFacts:
    """Check the file of `size` bytes behind `fd`; `label` names it in messages.

    Raises:
        ModelFileRefused: Whatever is wrong with the file; says what and where.
    """
    reader = HeaderReader(fd, size=size, limit=HEADER_MAX + _LENGTH.size, label=label)
    (length,) = reader.unpack(_LENGTH)
    if length > HEADER_MAX or length < 2:
        raise ModelFileRefused(
            f"{label}: is not a safetensors file: it claims a header of {length:,} bytes "
            f"(2 to {HEADER_MAX:,} are accepted)"
        )
    try:
        tensors = _parse(reader.take(length))
        return _facts(tensors, reader.remaining)
    except _Refused as error:
        raise ModelFileRefused(f"{label}: {error}") from None
    except (ValueError, RecursionError):
        raise ModelFileRefused(f"{label}: the header is not strict JSON") from None


def _parse(header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise _Refused("is not a safetensors file: its header is not a JSON object")
    objects = 0

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1
        if objects > TENSORS_MAX + 2 or len(pairs) > TENSORS_MAX + 1:
            raise _Refused(f"has more than {TENSORS_MAX:,} tensors")
        made = dict(pairs)
        if len(made) != len(pairs):
            raise _Refused("has a key twice in its header")
        return made

    text = header.decode("utf-8").rstrip(" ")
    found = json.loads(text, object_pairs_hook=unique, parse_constant=_no_constant)
    metadata = found.pop(METADATA_KEY, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _Refused(f"{METADATA_KEY} is not a map of texts")
    if not isinstance(found, dict) or not found:
        raise _Refused("holds no tensors")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"has {name} in its header")


def _facts(tensors: dict[str, Any], data: int) -> ModelFacts:
    parameters: Counter[str] = Counter()
    ranges: list[tuple[int, int, str]] = []
    for name, stated in tensors.items():
        if not _NAME.fullmatch(name):
            raise _Refused(f"has the tensor name {name[:80]!a}; letters, digits and ._- only")
        elements, begin, end = _tensor(name, stated)
        parameters[stated["dtype"]] += elements
        ranges.append((begin, end, name))
    ranges.sort()
    at = 0
    for begin, end, name in ranges:
        if begin != at:
            raise _Refused(f"tensor {name!r} begins at byte {begin:,} of the data; expected {at:,}")
        at = end
    if at > data:
        raise _Refused(f"truncated: {at - data:,} bytes are missing (has {data:,} of {at:,})")
    if at < data:
        raise _Refused(f"has {data - at:,} bytes behind its last tensor")
    return ModelFacts(
        format="safetensors",
        tensors=len(tensors),
        parameters=parameters.total(),
        quantisation=commonest(parameters),
    )


def _tensor(name: str, stated: Any) -> tuple[int, int, int]:
    """Return a tensor's number of elements and its first and last byte in the data."""
    if not isinstance(stated, dict) or stated.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Refused(f"tensor {name!r} must have dtype, shape and data_offsets")
    dtype, shape, offsets = stated["dtype"], stated["shape"], stated["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _Refused(f"tensor {name!r} has the unknown dtype {ascii(dtype)[:40]}")
    if not _counts(shape) or len(shape) > DIMENSIONS_MAX:
        raise _Refused(f"tensor {name!r} has the shape {ascii(shape)[:80]}")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Refused(f"tensor {name!r} has the offsets {ascii(offsets)[:80]}")
    elements = 1
    for length in shape:
        elements *= length
    if elements > ELEMENTS_MAX:
        raise _Refused(f"tensor {name!r} has the shape {ascii(shape)[:80]}")
    if elements * BITS[dtype] != (offsets[1] - offsets[0]) * 8:
        raise _Refused(
            f"tensor {name!r} of {dtype} {shape} cannot take {offsets[1] - offsets[0]:,} bytes"
        )
    return elements, offsets[0], offsets[1]


def _counts(value: Any) -> bool:
    """Whether this is a list of whole numbers from 0 on (JSON's true is not one)."""
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item <= ELEMENTS_MAX for item in value
    )
