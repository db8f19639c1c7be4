"""Kills replicas, restarts the gateway, and looks at all processes meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from fairlead.domain.errors import FairleadError
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from support.installation import Installation
from support.processes import Held, look

BUSY_S_MAX = 2.0


@dataclass
class Havoc:
    """What was done, and what was seen.

    Attributes:
        kill_every_s, restart_every_s: 0 for never.
        kills, restarts: Seconds after the begin.
        troubles: A restart that failed, control that did not answer.
        samples: Seconds after the begin, and what each process held.
    """

    installation: Installation
    kill_every_s: float
    restart_every_s: float
    sample_every_s: float
    kills: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    samples: list[tuple[float, list[Held]]] = field(default_factory=list)
    _dice: random.Random = field(default_factory=lambda: random.Random(20))
    _begin: float = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        self._begin = time.monotonic()
        await asyncio.gather(
            self._every(self.kill_every_s, self._kill),
            self._every(self.restart_every_s, self._restart),
            self._every(self.sample_every_s, self._sample),
        )

    async def _every(self, seconds: float, do: Callable[[float], None]) -> None:
        at = self._begin
        while seconds > 0:
            at = max(at + seconds, time.monotonic())
            await asyncio.sleep(at - time.monotonic())
            await asyncio.to_thread(do, at - self._begin)

    def _kill(self, at: float) -> None:
        """Kill a replica that has requests in work, if there is another that serves."""
        try:
            replicas = self.installation.status().replicas
        except FairleadError as error:
            self.troubles.append(f"control does not answer: {error.message}")
            return
        ready = [r for r in replicas if r.state is ReplicaState.READY and r.pid]
        if len(ready) > 1:
            os.kill(self._busy(ready).pid, signal.SIGKILL)
            self.kills.append(at)

    def _busy(self, ready: list[ReplicaStatus]) -> ReplicaStatus:
        """One with requests in work; any, when that takes too long to find."""
        deadline = time.monotonic() + BUSY_S_MAX
        while time.monotonic() < deadline:
            chosen = self._dice.choice(ready)
            if in_work(chosen):
                return chosen
        return self._dice.choice(ready)

    def _restart(self, at: float) -> None:
        state = str(self.installation.paths.root)
        command = [sys.executable, "-m", "fairlead", "gateway", "restart", "--state", state]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.restarts.append(at)
        if done.returncode != 0:
            said = " ".join((done.stdout + done.stderr).split())
            self.troubles.append(f"a restart failed: {said}")

    def _sample(self, at: float) -> None:
        assert self.installation.process is not None
        self.samples.append((at, look(self.installation.process.pid)))


def in_work(replica: ReplicaStatus) -> int:
    """Requests that it answers just now."""
    try:
        with urllib.request.urlopen(f"{replica.base_url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    name = "llamacpp:requests_processing "
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))
