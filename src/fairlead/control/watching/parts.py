"""A large state as a small document and parts of it, so that only what has changed is written.

A part is named by its content: what is the same as before has the same name, and is there already.
A large dict or list is a part; so is each of its values, if that is large itself. What remains has
the names in their places. A list of small things, such as amounts by the hour, is one part.

Nothing here knows what a state is of: monitors keep in lists of their own what changes seldom.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

PART_BYTES = 1_000
"""What takes less stays where it is: a document of its own is not worth it."""
DEPTH_MAX = 32
NAME = "$part"
_DIGEST_CHARS = 32


def divided(state: Any) -> tuple[bytes, dict[str, bytes]]:
    """A state in JSON's types as JSON with names of parts, and the parts by name."""
    parts: dict[str, bytes] = {}
    return _encoded(state, parts), parts


def joined(document: bytes, parts: Mapping[str, bytes]) -> Any:
    """What was divided; raises ValueError if it is damaged, or a part is missing."""
    return _whole(_decoded(document), parts, 0)


def _encoded(value: Any, parts: dict[str, bytes]) -> bytes:
    if isinstance(value, dict):
        return msgspec.json.encode({key: _raw(each, parts) for key, each in value.items()})
    encoded = msgspec.json.encode(value)
    if isinstance(value, list | tuple) and len(encoded) >= PART_BYTES * max(len(value), 2):
        return msgspec.json.encode([_raw(each, parts) for each in value])
    return encoded


def _raw(value: Any, parts: dict[str, bytes]) -> Any:
    """A value within another one, or the name of the part that it is."""
    if value is None or isinstance(value, int | float):
        return value
    encoded = _encoded(value, parts)
    if len(encoded) < PART_BYTES:
        return msgspec.Raw(encoded)
    digest = hashlib.blake2b(encoded, digest_size=_DIGEST_CHARS // 2).hexdigest()
    parts[digest] = encoded
    return {NAME: digest}


def _whole(value: Any, parts: Mapping[str, bytes], depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise ValueError(f"stored state: more than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        digest = value.get(NAME)
        if len(value) == 1 and isinstance(digest, str) and len(digest) == _DIGEST_CHARS:
            if digest not in parts:
                raise ValueError(f"stored state: its part {digest} is missing")
            return _whole(_decoded(parts[digest]), parts, depth + 1)
        return {key: _whole(each, parts, depth + 1) for key, each in value.items()}
    if isinstance(value, list) and any(isinstance(each, list | dict) for each in value):
        return [_whole(each, parts, depth + 1) for each in value]
    return value


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"stored state: {error}") from None
