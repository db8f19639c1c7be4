"""The supervisor starts, restarts and stops processes in order, and leaves none behind."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from supervisor_run import Run, gone, is_running

from fairlead.app.state import StatePaths
from fairlead.app.supervisor import Supervisor
from fairlead.app.up_settings import UpSettings
from fairlead.domain.errors import Unavailable


def test_it_starts_all_says_where_and_stops_them_in_order(start: Callable[..., Run]) -> None:
    """Gateway workers first, then control (with SIGINT: its replicas go too), then the observer."""
    run = start()
    info = run.paths.read_up()
    assert info is not None
    assert info.pid == run.process.pid
    assert info.gateway_url.startswith("http://127.0.0.1:")
    assert run.paths.token.stat().st_mode & 0o077 == 0
    assert len(run.paths.read_token()) > 30
    everybody = [int(pid) for _, _, pid in run.lines("up")]
    assert "stopped" in run.stop()
    ended = [(word, name) for word, name, _ in run.lines("SIG")]
    assert {name for _, name in ended[:-2]} == {"gateway-0", "gateway-1"}
    assert ended[-2:] == [("SIGINT", "control"), ("SIGTERM", "observer")]
    assert gone(everybody)
    assert not run.paths.up.exists()
    assert not run.paths.token.exists()


def test_what_ends_by_itself_is_started_again_and_said(start: Callable[..., Run]) -> None:
    run = start()
    (before,) = run.pids("gateway-0")
    others = [run.pids(name) for name in ("control", "observer", "gateway-1")]
    os.kill(before, signal.SIGKILL)
    run.wait(lambda: len(run.pids("gateway-0")) == 2)
    assert [run.pids(name) for name in ("control", "observer", "gateway-1")] == others
    output = run.stop()
    assert "gateway-0 ended (SIGKILL); starting it again" in output
    assert gone([int(pid) for _, _, pid in run.lines("up")])


def test_what_does_not_end_is_ended_by_force(start: Callable[..., Run]) -> None:
    run = start("gateway-1")
    pids = [int(pid) for _, _, pid in run.lines("up")]
    begun = time.monotonic()
    assert "stopped" in run.stop()
    assert time.monotonic() - begun < 10
    assert gone(pids)


def test_replicas_whose_control_was_killed_do_not_outlive_the_stop(
    start: Callable[..., Run],
) -> None:
    run = start("leftover")
    run.wait(lambda: len(run.pids("replica")) == 1)
    replica = run.pids("replica")
    os.kill(run.pids("control")[0], signal.SIGKILL)
    run.wait(lambda: len(run.pids("control")) == 2)
    assert is_running(replica[0]), "replicas survive a restart of control"
    assert "stopped" in run.stop()
    assert gone([*replica, *run.pids("replica")])


def test_a_supervisor_that_is_killed_takes_all_with_it(start: Callable[..., Run]) -> None:
    run = start()
    pids = [int(pid) for _, _, pid in run.lines("up")]
    run.process.kill()
    assert gone(pids)


def test_an_ignored_hangup_changes_nothing(start: Callable[..., Run]) -> None:
    """`nohup fairlead up &` goes on when its terminal is closed."""
    run = start("nohup")
    run.process.send_signal(signal.SIGHUP)
    os.kill(run.pids("gateway-0")[0], signal.SIGKILL)
    run.wait(lambda: len(run.pids("gateway-0")) == 2)
    assert "stopped" in run.stop()


def test_a_hangup_stops_it(start: Callable[..., Run]) -> None:
    run = start()
    run.process.send_signal(signal.SIGHUP)
    output, _ = run.process.communicate(timeout=20)
    assert "stopped" in output


def test_it_stops_whatever_lies_where_its_addresses_were(start: Callable[..., Run]) -> None:
    output = start("odd").stop()
    assert "closed\nstopped" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("which", ["gateway", "control"])
def test_a_port_in_use_is_named_with_the_option_to_change_it(tmp_path: Path, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"gateway_port": 0, "control_port": 0, f"{which}_port": port}
        with pytest.raises(Unavailable, match=str(port)) as caught:
            Supervisor(StatePaths(tmp_path), UpSettings(**ports), print)
    option = "--port" if which == "gateway" else "--control-port"
    assert option in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("host", "port", "said", "hint"),
    [
        ("203.0.113.7", 0, "cannot listen on 203.0.113.7:0", "--host"),
        ("no such host", 0, "cannot listen on no such host:0", "--host"),
        ("a" * 70, 0, "cannot listen on aaa", "--host"),
        ("2001:db8::7", 0, "cannot listen on 2001:db8::7:0", "--host"),
        ("127.0.0.1", 70_000, "cannot listen on 127.0.0.1:70000", "0 to 65535 with --port"),
    ],
)
def test_an_address_that_is_not_here_is_not_taken_for_a_port_in_use(
    tmp_path: Path, host: str, port: int, said: str, hint: str
) -> None:
    with pytest.raises(Unavailable, match=said) as caught:
        Supervisor(StatePaths(tmp_path), UpSettings(host=host, gateway_port=port), print)
    assert hint in (caught.value.hint or "")
    assert "another program" not in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("control_host", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.3", "127.0.0.3"), ("0.0.0.0", "127.0.0.1")],
)
def test_the_control_api_has_an_address_of_its_own(
    tmp_path: Path, control_host: str, reached: str
) -> None:
    """Opening the gateway opens nothing else."""
    settings = UpSettings(
        host="127.0.0.2", control_host=control_host, gateway_port=0, control_port=0
    )
    made = Supervisor(StatePaths(tmp_path), settings, print)
    assert made._sockets.gateway.getsockname()[0] == "127.0.0.2"
    assert made._sockets.control.getsockname()[0] == control_host
    assert made.info.gateway_url.startswith("http://127.0.0.2:")
    assert made.info.control_url.startswith(f"http://{reached}:")
    made.stop()


def test_by_default_only_the_gateway_is_opened() -> None:
    assert UpSettings(host="0.0.0.0").control_host == "127.0.0.1"


def test_an_address_of_control_that_is_not_here_names_its_option(tmp_path: Path) -> None:
    settings = UpSettings(control_host="203.0.113.7", gateway_port=0)
    with pytest.raises(Unavailable, match=r"control API: cannot listen on 203.0.113.7") as caught:
        Supervisor(StatePaths(tmp_path), settings, print)
    assert "--control-host" in (caught.value.hint or "")
