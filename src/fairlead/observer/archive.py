"""A second reader of the spool: it takes all records into a long-term archive, in a thread.

It has cursors of its own, which the archive keeps together with the records. So it neither waits
for the store nor holds it up, and each of them has every record once, whatever fails and whenever
the process is killed. What is in the store stays in the spool until the archive has it too, up to
a bound: an archive that cannot be written must not fill the disk from which the gateway lives.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from fairlead.domain.errors import FairleadError, StorageFailed
from fairlead.observer.sink import KeptCursor, SpoolCursor
from fairlead.observer.spool import Spool
from fairlead.wire.record import FeedbackRecord, RequestRecord

PORTION = 20_000
"""Records that are taken in at once, about."""
BACK_OFF_S_MAX = 30.0

_log = logging.getLogger(__name__)


class Archive(Protocol):
    """Where records go for the long term. Each method raises FairleadError, and has done nothing.

    It is made and used in one thread; only `interrupt` is called from another one.
    """

    def positions(self) -> Mapping[str, KeptCursor]:
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
            records that the store has, with a warning.
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
    """Reads spools into an archive. `position` may be asked by any thread, the rest is for one."""

    def __init__(
        self,
        spool_dir: Path,
        archive: Archive,
        settings: ArchiveSettings,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._dir = spool_dir
        self._archive = archive
        self._settings = settings
        self._clock = clock
        self._spools: dict[str, Spool] | None = None
        self._kept: Mapping[str, SpoolCursor] = {}
        self._gives_up = False

    def position(self, boot: str) -> SpoolCursor | None:
        """What of this spool the archive has; None when it does not want the rest."""
        return None if self._gives_up else self._kept.get(boot, SpoolCursor())

    def take_in(self) -> bool:
        """One portion; whether it was a full one, so that there is more. Raises FairleadError."""
        troubled = True
        try:
            full, troubled = self._take_in()
        except FairleadError:
            self._spools = None  # read again from where the archive is
            raise
        finally:
            self._bound(troubled)
        return full

    def _take_in(self) -> tuple[bool, bool]:
        """Whether the portion was full, and whether a spool could not be read."""
        spools, gone = self._list()
        portion, troubled = _Portion(), False
        for spool in spools.values():
            try:
                self._read(spool, portion)
            except StorageFailed as trouble:  # does not hold up the others
                _log.warning("telemetry: %s", trouble.one_line)
                troubled = True
        if portion.positions or gone:
            self._archive.take_in(portion.requests, portion.feedback, portion.positions, gone)
            kept = {**self._kept, **portion.positions}
            self._kept = {boot: cursor for boot, cursor in kept.items() if boot not in gone}
        return portion.is_full, troubled

    def _read(self, spool: Spool, portion: _Portion) -> None:
        while not portion.is_full and (batch := spool.read(self._clock())) is not None:
            portion.requests += batch.requests
            portion.feedback += batch.feedback
            portion.positions[spool.boot] = batch.cursor
            spool.advance(batch)

    def _bound(self, troubled: bool) -> None:
        """Let go of what waits when that is too much, and nothing gets better."""
        over = troubled and self._held_bytes() > self._settings.held_bytes_max
        if over and not self._gives_up:
            _log.warning("telemetry: too much waits in the spool; records are lost to it")
        self._gives_up = over

    def _list(self) -> tuple[dict[str, Spool], list[str]]:
        """Spools there are, and boot ids of those that are gone."""
        if self._spools is None:
            kept = {boot: own_cursor(cursor) for boot, cursor in self._archive.positions().items()}
            self._kept = kept
            self._spools = {boot: Spool(self._dir / boot, cursor) for boot, cursor in kept.items()}
        found = spool_folders(self._dir)
        gone = [boot for boot in self._spools if boot not in found]
        for boot in gone:
            del self._spools[boot]
        for boot in sorted(found - self._spools.keys()):
            self._spools[boot] = Spool(self._dir / boot, SpoolCursor())
        return self._spools, gone

    def _held_bytes(self) -> int:
        total = 0
        try:
            for boot in spool_folders(self._dir):
                with os.scandir(self._dir / boot) as entries:
                    total += sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        except (OSError, StorageFailed):
            return total
        return total


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
        self._archive: Archive | None = None
        self._archivist: Archivist | None = None
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._tidying = False
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def position(self, boot: str) -> SpoolCursor | None:
        """What of this spool the archive has; None when nothing needs to wait for it."""
        if self._ended.is_set():
            return None
        archivist = self._archivist
        return SpoolCursor() if archivist is None else archivist.position(boot)

    def finish(self, seconds: float) -> None:
        """Take in what is left, for that long at most, and end."""
        self._stopping.set()
        if self._tidying and self._archive is not None:
            self._archive.interrupt()
        self._thread.join(seconds)
        if self._thread.is_alive() and self._archive is not None:
            self._archive.interrupt()
            self._thread.join(1.0)

    def _run(self) -> None:
        try:
            self._archive = self._open()
            if self._archive is not None:
                try:
                    self._fill(self._archive)
                finally:
                    self._archive.close()
        finally:
            # Nothing waits for a thread that is no more; an unforeseen error is in the log.
            self._ended.set()

    def _open(self) -> Archive | None:
        pause = self._settings.every_s
        while not self._stopping.is_set():
            try:
                return self._opened()
            except StorageFailed as trouble:
                _log.warning("telemetry: %s", trouble.one_line)
                self._stopping.wait(pause)
                pause = min(2 * pause, BACK_OFF_S_MAX)
            except FairleadError as trouble:
                _log.warning("telemetry is off until the next start: %s", trouble.one_line)
                return None
        return None

    def _fill(self, archive: Archive) -> None:
        archivist = self._archivist = Archivist(self._dir, archive, self._settings, clock=time.time)
        pause = self._settings.every_s
        while True:
            last = self._stopping.is_set()
            try:
                more = archivist.take_in()
                if not more and not last:
                    more = self._tidy(archive)
                pause = self._settings.every_s
            except FairleadError as trouble:
                if not self._stopping.is_set() or last:
                    _log.warning("telemetry waits: %s", trouble.one_line)
                more = False
                pause = min(2 * pause, BACK_OFF_S_MAX)
            if last and not more:
                return
            if not more:
                self._stopping.wait(pause)

    def _tidy(self, archive: Archive) -> bool:
        self._tidying = True
        try:
            return archive.step()
        finally:
            self._tidying = False


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


def own_cursor(cursor: KeptCursor) -> SpoolCursor:
    """A cursor as someone keeps it, as the observer's."""
    return SpoolCursor(
        segment=cursor.segment,
        offset=cursor.offset,
        complete_until=cursor.complete_until,
        closed=cursor.closed,
        broken=cursor.broken,
    )
