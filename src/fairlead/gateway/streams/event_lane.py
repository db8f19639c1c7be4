"""The short way of a stream's events, from the replica's connection to the client's.

Nearly all reads of a stream are whole chunks of whole, ordinary events. Whoever is next to see them
wants nothing of them but their number, so they go on with the chunk framing that they came in. All
else (an event in two reads, usage, an error, the end) takes the way through the parser.
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.gateway.bulkhead import Bulkhead
from fairlead.gateway.streams.batching import Batches

_CRLF = b"\r\n"
_NO_SIZE = b"-"
_SIZES_END = 4096
_SIZES = [_NO_SIZE, *(b"%x" % size for size in range(1, _SIZES_END))]
"""Sizes of chunks as they are written; the empty one, which ends an answer, has none here."""


class EventLane(Bulkhead):
    """The way of one answer's events.

    Args:
        take: Passes on a body in its chunks; False when that has to be looked into
            (`StreamRelay.pass_straight`).
        batches: Says when reads have to wait for each other.
        end_defective: Ends the request, whose own its defects are.
    """

    __slots__ = ("_end_defective", "batches", "take")

    def __init__(
        self,
        take: Callable[[bytes, bytes], bool],
        batches: Batches,
        end_defective: Callable[[Exception], None],
    ) -> None:
        self.take = take
        self.batches = batches
        self._end_defective = end_defective

    def on_defect(self, error: Exception) -> None:
        self._end_defective(error)


def body_of(data: bytes) -> bytes | None:
    """What is in the chunks, when these are exactly whole chunks, none of them the last; else None.

    May be None for whole chunks of unusual form, too: large ones, or such with a CRLF inside.
    """
    parts = data.split(_CRLF)
    if parts.pop():
        return None
    if len(parts) == 2:
        size, body = parts
        is_whole = len(body) < _SIZES_END and size.lower() == _SIZES[len(body)]
        return body if is_whole else None
    sizes, bodies = parts[::2], parts[1::2]
    try:
        expected = [_SIZES[len(body)] for body in bodies]
    except IndexError:
        return None
    if sizes != expected and [size.lower() for size in sizes] != expected:
        return None
    return b"".join(bodies)
