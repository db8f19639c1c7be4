"""Bounded forward reading of a file's header.

Reads go through a window of a few hundred kilobytes, so that the header of a file of many
gigabytes costs little memory. The file is not mapped: a mapped file that shrinks meanwhile would
end the process with SIGBUS.
"""

from __future__ import annotations

import os
import struct
from typing import Any

from fairlead.domain.errors import ModelFileRefused

WINDOW = 256 * 1024


class HeaderReader:
    """Reads little-endian values from `fd`, from offset 0 on, at most up to `limit` bytes.

    Every method raises `ModelFileRefused` when the value would lie beyond the end of the file
    (truncated) or beyond the limit (a header of that size is not believed).
    """

    def __init__(self, fd: int, *, size: int, limit: int, label: str) -> None:
        self._fd = fd
        self._size = size
        self._limit = limit
        self._label = label
        self._window = b""
        self._base = 0  # offset in the file of the window's first byte
        self._at = 0  # next byte, within the window

    @property
    def offset(self) -> int:
        """Bytes of the file used so far."""
        return self._base + self._at

    @property
    def remaining(self) -> int:
        """Bytes of the file that follow, whatever they are."""
        return self._size - self.offset

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        self._need(count)
        start = self._at
        self._at += count
        return self._window[start : self._at]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next values, as many and of such types as the layout has."""
        self._need(layout.size)
        values = layout.unpack_from(self._window, self._at)
        self._at += layout.size
        return values

    def skip(self, count: int) -> None:
        """Pass over bytes without reading them."""
        self._within(count)
        self._at += count
        if self._at > len(self._window):
            self._base += self._at
            self._window, self._at = b"", 0

    def skip_strings(self, count: int) -> None:
        """Pass over strings that each begin with their length as 64 bits."""
        length_of = struct.Struct("<Q").unpack_from
        window, at, last = self._window, self._at, len(self._window) - 8
        for _ in range(count):
            if at > last:
                self._at = at
                self._need(8)
                window, at, last = self._window, self._at, len(self._window) - 8
            (length,) = length_of(window, at)
            at += 8 + length
            if at > last + 8:
                self._at = at - length
                self.skip(length)
                window, at, last = self._window, self._at, len(self._window) - 8
        self._at = at

    def _need(self, count: int) -> None:
        if self._at + count <= len(self._window):
            return
        self._within(count)
        rest = self._window[self._at :]
        self._base += self._at
        self._at = 0
        start = self._base + len(rest)
        wanted = min(max(WINDOW, count) - len(rest), self._size - start)
        parts = [rest]
        while wanted > 0:
            part = os.pread(self._fd, wanted, start)
            if not part:
                break
            parts.append(part)
            start += len(part)
            wanted -= len(part)
        self._window = b"".join(parts)
        if len(self._window) < count:
            raise ModelFileRefused(f"{self._label}: the file became shorter while it was read")

    def _within(self, count: int) -> None:
        end = self.offset + count
        if end > self._size:
            raise ModelFileRefused(
                f"{self._label}: truncated: the header needs {end:,} bytes, "
                f"the file has {self._size:,}",
                hint="download or copy the file again",
            )
        if end > self._limit:
            raise ModelFileRefused(
                f"{self._label}: the header is larger than {self._limit:,} bytes"
            )
