"""The observer as a process, into a real store, under SIGKILL, SIGTERM and a lost parent."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.observer.service import ObserverSettings
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import SpoolCursor
from fairlead.wire.record import ProgressRecord, RequestRecord
from support.waiting import wait_until

Make = Callable[..., RequestRecord]

RUN = """
import sys, msgspec
from fairlead.observer.service import ObserverSettings, run
from fairlead.store import database, open_store

def observe(settings):
    store = open_store(settings.store_url)
    run(settings, store)
    store.close()
"""

ALONE = RUN + "observe(msgspec.json.decode(sys.argv[1], type=ObserverSettings))"

# Imports once, then forks one process per life of an observer: many lives in little time.
NURSERY = (
    RUN
    + """
import os, traceback
for line in sys.stdin:
    command, *words = msgspec.json.decode(line)
    if command == "start":
        settings, errors, database.BUSY_TIMEOUT_S = words
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            try:
                observe(msgspec.convert(settings, ObserverSettings))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(pid, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(words[0], 0)[1]), flush=True)
"""
)

WRITE = """
import fcntl, itertools, os, sys, time
from pathlib import Path
from fairlead.wire.record import ProgressRecord, RequestRecord, FeedbackRecord, encode_record
from fairlead.wire.spool import ALIVE_FILE, MAGIC, frame, segment_name
boot, folder, stop = sys.argv[1], Path(sys.argv[2]) / sys.argv[1], Path(sys.argv[3])
hidden = folder.with_name("." + folder.name)
hidden.mkdir()
lock = os.open(hidden / ALIVE_FILE, os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
os.utime(hidden / ALIVE_FILE, (1.0, 1.0))
hidden.rename(folder)
end, count, number = time.monotonic() + 60, 0, 0
while time.monotonic() < end and not stop.exists():
    number += 1
    with (folder / segment_name(number)).open("wb", buffering=0) as file:
        file.write(MAGIC)
        for _ in range(40):
            now = time.time()
            records = [
                RequestRecord(f"{boot}-{n}", "bank", "sha256:a", "champion", "a-1", "k", "u", 0.1,
                              "r1", 1, "/v1/chat/completions", False, 200, "", now, 1.0, -1.0, 2.0,
                              3, 4, 1)
                for n in range(count, count + 20)
            ]
            given = FeedbackRecord(f"{boot}-f{count}", f"{boot}-{count}", "k", "ok", 1.0, now)
            count += 20
            data = b"".join(frame(encode_record(r)) for r in [*records, given])
            cut = count % len(data)
            file.write(data[:cut])
            file.write(data[cut:] + frame(encode_record(ProgressRecord(now, now))))
            time.sleep(0.004)
print(count, flush=True)
"""


class Nursery:
    """Starts observers and says how they ended."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(words).decode() + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


class Life:
    """One observer process."""

    def __init__(self, nursery: Nursery, settings: ObserverSettings, errors: Path, busy: float):
        self._nursery = nursery
        self._errors = errors
        self.pid = nursery.ask("start", settings, str(errors), busy)
        self.running = True

    @property
    def errors(self) -> str:
        return self._errors.read_text() if self._errors.exists() else ""

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        os.kill(self.pid, how)
        self.running = False
        return self._nursery.ask("wait", self.pid)


class Rig:
    """A spool folder, a store, and observer processes between them."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.url = f"sqlite:///{folder}/store.db"
        self._nursery = nursery
        self._lives: list[Life] = []
        self._others: list[subprocess.Popen[str]] = []
        self.store().close()

    def store(self) -> Store:
        return open_store(self.url)

    def observer(self, *, busy_s: float = 10.0, **options: Any) -> Life:
        settings = ObserverSettings(
            str(self.spool), self.url, poll_s=0.02, **{"retention_s": 0.0, **options}
        )
        errors = self.folder / f"errors-{len(self._lives)}"
        self._lives.append(Life(self._nursery, settings, errors, busy_s))
        return self._lives[-1]

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *arguments]
        self._others.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return self._others[-1]

    def close(self) -> None:
        for life in self._lives:
            if life.running:
                life.end(signal.SIGKILL)
        for process in self._others:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def rig(tmp_path: Path, nursery: Nursery) -> Iterator[Rig]:
    made = Rig(tmp_path, nursery)
    yield made
    made.close()


def ids(url: str, table: str = "records") -> list[str]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
    try:
        return [row[0] for row in connection.execute(f"SELECT id FROM {table} ORDER BY id")]
    finally:
        connection.close()


def count(url: str) -> int:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
    try:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])
    finally:
        connection.close()


def test_killed_at_any_moment_nothing_is_lost_and_nothing_is_twice(rig: Rig) -> None:
    """Two workers write while the observer is killed 30 times; then all ids are there, once."""
    chance = random.Random()
    stop = rig.folder / "stop"
    writers = {boot: rig.start(WRITE, boot, str(rig.spool), str(stop)) for boot in ("b1", "b2")}
    wait_until(lambda: len(list(rig.spool.glob("b*"))) == 2)
    working = 0
    for number in range(30):
        before = count(rig.url)
        life = rig.observer()
        if number % 3:  # the others are killed somewhere on their way up
            wait_until(lambda before=before: count(rig.url) > before)
            working += 1
        time.sleep(chance.uniform(0.0, 0.05))
        assert life.end(signal.SIGKILL) == -signal.SIGKILL
        assert all(writer.poll() is None for writer in writers.values())
    assert working == 20
    stop.touch()
    written = {boot: int(w.communicate(timeout=30)[0]) for boot, w in writers.items()}
    last = rig.observer()
    wait_until(lambda: not any(rig.spool.glob("b*")))
    assert (last.end(), last.errors) == (0, "")
    found, feedback = ids(rig.url), ids(rig.url, "feedback")
    store = rig.store()
    spools = [store.open_spool(boot) for boot in written]
    warnings = store.events()
    store.close()
    assert len(found) == len(set(found))
    assert set(found) == {f"{boot}-{n}" for boot, total in written.items() for n in range(total)}
    assert set(feedback) == {
        f"{b}-f{n}" for b, total in written.items() for n in range(0, total, 20)
    }
    assert [(s.closed, s.broken) for s in spools] == [(True, 0), (True, 0)]
    assert warnings == []
    assert min(written.values()) > 2000


def test_told_to_stop_it_takes_in_what_is_left_and_exits_with_0(
    rig: Rig, writer: Any, request_record: Make
) -> None:
    worker = writer("../spool/b1")
    life = rig.observer()
    worker.write(request_record("q0"))
    wait_until(lambda: (rig.spool / "observer.lock").exists())
    wait_until(lambda: count(rig.url) == 1)
    worker.write(*(request_record(f"q{n}") for n in range(1, 5_000)), ProgressRecord(9.0, 9.0))
    assert (life.end(), life.errors) == (0, "")
    store = rig.store()
    assert (count(rig.url), store.watermark()) == (5_000, 9.0)
    store.close()


def test_a_locked_store_is_waited_out_and_told_once(
    rig: Rig, writer: Any, request_record: Make
) -> None:
    worker = writer("../spool/b1")
    life = rig.observer(busy_s=0.05)
    worker.write(request_record("q1"))
    wait_until(lambda: count(rig.url) == 1)
    other = sqlite3.connect(rig.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    worker.write(request_record("q2"))
    wait_until(lambda: "locked by another process" in life.errors)
    time.sleep(0.5)  # in which it tries again, and is silent
    other.execute("ROLLBACK")
    other.close()
    wait_until(lambda: count(rig.url) == 2)
    assert (life.end(), life.errors.count("locked by another process")) == (0, 1)


def test_what_is_older_than_the_retention_is_deleted_at_once_and_the_rest_stays(
    rig: Rig, writer: Any, request_record: Make
) -> None:
    store = rig.store()
    store.ingest("b0", [request_record("old", time.time() - 100)], [], SpoolCursor(closed=True))
    store.close()
    life = rig.observer(retention_s=60.0)
    writer("../spool/b1").write(request_record("new", time.time()))
    wait_until(lambda: ids(rig.url) == ["new"])
    assert (life.end(), life.errors) == (0, "")


def test_a_second_observer_waits_for_the_first(rig: Rig, writer: Any, request_record: Make) -> None:
    worker = writer("../spool/b1")
    first = rig.observer()
    worker.write(request_record("q1"))
    wait_until(lambda: (rig.spool / "observer.lock").exists() and count(rig.url) == 1)
    second = rig.observer()
    wait_until(lambda: "another observer is at work" in second.errors)
    first.end(signal.SIGKILL)
    worker.write(request_record("q2"))
    wait_until(lambda: count(rig.url) == 2)
    assert second.end() == 0


def test_it_ends_when_its_parent_is_killed(rig: Rig) -> None:
    parent = rig.start(
        f"""
import os, subprocess, sys, time
import msgspec
from fairlead.observer.service import ObserverSettings
settings = ObserverSettings({str(rig.spool)!r}, {rig.url!r}, parent_pid=os.getpid())
child = subprocess.Popen(
    [sys.executable, "-c", {ALONE!r}, msgspec.json.encode(settings).decode()],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
print(child.pid, flush=True)
time.sleep(60)
"""
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: (rig.spool / "observer.lock").exists())
    os.kill(child, 0)
    os.kill(child, signal.SIGHUP)  # a hint only: with its parent there it goes on
    time.sleep(0.3)
    os.kill(child, 0)
    parent.kill()
    parent.wait()

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().split(")")[-1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_until(is_gone)
