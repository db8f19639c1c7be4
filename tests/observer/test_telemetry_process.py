"""The observer process fills the telemetry store beside the control store, killed as it may be."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.domain.errors import NotFound
from fairlead.store import open_store
from fairlead.telemetry.reader import TelemetryReader
from fairlead.wire.record import FeedbackRecord, ProgressRecord, RequestRecord
from support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Make = Callable[..., RequestRecord]


Start = Callable[[Path, int], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts it as `fairlead up` does, but told to look at the spool more often."""
    lives: list[subprocess.Popen[bytes]] = []

    def begin(state: Path, days: int) -> subprocess.Popen[bytes]:
        lives.append(_process(state, days))
        return lives[-1]

    yield begin
    for life in lives:
        life.kill()
        life.wait()
        assert life.stderr is not None
        life.stderr.close()


def _process(state: Path, days: int) -> subprocess.Popen[bytes]:
    settings = json.dumps({"state": str(state), "telemetry_days": days, "telemetry_every_s": 0.05})
    command = [sys.executable, "-m", "fairlead.app.observer_process", settings]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def ids(state: Path, kind: str = "records") -> list[str]:
    try:
        with contextlib.closing(TelemetryReader(state / "telemetry")) as reader:
            rows = reader.ask(f"SELECT id FROM {kind} ORDER BY id", limit=100_000).rows
    except NotFound:  # not made yet
        return []
    return [row[0] for row in rows]


def test_killed_again_and_again_it_has_every_record_once(
    tmp_path: Path, start: Start, writer: Any, request_record: Make
) -> None:
    state = tmp_path
    open_store(f"sqlite:///{state}/fairlead.db").close()
    workers = [writer("b1"), writer("b2")]
    chance, count = random.Random(), 0

    def write(rows: int) -> None:
        nonlocal count
        for worker in workers:
            now = time.time()
            records = [
                request_record(f"{worker.folder.name}-{n:06}", now - n % 7_200)
                for n in range(count, count + rows)
            ]
            boot = worker.folder.name
            said = FeedbackRecord(f"{boot}-f{count}", records[0].id, "k", "ok", 1.0, now)
            worker.write(*records, said, ProgressRecord(now, now))
            worker.rotate()
        count += rows

    for _ in range(5):
        before = len(ids(state))
        life = start(state, 400)
        write(300)
        wait_until(lambda before=before: len(ids(state)) > before, within_s=200.0)
        write(300)
        time.sleep(chance.uniform(0.0, 0.3))  # anywhere in what it does then
        life.send_signal(signal.SIGKILL)
        life.communicate()
    for worker in workers:
        worker.die()
    last = start(state, 400)
    spool = state / "spool"
    wait_until(lambda: not any(path.is_dir() for path in spool.iterdir()), within_s=200.0)
    last.send_signal(signal.SIGTERM)
    errors = last.communicate(timeout=120)[1]
    assert (last.returncode, errors) == (0, b"")
    expected = sorted(f"{boot}-{n:06}" for boot in ("b1", "b2") for n in range(count))
    assert ids(state) == expected
    assert len(ids(state, "feedback")) == len(set(ids(state, "feedback"))) == 20
    store = open_store(f"sqlite:///{state}/fairlead.db")
    assert len(store.records(limit=100_000)) == len(expected)
    store.close()


def test_turned_off_it_makes_no_store_and_holds_nothing(
    tmp_path: Path, start: Start, writer: Any, request_record: Make
) -> None:
    open_store(f"sqlite:///{tmp_path}/fairlead.db").close()
    worker = writer("b1")
    worker.write(request_record("q1", time.time()))
    worker.die()
    life = start(tmp_path, 0)
    wait_until(lambda: not worker.folder.exists())
    life.send_signal(signal.SIGTERM)
    assert life.wait(60) == 0
    assert not (tmp_path / "telemetry").exists()
    assert os.listdir(tmp_path / "spool") == ["observer.lock"]
