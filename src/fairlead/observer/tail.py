"""Bytes of a segment in, records and the new offset out. No I/O.

Damage: when the bytes at an offset are no frame, or its payload no record, the reader looks for
the next offset at which a whole frame with a good checksum holds a record, and goes on there; what
lies between counts as one broken frame. So a write that the disk cut short costs the records in it
and nothing behind it. As long as a segment may still grow, nothing is given up before something
good is found behind it: an incomplete last frame is simply not there yet.
"""

from __future__ import annotations

import math
import struct
import zlib

import msgspec

from fairlead.wire.record import FeedbackRecord, Record, RequestRecord, SampleRecord, decode_record
from fairlead.wire.spool import MAGIC, PAYLOAD_BYTES_MAX, BrokenFrame, frames

FRAME_BYTES_MAX = 8 + PAYLOAD_BYTES_MAX

_head = struct.Struct("<II")
_INTEGER_MAX = 2**63 - 1


class Damage(msgspec.Struct, frozen=True):
    """Bytes [offset, end) of the segment hold no record. `torn`: they run to the segment's end."""

    offset: int
    end: int
    why: str
    torn: bool = False


class Taken(msgspec.Struct):
    """What was read.

    Attributes:
        offset: Where in the segment to read on.
        complete_until: From the last progress record that was read; 0.0 for none.
        full: It stopped because there were enough records; there may be more in the same bytes.
    """

    offset: int
    requests: list[RequestRecord] = []
    feedback: list[FeedbackRecord] = []
    samples: list[SampleRecord] = []
    complete_until: float = 0.0
    damages: list[Damage] = []
    full: bool = False

    def add(self, record: Record) -> None:
        """Put a record where it belongs."""
        if isinstance(record, RequestRecord):
            self.requests.append(record)
        elif isinstance(record, FeedbackRecord):
            self.feedback.append(record)
        elif isinstance(record, SampleRecord):
            self.samples.append(record)
        else:
            self.complete_until = max(self.complete_until, record.complete_until)

    @property
    def count(self) -> int:
        """Records that go into the store."""
        return len(self.requests) + len(self.feedback) + len(self.samples)


def take(data: bytes, start: int, *, final: bool, records_max: int) -> Taken:
    """Read the bytes of a segment from offset `start` on.

    `final` says that `data` reaches the end of a segment to which nothing will be written any
    more: then all of it is used up, unless there were `records_max` requests and feedback before.
    """
    taken = Taken(offset=start)
    at, why = _after_magic(data) if start == 0 else (0, None)
    while True:
        if why is None:
            at, why = _take_frames(data, at, taken, records_max)
        if taken.full or (why is None and (at == len(data) or not final)):
            break
        resumed = _next_record(data, at + 1)
        if resumed is None and not final:
            # A record may still come, or may begin in the last bytes that one frame can have.
            at = max(at, len(data) - FRAME_BYTES_MAX)
            break
        end = len(data) if resumed is None else resumed
        taken.damages.append(
            Damage(start + at, start + end, why or "incomplete frame", torn=resumed is None)
        )
        at, why = end, None
    taken.offset = start + at
    return taken


def _after_magic(data: bytes) -> tuple[int, str | None]:
    if data.startswith(MAGIC):
        return len(MAGIC), None
    return 0, None if MAGIC.startswith(data) else "no segment of a spool"


def _take_frames(data: bytes, at: int, taken: Taken, records_max: int) -> tuple[int, str | None]:
    """Take whole frames from `at` on: (offset reached, what is wrong there or None)."""
    try:
        for after, payload in frames(data, at):
            record = _decode(payload)
            if record is None:
                return at, "a frame without a record"
            taken.add(record)
            at = after
            if taken.count >= records_max:
                taken.full = True
                break
    except BrokenFrame as broken:
        return at, str(broken)
    return at, None


def _next_record(data: bytes, at: int) -> int | None:
    """The first offset from `at` on where a whole frame holds a record."""
    for offset in range(at, len(data) - _head.size):
        if data[offset + 3]:
            continue  # longer than a frame may be
        length, checksum = _head.unpack_from(data, offset)
        payload = data[offset + _head.size : offset + _head.size + length]
        if (
            0 < length == len(payload) <= PAYLOAD_BYTES_MAX
            and zlib.crc32(payload) == checksum
            and _decode(payload) is not None
        ):
            return offset
    return None


def _decode(payload: bytes) -> Record | None:
    """The record, or None when it is none or has numbers that no store can keep."""
    try:
        record = decode_record(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if isinstance(record, RequestRecord):
        measured = record.rho + record.started_at + record.ttft_ms
        measured += record.itl_ms + record.duration_ms + record.cost_usd
        counted = (
            record.phase,
            record.status,
            record.prompt_tokens,
            record.completion_tokens,
            record.attempts,
            record.refused,
            record.malformed,
            record.guardrail_hits,
            record.stratum,
        )
        fits = min(counted) >= -_INTEGER_MAX and max(counted) <= _INTEGER_MAX
    elif isinstance(record, FeedbackRecord):
        measured, fits = record.value + record.at, True
    elif isinstance(record, SampleRecord):
        measured, fits = record.at + record.keep_until, True
    else:
        measured, fits = record.at + record.complete_until, True
    return record if fits and math.isfinite(measured) else None
