"""How much of the spool stays for the archive: what it has not read, up to a bound.

The disk is the gateway's too. So the bound holds whatever the archive does meanwhile: it may fail,
hang, be made anew, or be slower than the traffic. The oldest segments are let go of first, and no
more of them than needed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from fairlead.domain.errors import StorageFailed
from fairlead.observer.sink import SpoolCursor
from fairlead.observer.spool import spool_folders
from fairlead.wire.spool import SEGMENT_SUFFIX, segment_number

LOOK_EVERY_S = 5.0

_log = logging.getLogger(__name__)


class _Segment(msgspec.Struct, frozen=True, order=True):
    written_at: float
    boot: str
    number: int
    bytes: int


class Holding:
    """Says from where on spools wait for the archive; of one thread.

    Args:
        bytes_max: Of segments that wait for the archive at most.
        clock: Seconds that only grow.
    """

    def __init__(
        self, spool_dir: Path, bytes_max: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._dir = spool_dir
        self._bytes_max = bytes_max
        self._clock = clock
        self._look_at = clock() + LOOK_EVERY_S
        self._from: dict[str, SpoolCursor] = {}
        """By boot id: what is before was let go of."""

    def position(self, boot: str, kept: Mapping[str, SpoolCursor]) -> SpoolCursor:
        """From where on this spool waits. `kept` is how far the archive has each, by boot id."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._look(kept)
        cursor, let_go = kept.get(boot, SpoolCursor()), self._from.get(boot)
        if let_go is None or cursor.closed or cursor.segment >= let_go.segment:
            return cursor
        return let_go

    def _look(self, kept: Mapping[str, SpoolCursor]) -> None:
        try:
            found = spool_folders(self._dir)
        except StorageFailed:
            return  # the observer says so
        first = {boot: cursor.segment for boot, cursor in self._from.items() if boot in found}
        segments = [each for boot in found for each in self._segments(boot)]
        waiting = []
        for each in segments:
            cursor = kept.get(each.boot, SpoolCursor())
            if not cursor.closed and each.number >= max(cursor.segment, first.get(each.boot, 0)):
                waiting.append(each)
        self._let_go(waiting, first)
        last: dict[str, int] = {}
        for each in segments:
            last[each.boot] = max(last.get(each.boot, 0), each.number)
        self._from = {
            boot: SpoolCursor(segment=number, closed=number > last.get(boot, 0))
            for boot, number in first.items()
        }

    def _let_go(self, waiting: list[_Segment], first: dict[str, int]) -> None:
        """Move on in the oldest until the rest is within the bound."""
        total = sum(each.bytes for each in waiting)
        lost: list[_Segment] = []
        for each in sorted(waiting):
            if total <= self._bytes_max:
                break
            first[each.boot] = max(first.get(each.boot, 0), each.number + 1)
            total -= each.bytes
            lost.append(each)
        if lost:
            _log.warning(
                "telemetry: too much waits in the spool; the oldest %d segments (%d bytes) do so"
                " no longer, and their records are lost to it",
                len(lost),
                sum(each.bytes for each in lost),
            )

    def _segments(self, boot: str) -> Iterator[_Segment]:
        try:
            with os.scandir(self._dir / boot) as entries:
                for entry in entries:
                    if entry.name.endswith(SEGMENT_SUFFIX):
                        found = entry.stat(follow_symlinks=False)
                        number = segment_number(Path(entry.name))
                        yield _Segment(found.st_mtime, boot, number, found.st_size)
        except (OSError, ValueError):
            return  # it is going just now, or is none of ours
