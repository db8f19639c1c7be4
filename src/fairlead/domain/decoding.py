"""Decoding bytes that may be damaged or hostile, with one kind of error for all that is wrong.

msgspec raises `UnicodeDecodeError` for text that is not UTF-8 and `RecursionError` for what is
nested too deep, neither of which is a `msgspec.DecodeError`. A reader that forgets them fails on a
single flipped byte, so bytes from a disk or a peer are decoded through here.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode_json(data: bytes, kind: type[T]) -> T:
    """JSON bytes as `kind`; raises `msgspec.DecodeError` (or its `ValidationError`) only."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"cannot be read: {error}") from None


def decode_with(decoder: msgspec.msgpack.Decoder[T] | msgspec.json.Decoder[T], data: bytes) -> T:
    """The same with a decoder made beforehand, for MessagePack as well."""
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"cannot be read: {error}") from None
