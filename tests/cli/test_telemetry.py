"""`fairlead telemetry`: tables, JSON, exit codes; and who loads DuckDB."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.simulated_installation import Run
from fairlead.telemetry.catalogue import SpoolPosition
from fairlead.telemetry.store import TelemetryStore
from fairlead.wire.record import RequestRecord


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with three records: two hours old, one hour old, and of just now."""
    folder, now = tmp_path / "state", time.time()
    store = TelemetryStore(folder / "telemetry", keep_s=0.0, clock=time.time)
    records = [
        RequestRecord(
            f"q{n}", "[red]", "sha256:a", "champion", "r-0", "k", "u", 0.1, "", 0,
            "/v1/chat/completions", False, 200, "", now - 3_600 * (2 - n) - 1.0, 10.0, -1.0, 20.0,
            5, 7, 1,
        )
        for n in range(3)
    ]  # fmt: skip
    store.take_in(records, [], {"b1": SpoolPosition(complete_until=now)})
    store.close()
    return folder


def test_a_question_is_answered_as_a_table_and_as_json(run: Run, state: Path) -> None:
    sql = "SELECT service, count(*) AS n, avg(itl_ms) AS itl FROM records GROUP BY 1"
    done = run("telemetry", "query", sql, "--state", str(state))
    assert done.code == 0, done.err
    assert [line.split() for line in done.out.splitlines()] == [
        ["service", "n", "itl"],
        ["[red]", "3", "–"],
    ]
    found = json.loads(run("telemetry", "query", sql, "--json", "--state", str(state)).out)
    assert (found["columns"], found["rows"]) == (["service", "n", "itl"], [["[red]", 3, None]])
    assert (found["left_out"], found["more"]) == ([], False)


def test_a_question_is_narrowed_by_time_and_service(run: Run, state: Path) -> None:
    sql = "SELECT id FROM records ORDER BY id"

    def ids(*options: str) -> list[str]:
        done = run("telemetry", "query", sql, "--json", "--state", str(state), *options)
        assert done.code == 0, done.err
        return [row[0] for row in json.loads(done.out)["rows"]]

    assert ids("--since", "90min") == ["q1", "q2"]
    assert ids("--since", "1.5h", "--until", "10m") == ["q1"]
    assert ids("--until", "0.001d") == ["q0", "q1"]
    assert (ids("-s", "[red]", "-s", "other"), ids("-s", "other")) == (["q0", "q1", "q2"], [])


def test_what_is_wrong_has_its_exit_code_and_says_what_to_do(run: Run, state: Path) -> None:
    def failed(*words: str) -> tuple[int, str]:
        done = run("telemetry", *words)
        return done.code, done.err

    there = ["--state", str(state)]
    code, said = failed("query", "DROP VIEW records", *there)
    assert (code, "a question is one SELECT" in said) == (2, True)
    code, said = failed("query", "SELECT 1", "--since", "yesterday", *there)
    assert (code, "--since yesterday: not a span of time" in said) == (2, True)
    code, said = failed("query", "SELECT 1", "--since", "nan h", *there)
    assert code == 2
    code, said = failed("status", "--state", str(state.parent))
    assert (code, "no telemetry store here" in said) == (6, True)
    code, said = failed("query", "SELECT 1", "--state", str(state / "none"))
    assert (code, "no state folder here" in said) == (5, True)


def test_the_status_says_what_it_holds_and_what_is_damaged(run: Run, state: Path) -> None:
    found = json.loads(run("telemetry", "status", "--json", "--state", str(state)).out)
    assert (found["records"], found["feedback"], found["damaged"]) == (3, 0, [])
    assert found["bytes_per_million"] == pytest.approx(found["bytes"] / 3e-6)
    victim = next((state / "telemetry" / "data").rglob("*.parquet"))
    victim.write_bytes(b"PAR1 damaged")
    shown = run("telemetry", "status", "--check", "--state", str(state))
    assert shown.code == 0
    assert "per million records" in shown.out
    assert "missing: 1 records of [red]" in shown.err
    asked = run("telemetry", "query", "SELECT count(*) AS n FROM records", "--state", str(state))
    assert "2" in asked.out.split()
    assert "missing: 1 records of [red]" in asked.err


def test_the_commands_of_the_page_do_what_it_says(run: Run, state: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "telemetry.md"
    commands = [
        shlex.split(line)
        for line in page.read_text().splitlines()
        if line.startswith("    fairlead telemetry")
    ]
    assert len(commands) == 5
    for words in commands:
        done = run(*words[1:], "--state", str(state))
        assert (done.code, done.err) == (0, ""), words
        assert done.out


def test_nobody_else_loads_duckdb() -> None:
    """Neither the start of a command nor a gateway worker, control, or at once the observer."""
    code = (
        "import sys, fairlead.cli.root, fairlead.app.gateway_process, fairlead.app.control_process,"
        " fairlead.app.observer_process; print('duckdb' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False"]
