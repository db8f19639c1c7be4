"""The supervisor starts, restarts and stops processes in order, and leaves none behind.

It ends all children of its own process, so it runs in a process of its own here, with small
programs in the place of control, observer and gateway.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.app.state import StatePaths
from fairlead.app.supervisor import (
    Supervisor,
    UpSettings,
)
from fairlead.domain.errors import Unavailable

PROGRAM = """
import functools, os, signal, subprocess, sys, time
from pathlib import Path
from fairlead.app.state import StatePaths
from fairlead.app import supervisor
from fairlead.app.supervisor import Supervisor, UpSettings, die_with_parent

root, stubborn = Path(sys.argv[1]), sys.argv[2]
CHILD = '''
import os, signal, sys, time
name, log, stubborn = sys.argv[1:]
def say(word):
    with open(log, "a") as out:
        out.write(f"{word} {name} {os.getpid()}" + chr(10))
def end(number, frame):
    say(signal.Signals(number).name)
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end)
if stubborn == name:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if name == "control" and stubborn == "leftover":
    if os.fork() == 0:
        name = "replica"
        os.setsid()
say("up")
while True:
    time.sleep(60)
'''

class Small(Supervisor):
    def _spawn(self, name, module, settings, listening=None, token=None):
        return subprocess.Popen(
            [sys.executable, "-S", "-c", CHILD, name, str(root / "log"), stubborn],
            start_new_session=True, preexec_fn=die_with_parent,
        )

supervisor.STOP_GRACE_S = 0.3
paths = StatePaths(root / "state")
paths.create()
made = Small(paths, UpSettings(gateway_port=0, control_port=0, workers=2, drain_s=0.2),
             lambda line: print(line, flush=True))
if stubborn == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
made.install_signal_handlers()
made.start()
if stubborn == "odd":
    paths.up.unlink()
    paths.up.mkdir()
made.run()
made.stop()
print("closed" if made._gateway.fileno() == made._control.fileno() == -1 else "open")
print("stopped", flush=True)
"""


class Run:
    """A supervisor in a process of its own."""

    def __init__(self, root: Path, stubborn: str = "") -> None:
        self.root = root
        self.paths = StatePaths(root / "state")
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(root), stubborn],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines(self, word: str = "") -> list[list[str]]:
        """What the children said: word, name, pid."""
        try:
            said = (self.root / "log").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.split() for line in said if line.startswith(word)]

    def pids(self, name: str) -> list[int]:
        return [int(pid) for _, who, pid in self.lines("up") if who == name]

    def wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not done():
            assert time.monotonic() < deadline, self.lines()
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.02)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=20)
        return output


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def begin(stubborn: str = "") -> Run:
        made.append(Run(tmp_path, stubborn))
        made[-1].wait(lambda: len(made[-1].lines("up")) >= 4)
        return made[-1]

    yield begin
    for run in made:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()
        assert run.process.stdout is not None
        run.process.stdout.close()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(is_running(pid) for pid in pids)


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
