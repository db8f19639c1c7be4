"""Decoding bytes that may be damaged or hostile, with one kind of error for all that is wrong.

msgspec raises `UnicodeDecodeError` for text that is not UTF-8 and `RecursionError` for what is
nested too deep, neither of which is a `msgspec.DecodeError`. A reader that forgets them fails on a
single flipped byte, so bytes from a disk or a peer are decoded through here.

Nor may two threads meet a type for the first time at once: what msgspec learns of a struct is
seen half made by the other, and the process ends with a segmentation fault (seen with
0.22). Here one thread after the other meets what is new.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_meeting = threading.Lock()


def decode_json(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """JSON bytes as `kind`; raises `msgspec.DecodeError` (or its `ValidationError`) only."""
    try:
        return cast(T, _decoder(kind).decode(data))
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"cannot be read: {error}") from None


def decode_with(decoder: msgspec.msgpack.Decoder[T] | msgspec.json.Decoder[T], data: bytes) -> T:
    """The same with a decoder made beforehand, for MessagePack as well."""
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"cannot be read: {error}") from None


def convert(value: Any, kind: type[T]) -> T:
    """What JSON's types hold as `kind`; raises `msgspec.ValidationError`."""
    _decoder(kind)
    return msgspec.convert(value, kind)


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    found = _decoders.get(kind)
    if found is None:
        with _meeting:
            found = _decoders[kind] = msgspec.json.Decoder(kind)
    return found
