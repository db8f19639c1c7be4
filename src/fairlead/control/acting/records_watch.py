"""Whether records are taken in.

Each worker writes into its spool twice a second, and the observer moves its cursor on. A cursor of
a worker that lives and that does not move says that nothing comes in: the observer does not read,
or the spool cannot be written, which the worker says itself, and which is a change: what is
lost, or comes late, has it as a cause. How old the oldest request is that is still open is no
matter of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from fairlead.control.acting.beginnings import Beginnings
from fairlead.control.acting.clock_watch import HEARD_S
from fairlead.control.world.hub import WorkerStatus
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.store.rows import EventRow, SpoolCursor

RECORDS = "records"
BEHIND = "behind"
UNWRITABLE = "spool_unwritable"
"""Kind of event."""

STUCK_S = 60.0
PAGE_S = 900.0
LOST_S = 3_600.0
"""For so long a loss of records is a condition."""
BEGIN_S = 15.0
"""So long after the first look those that ran before it may report for the first time."""
ROOM_BYTES = 1_000_000
"""A disk with less is full."""


class RecordsWatch:
    """Remembers when each worker's spool was last read, and how much each has lost."""

    def __init__(self) -> None:
        self._moved: dict[str, tuple[tuple[int, int], float]] = {}
        self._lost: dict[str, tuple[int, float]] = {}
        self._begun_at: float | None = None
        self._lost_at = float("-inf")
        self._lost_now = 0
        self._unwritable = Beginnings()

    def look(
        self,
        workers: Sequence[WorkerStatus],
        spools: Mapping[str, SpoolCursor],
        now: float,
        free_bytes: Callable[[], int | None] = lambda: None,
    ) -> list[EventRow]:
        """Take in how far the spools of the workers that live are read; which cannot be written.

        Args:
            free_bytes: Of the disk of the spools; None where that is not known.
        """
        self._begun_at = now if self._begun_at is None else self._begun_at
        is_early = 0.0 <= now - self._begun_at < BEGIN_S
        alive = [worker for worker in workers if worker.silent_s < HEARD_S]
        for worker in alive:
            cursor = spools.get(worker.boot)
            at = (0, 0) if cursor is None else (cursor.segment, cursor.offset)
            before = self._moved.get(worker.boot)
            if before is None or before[0] != at:
                self._moved[worker.boot] = (at, now)
            # What one had lost that ran before this process was told by the process before.
            told = worker.lost if is_early else 0
            lost = worker.lost - self._lost.get(worker.boot, (told, now))[0]
            self._lost[worker.boot] = (worker.lost, now)
            if lost > 0:
                self._lost_now = lost + (self._lost_now if now - self._lost_at < LOST_S else 0)
                self._lost_at = now
        self._moved = {
            boot: kept
            for boot, kept in self._moved.items()
            if boot in {worker.boot for worker in alive}
        }
        # One that hangs for a while has lost since then what it has lost.
        self._lost = {boot: kept for boot, kept in self._lost.items() if now - kept[1] < LOST_S}
        waiting = {worker.boot: worker for worker in alive if worker.unwritten}
        fresh = self._unwritable.among(waiting, now)
        disk = _disk(free_bytes()) if fresh else ""
        return [_unwritable(waiting[boot], disk, now) for boot in fresh]

    def conditions(self, workers: Sequence[WorkerStatus], now: float) -> list[Condition]:
        """What is wrong."""
        alive = [worker for worker in workers if worker.silent_s < HEARD_S]
        return [*self._behind(now), *_unwritten(alive), *self._losses(now)]

    def _behind(self, now: float) -> Iterator[Condition]:
        since = [at for _, at in self._moved.values() if now - at >= STUCK_S]
        if not since:
            return
        stuck_s = now - min(since)
        yield Condition(
            labels=labels_of(monitor=RECORDS, fault=BEHIND),
            severity=Severity.PAGE if stuck_s >= PAGE_S else Severity.TICKET,
            summary=f"records of {len(since)} of {len(self._moved)} gateway workers are not taken "
            "in: the observer does not read, or cannot; nothing that is judged or watched is up "
            "to date, and nothing is lost while the spool has room",
            evidence=(Figure("nothing taken in for", stuck_s, "s", STUCK_S),),
        )

    def _losses(self, now: float) -> Iterator[Condition]:
        if now - self._lost_at < LOST_S:
            yield Condition(
                labels=labels_of(monitor=RECORDS, fault="lost"),
                severity=Severity.PAGE,
                summary="the gateway has lost records: its spool could not be written for longer "
                "than memory held them",
                evidence=(Figure("records lost", float(self._lost_now)),),
            )


def _unwritable(worker: WorkerStatus, disk: str, now: float) -> EventRow:
    return EventRow(
        now, UNWRITABLE, f"gateway worker {worker.worker} cannot write its records{disk}",
        data=msgspec.json.encode({"monitor": RECORDS}),
    )  # fmt: skip


def _disk(free_bytes: int | None) -> str:
    if free_bytes is None:
        return ""
    if free_bytes < ROOM_BYTES:
        return ": no space left on its disk"
    return f", though its disk has {free_bytes / 1e6:,.0f} MB free"


def _unwritten(workers: Sequence[WorkerStatus]) -> Iterator[Condition]:
    waiting = [worker for worker in workers if worker.unwritten]
    if waiting:
        numbers = ", ".join(str(worker.worker) for worker in waiting)
        yield Condition(
            labels=labels_of(monitor=RECORDS, fault="spool"),
            severity=Severity.PAGE,
            summary=f"the spool of gateway worker {numbers} cannot be written: is the disk full? "
            "Records wait in memory, and are lost when that is used up",
            evidence=(Figure("records that wait", float(sum(w.unwritten for w in waiting))),),
            pending_s=5.0,
        )
