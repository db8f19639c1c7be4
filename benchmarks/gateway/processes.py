"""Processes under test: pinned to a core, awaited, looked at in /proc, and always ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOL_ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}
READY_S = 180.0
END_S = 20.0
IDLE_S = 20.0
_IDLE_SAMPLE_S = 0.3
_IDLE_SHARE = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkFailed(Exception):
    """Something did not start or did not answer; the text says what."""


@dataclass(frozen=True)
class Cores:
    """Where things run: the proxy alone on one core, load and upstream together on the other."""

    proxy: int
    load: int


def two_cores() -> Cores:
    """The first two cores that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchmarkFailed("the benchmark needs two cores")
    return Cores(proxy=usable[0], load=usable[1])


class Bystanders:
    """What other programs took of the cores while the benchmark ran: noise, to be told."""

    def __init__(self, cores: Sequence[int]) -> None:
        self._cores = cores
        self._began = time.monotonic()
        self._busy_s = self._now_busy_s()

    @property
    def share(self) -> float:
        """Of these cores, once everything that was started has ended."""
        took = time.monotonic() - self._began
        return max(0.0, self._now_busy_s() - self._busy_s) / (took * len(self._cores))

    def _now_busy_s(self) -> float:
        """Busy time of the cores, less that of this process and its ended children."""
        busy = 0.0
        for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines():
            name, *fields = line.split()
            if name in [f"cpu{core}" for core in self._cores]:
                user, nice, system, _, _, irq, softirq, steal = (int(f) for f in fields[:8])
                busy += (user + nice + system + irq + softirq + steal) / _TICKS
        times = os.times()
        ours = times.user + times.system + times.children_user + times.children_system
        return busy - ours


def free_port() -> int:
    """A TCP port on loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command, kept on one core."""
    return ["taskset", "-c", str(core), *command]


def tool(module: str, *arguments: float) -> list[str]:
    """A program of this package; it needs `TOOL_ENVIRON`."""
    words = [str(argument) for argument in arguments]
    return [sys.executable, "-m", f"benchmarks.gateway.{module}", *words]


class Running:
    """A process and its children, in a process group of their own.

    Args:
        log: File for what it says.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        core: int,
        environ: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                pinned(core, command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env={**TOOL_ENVIRON, **(environ or {})},
                pass_fds=pass_fds,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the first process (taskset becomes the command)."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the first process runs."""
        return self._process.poll() is None

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def stop(self) -> None:
        """End it and its children: politely, then not."""
        if self.is_alive:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def cpu_s(self) -> float:
        """CPU seconds that it and its children have used."""
        return sum(cpu_s_of(pid) for pid in tree(self.pid))

    def rss_mb(self) -> float:
        """Resident memory of it and its children, in MB (10^6 bytes)."""
        return sum(_rss_bytes(pid) for pid in tree(self.pid)) / 1e6

    def wait_idle(self) -> None:
        """Until it has done what was left of an earlier load, which would slow the next proxy."""
        deadline = time.monotonic() + IDLE_S
        while time.monotonic() < deadline:
            before = self.cpu_s()
            time.sleep(_IDLE_SAMPLE_S)
            if self.cpu_s() - before < _IDLE_SHARE * _IDLE_SAMPLE_S:
                return

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    pids = [pid]
    for parent in pids:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids += [int(child) for child in task.read_text().split()]
            except OSError:
                continue  # It has ended meanwhile.
    return pids


def cpu_s_of(pid: int) -> float:
    """CPU seconds that all threads of this process have used, those of its children not counted."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def wait_answering(running: Running, port: int, body: bytes, key: str) -> None:
    """Until a chat request is answered 200; raises BenchmarkFailed."""
    deadline = time.monotonic() + READY_S
    seen = "nothing"
    while time.monotonic() < deadline:
        if not running.is_alive:
            raise BenchmarkFailed(f"it ended at once:\n{running.said()}")
        try:
            status = ask(port, body, key)
        except (OSError, http.client.HTTPException) as error:
            seen = str(error)
        else:
            if status == 200:
                return
            seen = f"status {status}"
        time.sleep(0.1)
    raise BenchmarkFailed(f"not ready after {READY_S:.0f} s ({seen}):\n{running.said()}")


def ask(port: int, body: bytes, key: str) -> int:
    """Status of one chat request, its answer read to the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def run_json(command: Sequence[str], *, core: int, timeout_s: float) -> dict[str, float]:
    """Run a load generator that prints one JSON object; raises BenchmarkFailed."""
    done = subprocess.run(
        pinned(core, command),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=TOOL_ENVIRON,
    )
    if done.returncode != 0:
        raise BenchmarkFailed(f"{command[-1]}: {done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer
