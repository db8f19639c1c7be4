"""The demo does what it says, also on real customers' questions, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from support.data_sets import BANKING77, needs_banking77
from support.installation import descendants

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]


def demo(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the demo; its report."""
    report = folder / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "fairlead", "demo", "--json", str(report), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(report.read_text())
    assert done.returncode == 0, (found, done.stderr[-2000:])
    return found


def check(report: dict[str, Any]) -> None:
    """Outcomes 1 to 5 of the demo."""
    assert [(r["name"], r["outcome"]) for r in report["releases"]] == [
        ("a", "promoted"), ("b", "promoted"), ("c", "rolled_back"), ("d", "gate_failed"),
    ]  # fmt: skip
    a, b, c, d = report["releases"]
    assert a["requests_served"] > 0
    assert b["requests_served"] > 0
    assert c["verdict"]["outcome"] == "roll_back"
    numbers = c["verdict"]["numbers"]
    assert numbers["e_rollback"] >= numbers["threshold_rollback"]
    # By what was answered: on a slow machine feedback can come too late, on either side.
    failed = numbers["by_outcome"]["failed"]
    assert failed["canary_rate"] > failed["champion_rate"]
    assert d["requests_served"] == 0
    assert report["requests"]["sent"] > 500
    assert report["requests"]["failed"] == 0
    assert report["requests"]["feedback_failed"] == 0
    assert report["kill"]["requests_meanwhile"] > 0
    assert report["kill"]["failed_meanwhile"] == 0
    assert 0 < report["peak_memory_mb"] < 500


def test_the_demo_goes_as_told(tmp_path: Path) -> None:
    """Promoted, promoted, rolled back, gate failed, and a killed replica that no client notices."""
    check(demo(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@needs_banking77
def test_the_demo_goes_the_same_on_real_customers_questions(tmp_path: Path) -> None:
    """The 3,080 test questions of Banking77 serve as suite and traffic."""
    check(demo(tmp_path, "--data", str(BANKING77)))


@pytest.mark.parametrize("moment_s", [random.Random(n).uniform(0.3, 20) for n in (3, 4, 5)])
def test_ctrl_c_leaves_no_process_and_no_file(moment_s: float) -> None:
    """Interrupted at any moment, the demo takes down all it started and its scratch folder."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairlead", "demo"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,
            # What a shell starts in the background ignores Ctrl-C, and so would the demo.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        time.sleep(moment_s)
        started = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in started) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [pid for pid in started if alive(pid)] == []
        assert list(Path(folder).iterdir()) == []


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
