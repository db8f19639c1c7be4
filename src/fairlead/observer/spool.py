"""One worker's spool folder on disk: reading on from a cursor, and clearing away.

A worker is dead when the lock on its `alive` file can be taken. A file that is only just there is
left alone for a moment, should a worker make it before it takes the lock.

A worker that cuts off a write which the disk refused goes on in a new segment: a segment that is
shorter than what was read of it is at its end.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fairlead.domain.errors import StorageFailed
from fairlead.observer.sink import SpoolCursor, SpoolWarning
from fairlead.observer.tail import FRAME_BYTES_MAX, Damage, take
from fairlead.wire.record import FeedbackRecord, RequestRecord, SampleRecord
from fairlead.wire.spool import ALIVE_FILE, SEGMENT_SUFFIX, segment_name, segment_number

RECORDS_MAX = 1_000
READ_BYTES = 512 * 1024
READ_BYTES_WIDE = 2 * FRAME_BYTES_MAX
START_GRACE_S = 1.0
WARNINGS_MAX = 5


class Batch(msgspec.Struct, frozen=True):
    """What one read of a spool gave; `cursor` is where to go on once it is kept.

    `seen` is (segment, size) when all of what there was of a growing segment is in this batch.
    """

    requests: list[RequestRecord]
    feedback: list[FeedbackRecord]
    cursor: SpoolCursor
    warnings: list[SpoolWarning]
    seen: tuple[int, int] | None = None
    samples: Sequence[SampleRecord] = ()


class Spool:
    """Reads one worker's folder. The caller keeps each batch, then calls `advance` and `clear`."""

    def __init__(self, folder: Path, cursor: SpoolCursor) -> None:
        self.folder = folder
        self.boot = folder.name
        self.cursor = cursor
        self._dead = False
        self._cleared_below = 0
        self._seen: tuple[int, int] | None = None
        """(segment, size) of a growing segment of which there is nothing more to take."""

    def read(self, now: float) -> Batch | None:
        """The next batch, or None when there is nothing new. `now` is Unix time in seconds.

        Raises StorageFailed when the folder cannot be read.
        """
        if self.cursor.closed:
            return None
        try:
            return self._read(now)
        except OSError as error:
            raise StorageFailed(f"spool {self.folder}: {error.strerror}") from error

    def advance(self, batch: Batch) -> None:
        """Go on behind the batch, and leave the files alone."""
        self.cursor = batch.cursor
        self._seen = batch.seen

    def clear(self, other: SpoolCursor | None = None) -> None:
        """Delete segments that are in the store; of a closed spool everything, and the folder.

        What `other`, a second reader, has not read yet stays. What is not ours is left, and then
        the folder too. Raises StorageFailed when the disk refuses; the cursor holds all the same.
        """
        closed = self.cursor.closed and (other is None or other.closed)
        below = self.cursor.segment if other is None else min(self.cursor.segment, other.segment)
        if below == self._cleared_below and not closed:
            return
        try:
            for number in self._segments():
                if closed or number < below:
                    (self.folder / segment_name(number)).unlink(missing_ok=True)
            if closed:
                (self.folder / ALIVE_FILE).unlink(missing_ok=True)
                self.folder.rmdir()
        except FileNotFoundError:
            return  # someone else removed the folder
        except OSError as error:
            raise StorageFailed(f"spool {self.folder}: {error.strerror}") from error
        self._cleared_below = below

    def _read(self, now: float) -> Batch | None:
        pending = self._pending()
        if not self._dead and self._nothing_new(pending):
            self._dead = self._is_dead(now)
            if not self._dead:
                return None
            pending = self._pending()  # with what it wrote up to its end
        if not pending:
            return Batch([], [], msgspec.structs.replace(self.cursor, closed=True), [])
        return self._read_segment(pending, now)

    def _read_segment(self, pending: list[int], now: float) -> Batch | None:
        number = pending[0]
        gap = number != self.cursor.segment
        offset = 0 if gap else self.cursor.offset
        # `pending` was listed before this read: what had a successor then does not grow any more.
        finished = self._dead or len(pending) > 1
        data, at_end = self._bytes(number, offset, READ_BYTES)
        taken = take(data, offset, final=finished and at_end, records_max=RECORDS_MAX)
        if taken.offset == offset and not at_end:
            data, at_end = self._bytes(number, offset, READ_BYTES_WIDE)
            taken = take(data, offset, final=finished and at_end, records_max=RECORDS_MAX)
        used_up = finished and at_end and not taken.full
        closed = used_up and len(pending) == 1
        exhausted = at_end and not finished and not taken.full
        seen = (number, offset + len(data)) if exhausted else None
        next_segment = used_up and not closed
        cursor = SpoolCursor(
            segment=number + 1 if next_segment else number,
            offset=0 if next_segment else taken.offset,
            complete_until=max(self.cursor.complete_until, taken.complete_until),
            closed=closed,
            broken=self.cursor.broken + len(taken.damages) + gap,
        )
        if cursor == self.cursor:
            self._seen = seen
            return None
        worth_telling = [d for d in taken.damages if not (d.torn and closed)]
        warnings = self._warnings(number, worth_telling, gap=gap, now=now)
        return Batch(taken.requests, taken.feedback, cursor, warnings, seen, taken.samples)

    def _warnings(
        self, number: int, damages: list[Damage], *, gap: bool, now: float
    ) -> list[SpoolWarning]:
        where = f"spool {self.boot}"
        messages = []
        if gap:
            messages.append(
                f"{where}: segment {self.cursor.segment} is missing; going on with {number}"
            )
        messages += [
            f"{where}: segment {number}: {d.why}; skipped {d.end - d.offset} bytes at {d.offset}"
            for d in damages
        ]
        more = len(messages) - WARNINGS_MAX
        if more > 0:
            messages[WARNINGS_MAX:] = [f"{where}: segment {number}: {more} more places are damaged"]
        return [SpoolWarning(now, message) for message in messages]

    def _nothing_new(self, pending: list[int]) -> bool:
        if not pending:
            return True
        return len(pending) == 1 and self._seen == (pending[0], self._size(pending[0]))

    def _is_dead(self, now: float) -> bool:
        try:
            descriptor = os.open(self.folder / ALIVE_FILE, os.O_RDONLY)
        except FileNotFoundError:
            return now - self.folder.stat().st_mtime >= START_GRACE_S
        try:
            if now - os.fstat(descriptor).st_mtime < START_GRACE_S:
                return False
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _segments(self) -> list[int]:
        found = []
        for path in self.folder.iterdir():
            if path.name.endswith(SEGMENT_SUFFIX):
                try:
                    found.append(segment_number(path))
                except ValueError:
                    continue
        return sorted(found)

    def _pending(self) -> list[int]:
        return [number for number in self._segments() if number >= self.cursor.segment]

    def _size(self, number: int) -> int:
        return (self.folder / segment_name(number)).stat().st_size

    def _bytes(self, number: int, offset: int, count: int) -> tuple[bytes, bool]:
        """At most `count` bytes, and whether the segment ends with them."""
        with (self.folder / segment_name(number)).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), count, offset)
        return data, len(data) < count


def spool_folders(spool_dir: Path) -> set[str]:
    """Names of the folders of workers; raises StorageFailed."""
    try:
        with os.scandir(spool_dir) as entries:
            return {
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            }
    except OSError as error:
        raise StorageFailed(f"spool {spool_dir}: {error.strerror}") from error
