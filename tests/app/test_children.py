"""One supervised process: its restarts, its environment, its log."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fairlead.app.child_logs import LOG_BYTES_MAX, bound_log, last_words
from fairlead.app.children import HEALTHY_AFTER_S, RESTART_DELAY_S_MAX, Child
from fairlead.app.environment import (
    ARENAS_MAX,
    ARENAS_VARIABLE,
    BLAS_THREADS,
    BLAS_VARIABLE,
    CREDENTIAL_VARIABLE,
    child_environment,
)
from fairlead.app.processes import describe
from fairlead.app.state import StatePaths


class Process:
    """A process that ends when it is told."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def child() -> SimpleNamespace:
    """A child on simulated time, and all its processes."""
    processes: list[Any] = []

    def begin() -> Any:
        processes.append(Process())
        return processes[-1]

    return SimpleNamespace(child=Child("gateway-0", begin), processes=processes)


def test_a_child_that_runs_has_not_ended(child: SimpleNamespace) -> None:
    child.child.start(0.0)
    assert child.child.ended(100.0) is None


def test_a_first_end_is_mended_at_once_and_further_ones_ever_later(child: SimpleNamespace) -> None:
    now, delays = 0.0, []
    for _ in range(12):
        child.child.start(now)
        child.processes[-1].code = 1
        assert child.child.ended(now + 0.1) == 1
        assert child.child.ended(now + 0.2) is None, "an end is told once"
        delays.append(child.child.restart_at - (now + 0.1))
        now = child.child.restart_at
    assert delays[0] == 0.0
    assert all(a <= b + 1e-6 for a, b in itertools.pairwise(delays))
    assert 0 < delays[1] < 1
    assert delays[-1] == pytest.approx(RESTART_DELAY_S_MAX)


def test_a_child_that_ran_long_enough_is_mended_at_once_again(child: SimpleNamespace) -> None:
    now = 0.0
    for _ in range(5):
        child.child.start(now)
        child.processes[-1].code = -9
        child.child.ended(now)
        now = child.child.restart_at
    child.child.start(now)
    child.processes[-1].code = -9
    later = now + HEALTHY_AFTER_S + 1
    assert child.child.ended(later) == -9
    assert child.child.restart_at == later


@pytest.mark.parametrize(
    ("code", "said"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-99, "signal 99")]
)
def test_every_way_to_end_can_be_told(code: int, said: str) -> None:
    assert describe(code) == said


def test_a_child_that_cannot_be_started_is_tried_again_later_and_said_once() -> None:
    """A full disk, say: it passes, and must not end the others."""
    full = [True]

    def begin() -> Any:
        if full[0]:
            raise OSError(28, "No space left on device")
        return Process()

    child, now, told, waits = Child("observer", begin), 0.0, [], []
    for _ in range(8):
        told.append(child.start(now))
        assert child.process is None
        assert child.ended(now) is None
        waits.append(child.restart_at - now)
        now = child.restart_at
    assert told == ["[Errno 28] No space left on device", *[None] * 7]
    assert waits[-1] == pytest.approx(RESTART_DELAY_S_MAX)
    full[0] = False
    assert child.start(now) is None
    assert child.process is not None


def test_a_log_that_grows_too_long_is_moved_away_while_its_process_goes_on_writing(
    tmp_path: Path,
) -> None:
    log, earlier = tmp_path / "gateway-0.log", tmp_path / "gateway-0.log.1"
    with log.open("ab", buffering=0) as output:
        output.write(b"early\n")
        bound_log(log)
        assert not earlier.exists()
        output.write(b"x" * LOG_BYTES_MAX)
        bound_log(log)
        output.write(b"late\n")
        assert log.read_bytes() == b"late\n"
        assert earlier.read_bytes().startswith(b"early\n")
        assert earlier.stat().st_size == LOG_BYTES_MAX + 6


def test_a_log_is_bounded_also_where_its_earlier_part_cannot_be_kept(tmp_path: Path) -> None:
    log = tmp_path / "control.log"
    log.write_bytes(b"x" * (LOG_BYTES_MAX + 1))
    (tmp_path / "control.log.1").mkdir()
    bound_log(log)
    assert log.stat().st_size == 0
    bound_log(tmp_path / "missing.log")


def test_the_last_words_are_those_of_the_process_that_ended(tmp_path: Path) -> None:
    log = tmp_path / "control.log"
    assert last_words(log, 0) == ""
    log.write_bytes(b"of an earlier life\n")
    size = log.stat().st_size
    assert last_words(log, size) == ""
    with log.open("ab") as output:
        output.write(b"Traceback\n  it is \x1b[1mdamaged\xff  \n\n")
    assert last_words(log, size) == "it is [1mdamaged\ufffd"
    log.write_bytes(b"short\n")
    assert last_words(log, size) == "short", "the log was cut meanwhile"
    log.write_bytes(b"x" * 100_000)
    assert len(last_words(log, 0)) == 300


REAL = """
import os, subprocess, sys, time
from pathlib import Path
from fairlead.app import child_logs, launching, supervisor
from fairlead.app.state import StatePaths
from fairlead.app.supervisor import Supervisor
from fairlead.app.up_settings import UpSettings

root, what = Path(sys.argv[1]), sys.argv[2]
CHILD = "import os, time; print(os.environ.get('FAIRLEAD_CONTROL_TOKEN'), flush=True)"
CHILD += "; time.sleep(60)"
if what == "failing":
    CHILD = "raise SystemExit('first\\\\n\\\\n[/] the blob is damaged\\\\n \\\\n')"
supervisor.STOP_GRACE_S = 0.3
supervisor.LOG_LOOK_S = 0.1
child_logs.LOG_BYTES_MAX = 1000
real = subprocess.Popen
launching.subprocess.Popen = lambda argv, **more: real([sys.executable, "-S", "-c", CHILD], **more)
paths = StatePaths(root / "state")
paths.create()
if what == "blocked":
    (paths.logs / "observer.log").mkdir()
made = Supervisor(paths, UpSettings(gateway_port=0, control_port=0, workers=1, drain_s=0.2),
                  lambda line: print(line, flush=True))
made.install_signal_handlers()
made.start()
made.run()
made.stop()
print("stopped", flush=True)
"""


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """A supervisor that starts its children itself; what they run is a small program."""
    made: list[subprocess.Popen[str]] = []

    def begin(what: str) -> Any:
        made.append(
            subprocess.Popen(
                [sys.executable, "-c", REAL, str(tmp_path), what],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, CREDENTIAL_VARIABLE: "of the user"},
            )
        )
        return SimpleNamespace(process=made[-1], logs=StatePaths(tmp_path / "state").logs)

    yield begin
    for process in made:
        if process.poll() is None:
            process.kill()
        process.communicate()


def said_by(path: Path, enough: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        text = path.read_text() if path.is_file() else ""
        if enough(text):
            return text
        time.sleep(0.02)
    raise AssertionError(path)


def test_the_token_goes_only_to_those_that_speak_with_control(
    real: Callable[[str], Any],
) -> None:
    run = real("plain")
    tokens = {
        name: said_by(run.logs / f"{name}.log", lambda text: text.endswith("\n")).strip()
        for name in ("control", "gateway-0", "observer")
    }
    assert tokens["observer"] == "None"
    assert tokens["control"] == tokens["gateway-0"]
    assert len(tokens["control"]) > 30


def test_its_heaps_and_blas_threads_are_few_unless_the_user_says_how_many() -> None:
    few = {ARENAS_VARIABLE: ARENAS_MAX, BLAS_VARIABLE: BLAS_THREADS}
    assert child_environment({"A": "1"}, None) == {"A": "1", **few}
    given = {ARENAS_VARIABLE: "8", BLAS_VARIABLE: "3", CREDENTIAL_VARIABLE: "of the user"}
    assert child_environment(given, "own") == {**given, CREDENTIAL_VARIABLE: "own"}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_numpy_starts_no_threads_in_a_child() -> None:
    counted = "import numpy, os; a = numpy.ones((900, 900)); a @ a; "
    counted += "print(len(os.listdir('/proc/self/task')))"
    told = subprocess.run(
        [sys.executable, "-c", counted],
        env=child_environment({k: v for k, v in os.environ.items() if k != BLAS_VARIABLE}, None),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "1"


def test_a_running_child_s_log_is_bounded(real: Callable[[str], Any]) -> None:
    run = real("plain")
    log = run.logs / "control.log"
    said_by(log, bool)
    with log.open("ab") as output:
        output.write(b"y" * 2000)
    said_by(log, lambda text: not text)
    assert (run.logs / "control.log.1").stat().st_size > 2000


def test_a_log_that_cannot_be_opened_does_not_end_the_others(
    real: Callable[[str], Any],
) -> None:
    run = real("blocked")
    said_by(run.logs / "gateway-0.log", bool)
    (run.logs / "observer.log").rmdir()
    assert said_by(run.logs / "observer.log", bool) == "None\n"
    run.process.send_signal(signal.SIGTERM)
    output, _ = run.process.communicate(timeout=20)
    assert "observer cannot be started" in output
    assert output.count("observer cannot be started") == 1
    assert "stopped" in output


def test_a_child_that_fails_at_its_start_is_told_with_itslast_words(
    real: Callable[[str], Any],
) -> None:
    run = real("failing")
    said_by(run.logs / "control.log", lambda text: text.count("damaged") > 1)
    run.process.send_signal(signal.SIGTERM)
    output, _ = run.process.communicate(timeout=20)
    assert "control ended (exit code 1); starting it again\n" in output
    assert "  its last words: [/] the blob is damaged\n" in output
    assert "first" not in output
    assert (run.logs / "control.log").stat().st_mode & 0o077 == 0
