"""A supervisor in a process of its own, since it ends all children of its process.

Small programs take the place of control, observer and gateway.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from fairlead.app.state import StatePaths

PROGRAM = """
import functools, os, signal, subprocess, sys, time
from pathlib import Path
from fairlead.app.state import StatePaths
from fairlead.app import supervisor, turnover
from fairlead.app.launching import Launcher
from fairlead.app.processes import die_with_parent
from fairlead.app.supervisor import Supervisor
from fairlead.app.up_settings import UpSettings

root, stubborn = Path(sys.argv[1]), sys.argv[2]
CHILD = '''
import os, signal, sys, time
name, log, stubborn, ready = sys.argv[1:]
def say(word):
    with open(log, "a") as out:
        out.write(f"{word} {name} {os.getpid()}" + chr(10))
def end(number, frame):
    say(signal.Signals(number).name)
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end)
if stubborn == "slow" and name.startswith("gateway"):
    signal.signal(signal.SIGTERM, lambda number, frame: say("hurried"))
def retire(number, frame):
    say("retires")
    if stubborn != "slow":
        sys.exit(0)
signal.signal(signal.SIGUSR1, retire)
if stubborn == name:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if name == "control" and stubborn == "leftover":
    if os.fork() == 0:
        name = "replica"
        os.setsid()
ready = int(ready)
if ready >= 0 and stubborn == "broken" and name == "gateway-1":
    print("no such module", file=sys.stderr)
    sys.exit(3)
say("up")
if ready >= 0 and stubborn not in ("silent", "hanging"):
    os.write(ready, b"serves")
while True:
    time.sleep(60)
'''

class Small(Launcher):
    def _spawn(self, name, module, settings, descriptors=(), token=None):
        ready = settings.get("ready_fd")
        arguments = [name, str(root / "log"), stubborn, str(-1 if ready is None else ready)]
        with self._logs.open(name) as log:
            return subprocess.Popen(
                [sys.executable, "-S", "-c", CHILD, *arguments],
                stderr=log, start_new_session=True, preexec_fn=die_with_parent,
                pass_fds=descriptors,
            )

supervisor.Launcher = Small
supervisor.STOP_GRACE_S = 0.3
turnover.COME_UP_S = 0.5 if stubborn == "silent" else 30.0
paths = StatePaths(root / "state")
paths.create()
made = Supervisor(paths, UpSettings(gateway_port=0, control_port=0, workers=2, drain_s=0.2),
                  lambda line: print(line, flush=True))
# Whoever runs the tests may have done so under nohup.
signal.signal(signal.SIGHUP, signal.SIG_IGN if stubborn == "nohup" else signal.SIG_DFL)
made.install_signal_handlers()
made.start()
if stubborn == "odd":
    paths.up.unlink()
    paths.up.mkdir()
with paths.locked():
    made.run()
    made.stop()
sockets = made._sockets
print("closed" if sockets.gateway.fileno() == sockets.control.fileno() == -1 else "open")
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


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(is_running(pid) for pid in pids)
