"""Faults of processes and disks, made by what the system offers: signals, limits, environment."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.registry import Registry
from fairlead.store import open_store
from fairlead.store.rows import RecordFilter
from support.installation import Installation

OBSERVER = "observer_process"
RECORDS_MAX = 1_000_000


def wrong_clock(worker: int, ahead_s: float) -> Mapping[str, str]:
    """The environment of an installation in which the clock of this gateway worker is ahead."""
    folder = Path(__file__).parent / "wrong_clock"
    return {"PYTHONPATH": str(folder), "WRONG_CLOCK": f"{worker} {ahead_s}"}


@contextlib.contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """The system refuses each write of a process to a file (EFBIG)."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def kill_observer(installation: Installation) -> None:
    """Kill the observer, at its work or hanging; another one has been started when this returns."""
    (killed,) = installation.pids(OBSERVER)
    os.kill(killed, signal.SIGKILL)

    def is_another() -> bool:
        return installation.pids(OBSERVER) not in ([], [killed])

    installation.wait(is_another, "another observer", 30)


def recorded(installation: Installation, services: Iterable[str]) -> Counter[str]:
    """How often each request of these services is in the store, by its id."""
    with contextlib.closing(open_store(installation.paths.store_url)) as store:
        return Counter(
            row.id
            for service in services
            for row in store.records(RecordFilter(service=service), limit=RECORDS_MAX)
        )


@contextlib.contextmanager
def hanging_observer(installation: Installation) -> Iterator[None]:
    """The observer does nothing; it can be killed meanwhile."""
    (observer,) = installation.pids(OBSERVER)
    try:
        installation.wait(lambda: _hangs(installation, observer), "the store to be let go of", 60)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(observer, signal.SIGCONT)


def _hangs(installation: Installation, observer: int) -> bool:
    """Stop the observer, unless it holds the store's lock just now: nobody could write then."""
    os.kill(observer, signal.SIGSTOP)
    path = installation.paths.store_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as store:
        try:
            store.execute("BEGIN IMMEDIATE")
            store.execute("ROLLBACK")
        except sqlite3.OperationalError:
            os.kill(observer, signal.SIGCONT)
            return False
    return True


def worker_pid(installation: Installation, number: int) -> int:
    """The process of a gateway worker."""
    return next(w.pid for w in installation.status().workers if w.worker == number)


def kill_replica(installation: Installation, release: str, times: int = 1) -> ReplicaStatus:
    """Kill one replica of a release so often, each time once it is ready; it is ready again then.

    Args:
        release: Its digest.
    """
    engine = Registry(installation.paths.registry).get(release).release.engine_digest
    found = {r.id: r for r in installation.status().replicas if r.engine_digest == engine}
    replica = found[min(found)]
    for _ in range(times):
        replica = _ready(installation, replica.id)
        os.kill(replica.pid, signal.SIGKILL)
        replica = _ready(installation, replica.id, before=replica.pid)
    return replica


def _ready(installation: Installation, name: str, before: int = 0) -> ReplicaStatus:
    """A replica, once it is ready and its process is another one than before."""
    found: list[ReplicaStatus] = []

    def look() -> bool:
        found[:] = [
            r
            for r in installation.status().replicas
            if r.id == name and r.state is ReplicaState.READY and r.pid not in (0, before)
        ]
        return bool(found)

    installation.wait(look, f"replica {name} to be ready", 60)
    return found[0]
