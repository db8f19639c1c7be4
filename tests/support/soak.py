"""A soak: an installation under steady load for long, while its parts are killed and restarted.

The load is a share of what the machine can do at the start, found by a short calibration; and it
never has more requests open than a few times the replicas' slots, so that a machine that becomes
slower later is not flooded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.domain.errors import FairleadError
from fairlead.domain.replica import ReplicaState
from fairlead.manifest import Manifest
from fairlead.store import open_store
from fairlead.store.rows import RecordFilter
from support.installation import Installation, descendants
from support.load import Connection, Reply, is_whole

ROLES = {
    "control": "fairlead.app.control_process",
    "observer": "fairlead.app.observer_process",
    "gateway": "fairlead.app.gateway_process",
    "replica": "fairlead.engines.llamacpp",
}
OPEN_MAX = 24
IDLE_S_MAX = 20.0
"""A client does not use a connection again that was idle for so long; servers close those."""
SAMPLE_EVERY_S = 2.0
RSS_GROWTH_MAX = 0.10
RSS_GROWTH_KB_FREE = 8 * 1024
FDS_GROWTH_MAX = 0.10
FDS_GROWTH_FREE = 8
SHOWN_MAX = 10


@dataclass
class Plan:
    """What a soak does.

    Attributes:
        load: Share of the calibrated saturation.
        cut_streams_fail: Whether a stream that ends with an error because its replica was killed
            counts as failed. It does once streams are continued on another replica.
    """

    seconds: float
    kill_every_s: float = 20.0
    restart_every_s: float = 120.0
    load: float = 0.5
    streamed: float = 0.5
    calibration_s: float = 6.0
    cut_streams_fail: bool = False


@dataclass
class Sample:
    """What the processes of one role held at one moment."""

    at: float
    role: str
    processes: int
    rss_kb: int
    fds: int


@dataclass
class Soak:
    """What happened. `rss_kb` and `fds` of a sample are those of the role's largest process."""

    plan: Plan
    saturation: float = 0.0
    rate: float = 0.0
    answered: int = 0
    streams: int = 0
    held_back: int = 0
    failed: list[Reply] = field(default_factory=list)
    cut: list[Reply] = field(default_factory=list)
    kills: int = 0
    restarts: int = 0
    restarts_failed: list[str] = field(default_factory=list)
    processes_ended: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    durations_ms: list[float] = field(default_factory=list)
    unrecorded: int = 0
    recorded_twice: int = 0

    def roles(self) -> list[str]:
        """The roles that were seen, in a fixed order."""
        seen = {sample.role for sample in self.samples}
        return [role for role in ("supervisor", *ROLES) if role in seen]

    def third(self, role: str, number: int, what: Callable[[Sample], int]) -> float:
        """The median of a figure in one third of the time: 0, 1 or 2."""
        begin, end = self.samples[0].at, self.samples[-1].at + 0.001
        length = (end - begin) / 3
        low = begin + number * length
        chosen = [what(s) for s in self.samples if s.role == role and low <= s.at < low + length]
        return statistics.median(chosen) if chosen else 0.0

    def problems(self) -> list[str]:
        """All that is not as it has to be; empty when the soak has passed."""
        found = [f"failed: {_shown(reply)}" for reply in self.failed[:SHOWN_MAX]]
        if self.plan.cut_streams_fail:
            found += [f"cut: {_shown(reply)}" for reply in self.cut[:SHOWN_MAX]]
        found += [f"a restart failed: {what}" for what in self.restarts_failed]
        found += [f"ended by itself: {what}" for what in self.processes_ended]
        if self.unrecorded:
            found.append(f"{self.unrecorded} answers have no record")
        if self.recorded_twice:
            found.append(f"{self.recorded_twice} requests have more than one record")
        if not self.kills or not self.restarts:
            found.append(f"{self.kills} kills and {self.restarts} restarts: nothing was tried")
        for role in self.roles():
            found += self._growth(role)
        return found

    def _growth(self, role: str) -> Iterator[str]:
        for name, what, share, free in (
            ("kB of memory", lambda s: s.rss_kb, RSS_GROWTH_MAX, RSS_GROWTH_KB_FREE),
            ("descriptors", lambda s: s.fds, FDS_GROWTH_MAX, FDS_GROWTH_FREE),
        ):
            before, after = self.third(role, 1, what), self.third(role, 2, what)
            if after > before * (1 + share) + free:
                yield f"{role}: {before:.0f} {name} in the second third, {after:.0f} in the last"


def _shown(reply: Reply) -> str:
    kind = "stream" if reply.stream else "plain"
    return f"{kind}, status {reply.status} {reply.error} {reply.text[-200:]!r}"


def prepared(manifest: Manifest) -> Manifest:
    """The example's release with short rollout steps and patience for a slow machine."""
    limits = manifest.limits.model_copy(
        update={"queue": 1000, "queue_timeout_seconds": 60, "request_timeout_seconds": 90}
    )
    return manifest.model_copy(update={"limits": limits})


class Clients:
    """Clients of the gateway, each request on a connection that is free or new."""

    def __init__(self, soak: Soak, installation: Installation, questions: list[str]) -> None:
        self._soak = soak
        self._address = installation.gateway
        self._key = installation.key
        self._questions = itertools.cycle(questions)
        self._dice = random.Random(5)
        self._free: list[tuple[float, Connection]] = []
        self._open: set[asyncio.Task[None]] = set()
        self.ids: list[str] = []

    async def saturate(self, seconds: float) -> float:
        """Requests a second with as many open as there ever are."""
        end = time.monotonic() + seconds
        begin, before = time.monotonic(), self._soak.answered

        async def one_after_the_other() -> None:
            while time.monotonic() < end:
                await self._ask()

        await asyncio.gather(*(one_after_the_other() for _ in range(OPEN_MAX)))
        return (self._soak.answered - before) / (time.monotonic() - begin)

    async def steady(self, rate: float, end: float) -> None:
        """Send at this rate, and wait for what is due at the end."""
        begin = time.monotonic()
        for number in itertools.count():
            delay = begin + number / rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if time.monotonic() >= end:
                break
            if len(self._open) >= OPEN_MAX:
                self._soak.held_back += 1
                continue
            task = asyncio.create_task(self._ask())
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        if self._open:
            await asyncio.wait(self._open)
        for _, connection in self._free:
            connection.close()

    async def _ask(self) -> None:
        stream = self._dice.random() < self._soak.plan.streamed
        body = {
            "model": "banking",
            "messages": [{"role": "user", "content": next(self._questions)}],
            **({"stream": True} if stream else {}),
        }
        connection = self._connection()
        reply = await connection.post("/v1/chat/completions", body)
        self._free.append((time.monotonic(), connection))
        self._note(reply)

    def _connection(self) -> Connection:
        now = time.monotonic()
        while self._free and now - self._free[0][0] > IDLE_S_MAX:
            self._free.pop(0)[1].close()
        return self._free.pop()[1] if self._free else Connection(self._address, self._key)

    def _note(self, reply: Reply) -> None:
        soak = self._soak
        soak.answered += 1
        soak.streams += reply.stream
        if reply.request_id:
            self.ids.append(reply.request_id)
        if is_whole(reply):
            soak.durations_ms.append((reply.ended - reply.began) * 1000)
        elif reply.stream and reply.status == 200 and "upstream_cut" in reply.text:
            soak.cut.append(reply)
        else:
            soak.failed.append(reply)


class Havoc:
    """Kills replicas, restarts the gateway, and looks at all processes."""

    def __init__(self, soak: Soak, installation: Installation) -> None:
        self._soak = soak
        self._installation = installation
        self._dice = random.Random(20)
        self._begin = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(
            self._every(self._soak.plan.kill_every_s, self._kill),
            self._every(self._soak.plan.restart_every_s, self._restart),
            self._every(SAMPLE_EVERY_S, self._sample),
        )

    @staticmethod
    async def _every(seconds: float, do: Callable[[], None]) -> None:
        at = time.monotonic()
        while True:
            at = max(at + seconds, time.monotonic())
            await asyncio.sleep(at - time.monotonic())
            await asyncio.to_thread(do)

    def _kill(self) -> None:
        """Kill a replica, if there is another that serves."""
        try:
            replicas = self._installation.status().replicas
        except FairleadError as error:
            self._soak.processes_ended.append(f"control does not answer: {error.message}")
            return
        ready = [r.pid for r in replicas if r.state is ReplicaState.READY and r.pid]
        if len(ready) > 1:
            os.kill(self._dice.choice(ready), signal.SIGKILL)
            self._soak.kills += 1

    def _restart(self) -> None:
        state = str(self._installation.paths.root)
        command = [sys.executable, "-m", "fairlead", "gateway", "restart", "--state", state]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self._soak.restarts += 1
        if done.returncode != 0:
            self._soak.restarts_failed.append(" ".join((done.stdout + done.stderr).split()))

    def _sample(self) -> None:
        process = self._installation.process
        assert process is not None
        at = time.monotonic() - self._begin
        held: dict[str, list[tuple[int, int]]] = {}
        for pid in (process.pid, *descendants(process.pid)):
            with contextlib.suppress(OSError):
                role = "supervisor" if pid == process.pid else role_of(pid)
                if role:
                    held.setdefault(role, []).append((rss_kb(pid), descriptors(pid)))
        for role, figures in held.items():
            rss, fds = (max(column) for column in zip(*figures, strict=True))
            self._soak.samples.append(Sample(at, role, len(figures), rss, fds))


def role_of(pid: int) -> str:
    """What a process is; empty for one that belongs to none of the parts."""
    line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return next((role for role, module in ROLES.items() if module in line), "")


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)  # It has ended, and is not reaped yet.


def descriptors(pid: int) -> int:
    """Open files and sockets of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


async def run_soak(installation: Installation, questions: list[str], plan: Plan) -> Soak:
    """Ship the example's release, calibrate, and soak it."""
    soak = Soak(plan)
    shipped = await asyncio.to_thread(lambda: installation.ship(installation.spec("a", prepared)))
    ended = await asyncio.to_thread(installation.finish, shipped.id)
    assert ended.outcome == "promoted", ended
    clients = Clients(soak, installation, questions)
    soak.saturation = await clients.saturate(plan.calibration_s)
    soak.rate = max(1.0, plan.load * soak.saturation)
    soak.durations_ms.clear()
    havoc = asyncio.create_task(Havoc(soak, installation).run())
    try:
        await clients.steady(soak.rate, time.monotonic() + plan.seconds)
    finally:
        havoc.cancel()
        ends = await asyncio.gather(havoc, return_exceptions=True)
    soak.processes_ended += [str(e) for e in ends if not isinstance(e, asyncio.CancelledError)]
    soak.processes_ended += unplanned_ends(installation)
    recorded = await asyncio.to_thread(recorded_ids, installation, len(clients.ids))
    counted = Counter(recorded)
    soak.unrecorded = sum(1 for each in clients.ids if each not in counted)
    soak.recorded_twice = sum(1 for count in counted.values() if count > 1)
    return soak


def unplanned_ends(installation: Installation) -> list[str]:
    """What the supervisor said of parts that ended by themselves."""
    said = (installation.paths.logs / "up.log").read_text(errors="replace").splitlines()
    return [line for line in said if "starting it again" in line or "an old process" in line]


def recorded_ids(installation: Installation, expected: int) -> list[str]:
    """Ids of all kept records, once the observer has caught up."""
    store = open_store(installation.paths.store_url)
    try:
        deadline = time.monotonic() + 30
        while True:
            found = [row.id for row in store.records(RecordFilter(), limit=expected + 10_000)]
            if len(found) >= expected or time.monotonic() > deadline:
                return found
            time.sleep(0.5)
    finally:
        store.close()
