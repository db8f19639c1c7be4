"""The observer process: spool to store, in small transactions, for as long as it is wanted.

A pass takes one batch from each spool in turn. Between reading a batch and keeping it, the spool
folders are listed again and new ones made known to the store: a worker that comes up later than
that has no request that began before the times up to which the batch says that all is recorded. So
the store's watermark is right without a common clock. Killed at any moment, the next life goes on
from the cursors that were kept in the same transactions as the records.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from fairlead.domain.errors import FairleadError, StorageFailed, Unavailable
from fairlead.observer.archive import ArchiveThread, own_cursor
from fairlead.observer.process import give_back_memory, has_parent, wake_when_parent_ends
from fairlead.observer.sink import Sink, SpoolCursor, SpoolWarning
from fairlead.observer.spool import Batch, Spool, spool_folders
from fairlead.observer.standing import StandingFile, Taken
from fairlead.wire.record import RequestRecord

if TYPE_CHECKING:
    from fairlead.observer.otlp import SpanSender

LOCK_FILE = "observer.lock"
BACK_OFF_S_MAX = 5.0
SAME_TROUBLE_LOGGED_EVERY_S = 10.0
PRUNE_EVERY_S = 3600.0
PRUNE_AGAIN_AFTER_S = 1.0
FORGET_EVERY_S = 30.0
"""Seconds between two looks for samples that must not be kept any more."""

_log = logging.getLogger(__name__)


class ObserverSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the observer runs.

    Attributes:
        spool_dir: Folder with one folder per worker life.
        store_url: The store, for whoever opens it; the observer itself is handed a sink.
        parent_pid: It ends when this process is no longer its parent; 0 for a life of its own.
        poll_s: Seconds between looks at the spool while there is nothing new.
        retention_s: Seconds for which records are kept; 0 keeps them for ever.
        drain_s: Seconds in which it takes in what is left when it is told to stop.
        standing_file: Where it writes down how far it is, for others; empty for nowhere.
    """

    spool_dir: str
    store_url: str
    parent_pid: int = 0
    poll_s: float = 0.1
    retention_s: float = 90 * 86_400.0
    drain_s: float = 5.0
    standing_file: str = ""


class Observer:
    """Takes what is new in the spool into the sink. One at a time per spool folder.

    Args:
        clock: Unix time in seconds.
        archived: How far a second reader has read a spool, by boot id; None when nothing of it
            needs to wait for that one.
        on_kept: Is given the requests that the sink has.

    Attributes:
        taken: What the sink has been given in this life.
    """

    def __init__(
        self,
        spool_dir: Path,
        sink: Sink,
        *,
        clock: Callable[[], float],
        archived: Callable[[str], SpoolCursor | None] = lambda _: None,
        on_kept: Callable[[Sequence[RequestRecord]], None] = lambda _: None,
    ) -> None:
        self._dir = spool_dir
        self._sink = sink
        self._clock = clock
        self._archived = archived
        self._on_kept = on_kept
        self._held: dict[str, Spool] = {}
        """In the sink to their end, and wait for the second reader."""
        self._spools: dict[str, Spool] | None = None
        self._done: set[str] = set()
        self._troubles = _Troubles(clock)
        self.taken = Taken()

    def take_in(self, go_on: Callable[[], bool]) -> bool:
        """One batch of each spool; whether there was any. Stops between batches if not `go_on`.

        Raises Unavailable or StorageFailed when the sink or the spool folder as a whole does; a
        single spool that cannot be read is logged and does not hold up the others.
        """
        progress = False
        for spool in [*(self._spools or {}).values(), *self._held.values()]:
            self._release(spool)
        for spool in self._list():
            if not go_on():
                break
            try:
                batch = spool.read(self._clock())
            except StorageFailed as trouble:
                self._troubles.tell(trouble)
                continue
            if batch is not None:
                self._list()
                self._keep(spool, batch)
                progress = True
        return progress

    def _keep(self, spool: Spool, batch: Batch) -> None:
        now = self._clock()
        # What lay in the spool for longer than it may be kept is not kept at all.
        samples = [sample for sample in batch.samples if sample.keep_until > now]
        self._sink.ingest(
            spool.boot, batch.requests, batch.feedback, batch.cursor, batch.warnings, samples
        )
        for warning in batch.warnings:
            _log.warning("%s", warning.message)
        self._on_kept(batch.requests)
        self.taken.add(batch, batch.cursor.broken - spool.cursor.broken)
        spool.advance(batch)
        if batch.cursor.closed:
            assert self._spools is not None
            self._held[spool.boot] = self._spools.pop(spool.boot)
        self._release(spool)

    def _list(self) -> list[Spool]:
        """All spools there are, each known to the store."""
        if self._spools is None:
            self._spools = {
                boot: Spool(self._dir / boot, own_cursor(cursor))
                for boot, cursor in self._sink.open_spools().items()
            }
        found = spool_folders(self._dir)
        self._done &= found
        for boot in sorted(found - self._spools.keys() - self._held.keys() - self._done):
            spool = Spool(self._dir / boot, own_cursor(self._sink.open_spool(boot)))
            if spool.cursor.closed:  # the last life ended between keeping and clearing away
                self._held[boot] = spool
                self._release(spool)
            else:
                self._spools[boot] = spool
        for boot in self._spools.keys() - found:
            self._close_vanished(self._spools[boot])
        return list(self._spools.values())

    def _close_vanished(self, spool: Spool) -> None:
        """A folder that someone removed would else hold back the watermark for ever."""
        message = f"spool {spool.boot}: its folder is gone; records in it may be lost"
        cursor = msgspec.structs.replace(spool.cursor, closed=True)
        self._keep(spool, Batch([], [], cursor, [SpoolWarning(self._clock(), message)]))

    def _release(self, spool: Spool) -> None:
        """Clear away what the second reader, too, has read by now."""
        other = self._archived(spool.boot)
        try:
            spool.clear(other)
        except StorageFailed as trouble:  # it is kept; only clearing away did not work
            self._troubles.tell(trouble)
        if spool.cursor.closed and (other is None or other.closed):
            self._held.pop(spool.boot, None)
            self._done.add(spool.boot)


class _Troubles:
    """Logs what goes wrong, at most every ten seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told_at = float("-inf")

    def tell(self, trouble: Exception) -> None:
        now = self._clock()
        if abs(now - self._told_at) >= SAME_TROUBLE_LOGGED_EVERY_S:
            self._told_at = now
            _log.warning("records wait in the spool: %s", trouble)


class _Wish:
    """Whether the process is still wanted; wakes its one thread when that changes."""

    def __init__(self, settings: ObserverSettings) -> None:
        self._parent_pid = settings.parent_pid
        self._told = False
        self._woken = threading.Event()

    def install(self) -> None:
        """React to signals. With a parent, SIGINT is the parent's affair: it stops us in order."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN if self._parent_pid else self._stop)
        if self._parent_pid:
            signal.signal(signal.SIGHUP, self._wake)
            wake_when_parent_ends(signal.SIGHUP)

    def holds(self) -> bool:
        return not self._told and (not self._parent_pid or has_parent(self._parent_pid))

    def wait(self, seconds: float) -> None:
        """Return after that time, or at once when something may have changed."""
        self._woken.wait(seconds)
        self._woken.clear()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._told = True
        self._woken.set()

    def _wake(self, _number: int, _frame: FrameType | None) -> None:
        self._woken.set()


def run(
    settings: ObserverSettings,
    sink: Sink,
    archive: ArchiveThread | None = None,
    spans: SpanSender | None = None,
) -> None:
    """Observe until SIGTERM, or until the parent is gone; then take in what is left, and return.

    The archive, if there is one, is filled meanwhile, and spans are sent.

    A sink that is unavailable and a full disk are waited out: the records stay in the spool.
    Other errors of this project end the process. Must be called in the main thread.
    """
    wish = _Wish(settings)
    wish.install()
    spool_dir = Path(settings.spool_dir)
    lock = _lock(spool_dir, wish, settings.poll_s)
    if lock is None:
        return
    give_back_memory()
    try:
        observer, standing = _begin(settings, sink, archive, spans)
        _observe(observer, sink, settings, wish, standing)
        _drain(observer, settings.drain_s)
        if spans is not None:
            spans.finish(settings.drain_s)
        standing.tell(observer.taken, at_once=True)
    finally:
        # A thread that still writes keeps the lock: it ends with the process.
        if archive is None or archive.finish(settings.drain_s):
            os.close(lock)


def _begin(
    settings: ObserverSettings,
    sink: Sink,
    archive: ArchiveThread | None,
    spans: SpanSender | None,
) -> tuple[Observer, StandingFile]:
    """Start what runs beside it, and put it together."""
    spool_dir = Path(settings.spool_dir)
    path = Path(settings.standing_file) if settings.standing_file else None
    for beside in (archive, spans):
        if beside is not None:
            beside.start()
    observer = Observer(
        spool_dir,
        sink,
        clock=time.time,
        archived=(lambda _: None) if archive is None else archive.position,
        on_kept=(lambda _: None) if spans is None else spans.offer,
    )
    standing = StandingFile(
        path,
        spool_dir,
        None if archive is None else archive.complete_until,
        dict if spans is None else lambda: dict(spans.counts),
    )
    return observer, standing


def _observe(
    observer: Observer,
    sink: Sink,
    settings: ObserverSettings,
    wish: _Wish,
    standing: StandingFile,
) -> None:
    troubles = _Troubles(time.time)
    pause = settings.poll_s
    prune_at = forget_at = time.monotonic()
    while wish.holds():
        standing.tell(observer.taken)
        try:
            progress = observer.take_in(wish.holds)
            if time.monotonic() >= forget_at:
                more = sink.prune_samples(time.time()) > 0
                forget_at = time.monotonic() + (PRUNE_AGAIN_AFTER_S if more else FORGET_EVERY_S)
            if settings.retention_s and time.monotonic() >= prune_at:
                more = sink.prune(time.time() - settings.retention_s) > 0
                prune_at = time.monotonic() + (PRUNE_AGAIN_AFTER_S if more else PRUNE_EVERY_S)
        except (Unavailable, StorageFailed) as trouble:
            troubles.tell(trouble)
            standing.failures += 1
            wish.wait(pause)
            pause = min(2 * pause, BACK_OFF_S_MAX)
            continue
        pause = settings.poll_s
        if not progress:
            wish.wait(settings.poll_s)


def _drain(observer: Observer, seconds: float) -> None:
    """Take in what is there, so that a stopped installation shows all it has served."""
    deadline = time.monotonic() + seconds

    def go_on() -> bool:
        return time.monotonic() < deadline

    try:
        while go_on() and observer.take_in(go_on):
            pass
    except FairleadError as trouble:
        _log.warning("records stay in the spool until the next start: %s", trouble)


def _lock(spool_dir: Path, wish: _Wish, poll_s: float) -> int | None:
    """Wait for the lock of the one observer; None when no longer wanted before it was free."""
    try:
        spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(spool_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageFailed(f"spool {spool_dir}: {error.strerror}") from error
    told = False
    while wish.holds():
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                told = True
                _log.warning("another observer is at work on %s; waiting for its end", spool_dir)
            wish.wait(poll_s)
        else:
            return descriptor
    os.close(descriptor)
    return None
