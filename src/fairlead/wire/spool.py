"""The spool's format on disk, shared by its writer (gateway) and its reader (observer).

Each life of a gateway worker has a folder of its own, named by its boot id:

    spool/<boot>/alive            locked (flock) by the worker for as long as it lives
    spool/<boot>/00000001.seg     segments, written in order; only the last one grows

A segment begins with `MAGIC`. Then come frames: length (4 bytes, little endian), CRC-32 of the
payload (4 bytes), payload. A worker killed in the middle of a write leaves at most one broken
frame, at the very end of its last segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

MAGIC = b"FLSPOOL1"
ALIVE_FILE = "alive"
SEGMENT_SUFFIX = ".seg"
PAYLOAD_BYTES_MAX = 1 << 20

_head = struct.Struct("<II")
_pack = _head.pack


class BrokenFrame(Exception):
    """The bytes at `offset` are not a whole, undamaged frame."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"{why} at offset {offset}")
        self.offset = offset


def frame(payload: bytes) -> bytes:
    """One frame around the payload."""
    return _pack(len(payload), crc32(payload)) + payload


def frames(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (offset after the frame, payload) for each whole frame from `offset` on.

    An incomplete last frame ends the iteration; a damaged one raises `BrokenFrame`.
    """
    end = len(data)
    while offset + _head.size <= end:
        length, crc = _head.unpack_from(data, offset)
        start = offset + _head.size
        if length > PAYLOAD_BYTES_MAX:
            raise BrokenFrame(offset, f"frame of {length} bytes")
        if start + length > end:
            return
        payload = data[start : start + length]
        if crc32(payload) != crc:
            raise BrokenFrame(offset, "checksum differs")
        offset = start + length
        yield offset, payload


def segment_name(number: int) -> str:
    """File name of the segment with this number (1 upwards)."""
    return f"{number:08d}{SEGMENT_SUFFIX}"


def segment_number(path: Path) -> int:
    """Number of the segment; raises ValueError when the name is not a segment's."""
    return int(path.name.removesuffix(SEGMENT_SUFFIX))
