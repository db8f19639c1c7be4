"""Processes of replicas: the gate before they begin, and how they ended."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from fairlead.targets import process as processes


def test_a_process_whose_gate_is_shut_never_becomes_the_replica(tmp_path: Path) -> None:
    gate = processes.spawn(
        ["/bin/sh", "-c", "echo ran > ran"], folder=tmp_path, env={}, log=tmp_path / "log"
    )
    assert processes.how_it_ended(gate.pid, processes.identity(gate.pid) or "") is None
    gate.shut()
    _, status = os.waitpid(gate.pid, 0)
    assert os.waitstatus_to_exitcode(status) != 0
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_how_a_process_ended_is_told(tmp_path: Path, number: signal.Signals) -> None:
    gate = processes.spawn(["/bin/sleep", "60"], folder=tmp_path, env={}, log=tmp_path / "log")
    known = processes.identity(gate.pid) or ""
    gate.open()
    processes.send(gate.pid, known, number)
    how, end = None, time.monotonic() + 30.0
    while how is None and time.monotonic() < end:
        how = processes.how_it_ended(gate.pid, known)
        time.sleep(0.01)
    assert how == f"was ended by {number.name}"
    assert processes.identity(gate.pid) is None
