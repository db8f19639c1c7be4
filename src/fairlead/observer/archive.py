"""A second reader of the spool: it takes all records into a long-term archive, in a thread.

It has cursors of its own, which the archive keeps together with the records. So it neither waits
for the store nor holds it up, and each of them has every record once, whatever fails and whenever
the process is killed. What is in the store stays in the spool until the archive has it too, up to
a bound (`holding`). Whatever goes wrong with the archive, it is tried again, and the rest waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from fairlead.domain.errors import FairleadError, StorageFailed
from fairlead.domain.recorded import Cursor
from fairlead.observer.holding import Holding
from fairlead.observer.sink import SpoolCursor
from fairlead.observer.spool import Spool, spool_folders
from fairlead.wire.record import FeedbackRecord, RequestRecord
from fairlead.wire.spool import ALIVE_FILE

PORTION = 20_000
"""Records that are taken in at once, about."""
BACK_OFF_S_MAX = 30.0

_log = logging.getLogger(__name__)


class Archive(Protocol):
    """Where records go for the long term. Each method raises FairleadError, and has done nothing.

    It is made and used in one thread; only `interrupt` is called from another one.
    """

    def positions(self) -> Mapping[str, Cursor]:
        """How far each spool has been taken in, by boot id."""
        ...

    def take_in(
        self,
        requests: Sequence[RequestRecord],
        feedback: Sequence[FeedbackRecord],
        positions: Mapping[str, SpoolCursor],
        forget: Sequence[str] = (),
    ) -> int:
        """Keep records together with how far the spools were read; how many were new."""
        ...

    def step(self) -> bool:
        """Do some upkeep; whether there is more to do."""
        ...

    def interrupt(self) -> None:
        """Have the call that is under way end soon, with an error."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class ArchiveSettings(msgspec.Struct, frozen=True):
    """How the archive is filled.

    Attributes:
        every_s: Seconds between two portions while there is little to do.
        held_bytes_max: Bytes of spool that wait for the archive at most. Beyond that it loses
            the oldest records of them, with a warning.
    """

    every_s: float = 10.0
    held_bytes_max: int = 1 << 30


class _Portion(msgspec.Struct):
    requests: list[RequestRecord] = []
    feedback: list[FeedbackRecord] = []
    positions: dict[str, SpoolCursor] = {}

    @property
    def is_full(self) -> bool:
        return len(self.requests) + len(self.feedback) >= PORTION


class Archivist:
    """Reads spools into an archive. `kept` may be read by any thread, the rest is for one.

    Attributes:
        kept: How far the archive has each spool, by boot id.
    """

    def __init__(self, spool_dir: Path, archive: Archive, *, clock: Callable[[], float]) -> None:
        self._dir = spool_dir
        self._archive = archive
        self._clock = clock
        self._spools: dict[str, Spool] | None = None
        self.kept: Mapping[str, SpoolCursor] = {}

    def take_in(self) -> bool:
        """One portion; whether it was a full one, so that there is more. Raises FairleadError."""
        try:
            return self._take_in()
        except FairleadError:
            self._spools = None  # read again from where the archive is
            raise

    def _take_in(self) -> bool:
        spools, gone = self._list()
        portion = _Portion()
        for spool in spools.values():
            try:
                self._read(spool, portion)
            except StorageFailed as trouble:  # does not hold up the others
                _log.warning("telemetry: %s", trouble.one_line)
        if portion.positions or gone:
            self._archive.take_in(portion.requests, portion.feedback, portion.positions, gone)
            kept = {**self.kept, **portion.positions}
            self.kept = {boot: cursor for boot, cursor in kept.items() if boot not in gone}
        return portion.is_full

    def _read(self, spool: Spool, portion: _Portion) -> None:
        while not portion.is_full and (batch := spool.read(self._clock())) is not None:
            portion.requests += batch.requests
            portion.feedback += batch.feedback
            portion.positions[spool.boot] = batch.cursor
            spool.advance(batch)

    def _list(self) -> tuple[dict[str, Spool], list[str]]:
        """Spools there are, and boot ids of those that are gone."""
        if self._spools is None:
            kept = {boot: own_cursor(cursor) for boot, cursor in self._archive.positions().items()}
            self.kept = kept
            self._spools = {boot: Spool(self._dir / boot, cursor) for boot, cursor in kept.items()}
        found = spool_folders(self._dir)
        gone = [boot for boot in self._spools if boot not in found]
        for boot in gone:
            del self._spools[boot]
        for boot in sorted(found - self._spools.keys()):
            self._spools[boot] = Spool(self._dir / boot, SpoolCursor())
        return self._spools, gone


class ArchiveThread:
    """Fills the archive beside the observer's own work.

    Args:
        opened: Makes the archive, in the thread that will use it.
    """

    def __init__(
        self,
        spool_dir: Path,
        opened: Callable[[], Archive],
        settings: ArchiveSettings | None = None,
    ) -> None:
        self._dir = spool_dir
        self._opened = opened
        self._settings = settings or ArchiveSettings()
        self._holding = Holding(spool_dir, self._settings.held_bytes_max)
        self._archive: Archive | None = None
        self._kept: Callable[[], Mapping[str, SpoolCursor]] = dict
        self._pause = self._settings.every_s
        self._stopping = threading.Event()
        self._tidying = False
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def position(self, boot: str) -> SpoolCursor:
        """From where on this spool waits for the archive; for the observer's thread."""
        return self._holding.position(boot, self._kept())

    def complete_until(self, boots: Collection[str]) -> float:
        """Unix time in seconds; what began before it in these spools is in the archive.

        0 while the archive is not open. A spool that it has not met is as old as its lock.
        """
        if self._archive is None:
            return 0.0
        kept = self._kept()
        known = (kept.get(boot) for boot in boots)
        until = [
            _born_at(self._dir / boot) if cursor is None else cursor.complete_until
            for boot, cursor in zip(boots, known, strict=True)
            if cursor is None or not cursor.closed
        ]
        return min(until, default=time.time())

    def finish(self, seconds: float) -> bool:
        """Take in what is left, for that long at most; whether it has ended."""
        self._stopping.set()
        if self._thread.ident is None:  # never begun
            return True
        if self._tidying:
            self._interrupt()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._interrupt()
            self._thread.join(1.0)
        return not self._thread.is_alive()

    def _interrupt(self) -> None:
        archive = self._archive
        if archive is not None:
            archive.interrupt()

    def _run(self) -> None:
        while True:
            try:
                self._archive = self._opened()
                try:
                    self._fill(self._archive)
                finally:
                    archive, self._archive = self._archive, None
                    archive.close()
                return
            except FairleadError as trouble:
                _log.warning("telemetry waits: %s", trouble.one_line)
            except Exception:  # noqa: BLE001 - the spool is not held for a thread that is gone
                _log.exception("telemetry waits, and is opened again, after a defect")
            if self._stopping.wait(self._pause):
                return
            self._back_off()

    def _fill(self, archive: Archive) -> None:
        archivist = Archivist(self._dir, archive, clock=time.time)
        self._kept = lambda: archivist.kept
        while True:
            last = self._stopping.is_set()
            due = time.monotonic() + self._settings.every_s
            try:
                more = archivist.take_in()
                if not more and not last:
                    self._tidy(archive, due)
                self._pause = self._settings.every_s
            except FairleadError as trouble:
                if not self._stopping.is_set() or last:
                    _log.warning("telemetry waits: %s", trouble.one_line)
                more = False
                self._back_off()
                due = time.monotonic() + self._pause
            if last and not more:
                return
            if not more:
                self._stopping.wait(max(0.0, due - time.monotonic()))

    def _back_off(self) -> None:
        self._pause = min(2 * self._pause, BACK_OFF_S_MAX)

    def _tidy(self, archive: Archive, due: float) -> None:
        """Upkeep until there is none left, or the next portion is due."""
        self._tidying = True
        try:
            while not self._stopping.is_set() and archive.step():
                if time.monotonic() >= due:
                    return
        finally:
            self._tidying = False


def _born_at(folder: Path) -> float:
    """Unix time in seconds at which its worker made it; now where it is going just now."""
    try:
        return (folder / ALIVE_FILE).stat().st_mtime
    except OSError:
        return time.time()


def own_cursor(cursor: Cursor) -> SpoolCursor:
    """A cursor as someone keeps it, as the observer's."""
    return SpoolCursor(
        segment=cursor.segment,
        offset=cursor.offset,
        complete_until=cursor.complete_until,
        closed=cursor.closed,
        broken=cursor.broken,
    )
