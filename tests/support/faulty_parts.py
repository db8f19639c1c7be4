"""Faults of processes and disks, made by what the system offers: signals, limits, files."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.registry import Registry
from support.installation import Installation

WRONG_CLOCK = Path(__file__).parent / "wrong_clock"
STOPPED_S, RUNNING_S = 0.12, 0.03


@contextlib.contextmanager
def throttled(pid: int) -> Iterator[None]:
    """A process that runs for a fifth of the time only, as on a machine that others use, too."""
    is_over = threading.Event()

    def throttle() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not is_over.is_set():
                os.kill(pid, signal.SIGSTOP)
                is_over.wait(STOPPED_S)
                os.kill(pid, signal.SIGCONT)
                is_over.wait(RUNNING_S)

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextlib.contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """The system refuses each write of a process to a file."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def hangs(installation: Installation, observer: int) -> bool:
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


def environment(state: Path) -> Mapping[str, str]:
    """What an installation has to be started with so that `set_clock` can be called."""
    return {"PYTHONPATH": str(WRONG_CLOCK), "WRONG_CLOCK": str(_clock_file(state))}


def set_clock(installation: Installation, worker: int, ahead_s: float) -> None:
    """Restart the gateway; this worker's clock is then so far ahead."""
    wrong = {"worker": worker, "ahead_s": ahead_s}
    _clock_file(installation.paths.root).write_text(json.dumps(wrong), encoding="utf-8")
    state = str(installation.paths.root)
    command = [sys.executable, "-m", "fairlead", "gateway", "restart", "--state", state]
    subprocess.run(command, capture_output=True, text=True, check=True)


def _clock_file(state: Path) -> Path:
    return state.with_name("wrong-clock.json")


def worker_pid(installation: Installation, number: int) -> int:
    """The process of a gateway worker."""
    return next(w.pid for w in installation.status().workers if w.worker == number)


def replicas_of(installation: Installation, release: str) -> list[ReplicaStatus]:
    """The replicas that serve a release, by its digest."""
    engine = Registry(installation.paths.registry).get(release).release.engine_digest
    return [r for r in installation.status().replicas if r.engine_digest == engine]


def kill_again_and_again(installation: Installation, release: str, times: int) -> str:
    """Kill one replica of a release, each time once it is ready again; its id."""
    replica = replicas_of(installation, release)[0].id
    pid = 0
    for _ in range(times):
        pid = _ready_again(installation, release, replica, pid)
        os.kill(pid, signal.SIGKILL)
    return replica


def _ready_again(installation: Installation, release: str, replica: str, before: int) -> int:
    """The process of a replica, once that is another one than before and ready."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [
            r.pid
            for r in replicas_of(installation, release)
            if r.id == replica and r.state is ReplicaState.READY and r.pid not in (0, before)
        ]
        return bool(found)

    installation.wait(look, f"replica {replica} to be ready again", 60)
    return found[0]


def change_weights(installation: Installation, release: str) -> None:
    """Other weights, in the place of those of a release."""
    (path,) = Registry(installation.paths.registry).weights(release)
    blob = path.resolve()
    made = blob.with_name("made")
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    made.write_bytes(data)
    made.replace(blob)
