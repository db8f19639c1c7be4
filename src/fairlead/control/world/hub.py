"""The snapshot hub: gives gateway workers the routing state, and knows what each of them runs on.

A worker's call for a newer snapshot says which version it has: that is its acknowledgement. From
these the hub tells two things that the loops need: whether all live workers run on the newest
snapshot, and whether a replica that is no longer in it can be stopped without losing a request.

Workers outlive control. Until as many have reported as run, or had their time to, the hub does not
know what those others run on, and both answers are no. While the gateway is restarted there are
two processes of one worker: the new one reports before it serves, and the old one until its last
client has left. Each of them counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import msgspec

from fairlead.control.limits.leases import Leases
from fairlead.wire.quota import Grant, Grants
from fairlead.wire.snapshot import Snapshot, SyncRequest

SILENT_AFTER_S = 5.0
GONE_AFTER_S = 60.0
GRANTS_EVERY_S = 0.05
"""A worker is told of its limits no more often than so, and the same thing again only"""
GRANTS_AGAIN_S = 1.0
"""after so long: it may not know that limit yet."""
REPORT_GRACE_S = 15.0
"""Seconds for which an expected worker is waited for, before the hub goes by those it knows."""


class _Worker(msgspec.Struct):
    number: int
    pid: int
    version: int
    open_replicas: frozenset[str]
    seen_at: float
    ahead_s: float | None = None
    unwritten: int = 0
    lost: int = 0
    granted: tuple[Grant, ...] = ()
    granted_at: float = float("-inf")


class WorkerStatus(msgspec.Struct, frozen=True):
    """One gateway worker as control sees it.

    Attributes:
        ahead_s: How far its clock is ahead of control's, by its last call; None if it did not say.
        unwritten: Records that wait there, since its spool cannot be written.
        lost: Records that it has lost since it began.
    """

    boot: str
    worker: int
    pid: int
    version: int
    silent_s: float
    ahead_s: float | None = None
    unwritten: int = 0
    lost: int = 0


class SnapshotHub:
    """Holds the newest snapshot and the acknowledgements of the workers.

    Args:
        clock: Monotonic seconds.
        is_alive: Whether a process with this id runs; a silent worker that still runs may have
            requests open, one that has ended has none.
        expected_workers: How many workers are kept running; 0 when that is not known.
        expected_pids: Processes that ran before this hub: workers, also old ones that only end
            their requests.
        wall: Unix time in seconds, to compare the workers' clocks with; None not to.

    Attributes:
        snapshot: The newest snapshot; None before the first.
        highest_reported: The highest version on which a worker said that it runs. It is above the
            newest snapshot's when control's store was restored from an earlier time.
        leases: Shares limits among the workers; None where nobody does.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        is_alive: Callable[[int], bool],
        expected_workers: int = 0,
        expected_pids: Collection[int] = (),
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._is_alive = is_alive
        self._wall = wall
        self._expected_workers = expected_workers
        self._unheard_pids = set(expected_pids)
        self._awaited_since = clock()
        self._workers: dict[str, _Worker] = {}
        self._first_version = 0
        self._left_at_version: dict[str, int] = {}
        self._changed = asyncio.Event()
        self.snapshot: Snapshot | None = None
        self.highest_reported = 0
        self.leases: Leases | None = None

    @property
    def worker_count(self) -> int:
        """How many workers share the limits."""
        return max(1, self._expected_workers)

    @property
    def expected_workers(self) -> int:
        """How many workers there are to be; 0 when that is not known."""
        return self._expected_workers

    def publish(self, snapshot: Snapshot) -> None:
        """Make this the newest snapshot; waiting workers are answered at once."""
        if self.snapshot is None:
            self._first_version = snapshot.version
        before = set() if self.snapshot is None else _replicas(self.snapshot)
        after = _replicas(snapshot)
        for replica in before - after:
            self._left_at_version[replica] = snapshot.version
        for replica in after:
            self._left_at_version.pop(replica, None)
        self.snapshot = snapshot
        if self.leases is not None:
            self.leases.use(snapshot)
        self._wake()

    def _wake(self) -> None:
        """Let all waiting calls look for an answer anew."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def sync(self, request: SyncRequest) -> Snapshot | Grants | None:
        """Note what the worker runs on and has used.

        Returns a newer snapshot, or grants, or None when there is neither within `wait_s`.
        """
        worker = self._note(request)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(max(request.wait_s, 0.0), 5.0)
        while True:
            newer = self._newer_than(request.version)
            if newer is not None:
                return newer
            grants, wait_s = self._grants(worker, request)
            if grants is not None:
                return grants
            try:
                left_s = deadline - loop.time()
                await asyncio.wait_for(self._changed.wait(), min(left_s, wait_s))
            except TimeoutError:
                if loop.time() >= deadline:
                    return None

    def _note(self, request: SyncRequest) -> _Worker:
        now = self._clock()
        before = self._workers.get(request.boot)
        worker = self._workers[request.boot] = _Worker(
            number=request.worker,
            pid=request.pid,
            version=request.version,
            open_replicas=frozenset(request.open_replicas),
            seen_at=now,
            ahead_s=request.at - self._wall() if self._wall and request.at else None,
            unwritten=request.unwritten,
            lost=request.lost,
        )
        if before is not None:
            worker.granted, worker.granted_at = before.granted, before.granted_at
        self._unheard_pids.discard(request.pid)
        self.highest_reported = max(self.highest_reported, request.version)
        if self.leases is not None and request.quota is not None:
            self._forget_dead(now)
            self.leases.report(request, self._workers.keys())
            if self.leases.is_asked_for:
                self._wake()
        return worker

    def _grants(self, worker: _Worker, request: SyncRequest) -> tuple[Grants | None, float]:
        """What to tell the worker of limits, and when to look again at the latest."""
        leases = self.leases
        # A question that was given up for a newer one is still waited on here: what it is answered
        # nobody hears, so it must not be told what the newer one should be.
        is_newest = self._workers.get(request.boot) is worker
        if leases is None or request.quota is None or not is_newest:
            return None, 5.0
        now = self._clock()
        early_s = worker.granted_at + GRANTS_EVERY_S - now
        if early_s > 0:
            return None, early_s
        grants = leases.grants(request, all_known=self._all_have_reported())
        is_again = grants == worker.granted and now - worker.granted_at < GRANTS_AGAIN_S
        if not grants or is_again:
            return None, 5.0
        worker.granted, worker.granted_at = grants, now
        return Grants(grants), 0.0

    def _newer_than(self, version: int) -> Snapshot | None:
        newest = self.snapshot
        return newest if newest is not None and newest.version > version else None

    def workers(self) -> list[WorkerStatus]:
        """All workers that run, as far as is known."""
        now = self._clock()
        self._forget_dead(now)
        return [
            WorkerStatus(
                boot,
                w.number,
                w.pid,
                w.version,
                round(now - w.seen_at, 3),
                w.ahead_s,
                w.unwritten,
                w.lost,
            )
            for boot, w in sorted(self._workers.items(), key=lambda item: item[1].number)
        ]

    @property
    def is_current(self) -> bool:
        """Whether at least one worker runs, and all of them on the newest snapshot."""
        newest = self.snapshot
        return (
            self._all_have_reported()
            and newest is not None
            and bool(self._workers)
            and all(w.version == newest.version for w in self._workers.values())
        )

    def may_stop(self, replica: str) -> bool:
        """Whether no worker can send, or still waits for, a request on this replica."""
        newest = self.snapshot
        if not self._all_have_reported() or newest is None or replica in _replicas(newest):
            return False
        # One that was in no snapshot of this hub may be in the last one of the hub before it.
        left_at = self._left_at_version.get(replica, self._first_version)
        return all(
            left_at <= w.version <= newest.version and replica not in w.open_replicas
            for w in self._workers.values()
        )

    def _all_have_reported(self) -> bool:
        """Whether what is known of the workers is all there is, or all that will come."""
        now = self._clock()
        self._forget_dead(now)
        known = len({worker.number for worker in self._workers.values()})
        if now - self._awaited_since >= REPORT_GRACE_S:
            self._unheard_pids.clear()
            return True
        self._unheard_pids = {pid for pid in self._unheard_pids if self._is_alive(pid)}
        return known >= self._expected_workers and not self._unheard_pids

    def _forget_dead(self, now: float) -> None:
        for boot, worker in list(self._workers.items()):
            silent = now - worker.seen_at
            if silent > GONE_AFTER_S or (silent > 0.5 and not self._is_alive(worker.pid)):
                del self._workers[boot]
                # Another is started in its place.
                self._awaited_since = now


def _replicas(snapshot: Snapshot) -> set[str]:
    return {
        endpoint.replica
        for service in snapshot.services.values()
        for release in service.releases.values()
        for endpoint in release.endpoints
    }
