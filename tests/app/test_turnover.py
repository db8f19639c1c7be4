"""A rolling restart: each worker is replaced when its successor serves, or not at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from supervisor_run import Run, gone, is_running
from typer.testing import CliRunner

from fairlead.app.state import StatePaths
from fairlead.app.turnover import draining, report_path, request_path
from fairlead.cli.root import app
from fairlead.domain.errors import Conflict, Unavailable


def restart(run: Run, *options: str) -> str:
    """`fairlead gateway restart` on it."""
    arguments = ["gateway", "restart", "--state", str(run.paths.root), *options]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return " ".join(result.output.split())


def test_workers_are_replaced_in_order_and_the_old_ones_retire(start: Callable[..., Run]) -> None:
    run = start("")
    old = run.pids("gateway-0") + run.pids("gateway-1")
    said = restart(run)
    assert "new worker serves: 2 of 2" in said
    assert gone(old)
    assert [name for _, name, _ in run.lines("retires")] == ["gateway-0", "gateway-1"]
    assert [len(run.pids(f"gateway-{n}")) for n in (0, 1)] == [2, 2]
    for name in ("control", "observer"):
        assert len(run.pids(name)) == 1
    assert not list(run.paths.run.glob("restart-*")), "nothing is left of the request"
    output = run.stop()
    assert "starting it again" not in output
    assert gone([int(pid) for _, _, pid in run.lines("up")])


def test_a_bare_signal_restarts_too(start: Callable[..., Run]) -> None:
    run = start()
    run.process.send_signal(signal.SIGUSR2)
    run.wait(lambda: len(run.lines("retires")) == 2)
    assert "restarted" in run.stop()


def test_a_successor_that_does_not_start_leaves_the_old_one_in_service(
    start: Callable[..., Run],
) -> None:
    run = start("broken")
    (first,), (second,) = run.pids("gateway-0"), run.pids("gateway-1")
    with pytest.raises(Unavailable, match=r"gateway-1: .*exit code 3\).*no such module") as caught:
        restart(run)
    assert caught.value.exit_code == 5
    assert "1 of 2 workers are new" in (caught.value.hint or "")
    assert gone([first])
    assert is_running(second)
    assert "old one serves on" in run.stop()


def test_a_successor_that_never_serves_is_given_up(start: Callable[..., Run]) -> None:
    run = start("silent")
    old = run.pids("gateway-0")
    with pytest.raises(Unavailable, match="did not serve"):
        restart(run)
    assert is_running(old[0])
    assert gone(run.pids("gateway-0")[1:])
    assert not run.lines("retires")
    run.stop()


def test_a_second_restart_at_the_same_time_is_refused(start: Callable[..., Run]) -> None:
    run = start("hanging")
    request_path(run.paths.run, "one").write_text('{"id": "one"}')
    run.process.send_signal(signal.SIGUSR2)
    run.wait(lambda: report_path(run.paths.run, "one").exists())
    with pytest.raises(Conflict, match="under way"):
        restart(run)
    run.stop()


def test_an_old_worker_is_hurried_and_then_ended_by_force(start: Callable[..., Run]) -> None:
    run = start("slow")
    old = run.pids("gateway-0") + run.pids("gateway-1")
    restart(run, "--drain-seconds", "0.3")
    assert gone(old)
    assert run.stop().count("still has clients; ending it") == 2
    assert gone([int(pid) for _, _, pid in run.lines("up")])


def test_a_worker_that_is_killed_during_the_restart_is_started_again_all_the_same(
    start: Callable[..., Run],
) -> None:
    run = start("hanging")
    run.process.send_signal(signal.SIGUSR2)
    run.wait(lambda: len(run.pids("gateway-0")) == 2)
    os.kill(run.pids("gateway-0")[0], signal.SIGKILL)
    run.wait(lambda: len(run.pids("gateway-0")) == 3)
    assert is_running(run.pids("gateway-0")[2])
    assert "gateway-0 ended (SIGKILL); starting it again" in run.stop()


def test_a_stop_during_a_restart_leaves_nobody_behind(start: Callable[..., Run]) -> None:
    run = start("hanging")
    run.process.send_signal(signal.SIGUSR2)
    run.wait(lambda: len(run.pids("gateway-0")) == 2)
    assert "fairlead is stopping" in run.stop()
    assert gone([int(pid) for _, _, pid in run.lines("up")])


def test_without_a_running_fairlead_it_says_so(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "state")
    paths.create()
    result = CliRunner().invoke(app, ["gateway", "restart", "--state", str(paths.root)])
    assert isinstance(result.exception, Unavailable)
    assert not list(paths.run.glob("restart-*"))


@pytest.mark.parametrize(
    ("old", "words"),
    [
        (0, "0 old workers end when their clients are done"),
        (1, "1 old worker ends when its clients are done"),
        (2, "2 old workers end when their clients are done"),
    ],
)
def test_one_old_worker_is_no_plural(old: int, words: str) -> None:
    assert draining(old) == words
