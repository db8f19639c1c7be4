"""Part 3: a thousand streams at the same time.

Three paces: gentle (an event comes alone, for every proxy), full (what was asked for), and
saturation: the full pace for a proxy that has only a part of its core (`--held`). The load of
these streams takes as much of a core as a fast proxy does; so with all of a core a proxy would not
be at its limit, but the load. A proxy that has too little of a core reads more events at once,
later, and so needs less for each: it can pass on all of them there, and its limit shows in how
late. A proxy is started anew for each pace, because memory that was used once is seldom given back.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.peers import Proxy, serving
from benchmarks.gateway.plan import DIRECT, Plan, Samples, say
from benchmarks.gateway.processes import (
    TOOL_ENVIRON,
    BenchmarkFailed,
    Running,
    cpu_s_of,
    pinned,
    tool,
)
from benchmarks.gateway.upstreams import event_streams

LEFT_OUT = ("litellm",)
"""Opening a thousand streams would take it longer than the measurement."""


@dataclass(frozen=True)
class Pace:
    """How fast events come, and how much of its core the proxy has.

    Attributes:
        events_per_s: Of each stream.
        held_share: Of the proxy's core, taken by another process.
    """

    name: str
    events_per_s: int
    held_share: float = 0.0


def paces(plan: Plan) -> list[Pace]:
    """All that are measured, in this order."""
    return [
        Pace("gentle", max(1, plan.events_per_s // 5)),
        Pace("full", plan.events_per_s),
        Pace("saturation", plan.events_per_s, plan.held_share),
    ]


def measure(plan: Plan, folder: Path) -> Samples:
    """Of each pace and proxy: events/s, delays, CPU, memory."""
    samples = Samples()
    names = [DIRECT, *(name for name in plan.proxies if name not in LEFT_OUT)]
    for round_number in range(plan.rounds):
        for pace in paces(plan):
            for name in names:
                place = folder / f"{round_number}-{pace.name}-{name}"
                upstream = event_streams(
                    place, plan.cores.load, streams=plan.streams, events_per_s=pace.events_per_s
                )
                with upstream as (port, server), _through(plan, name, place, port) as proxy:
                    with _held(plan, pace, place):
                        cell = _Cell(plan, pace, name, server, proxy)
                        cell.measure(port if proxy is None else proxy.port)
                    cell.note(samples)
                shown = samples.of(f"{pace.name}_events", name)[-1]
                say("streams", round_number, f"{pace.name}, {name}", f"{shown:,.0f} events/s")
    return samples


@contextlib.contextmanager
def _through(plan: Plan, name: str, place: Path, upstream: int) -> Iterator[Proxy | None]:
    """The proxy, or none."""
    if name == DIRECT:
        yield None
        return
    with serving(
        name, plan.environments, place / "proxy", plan.cores, upstream, streams=True
    ) as proxy:
        yield proxy


@contextlib.contextmanager
def _held(plan: Plan, pace: Pace, place: Path) -> Iterator[None]:
    """A part of the proxy's core is taken."""
    if not pace.held_share:
        yield
        return
    hog = Running(tool("hog", pace.held_share), place / "hog.log", core=plan.cores.proxy)
    try:
        yield
        if not hog.is_alive:
            raise BenchmarkFailed(f"the core was not held: {hog.said()}")
    finally:
        hog.stop()


class _Cell:
    """One proxy at one pace.

    Args:
        server: The upstream, which shares a core with the client.
    """

    def __init__(
        self, plan: Plan, pace: Pace, name: str, server: Running, proxy: Proxy | None
    ) -> None:
        self._plan = plan
        self._pace = pace
        self._name = name
        self._server = server
        self._proxy = proxy
        self._idle_mb = proxy.running.rss_mb() if proxy is not None else 0.0
        self._mb = 0.0
        self._cpu_s = 0.0
        self._load_cpu_s = 0.0
        self._result: dict[str, float] = {}

    def measure(self, port: int) -> None:
        """Open the streams on that port, and read them; raises BenchmarkFailed."""
        plan = self._plan
        client = subprocess.Popen(
            pinned(plan.cores.load, tool("stream_client", port, plan.streams, plan.seconds)),
            stdout=subprocess.PIPE,
            text=True,
            env=TOOL_ENVIRON,
        )
        try:
            assert client.stdout is not None
            for line in client.stdout:
                if line.startswith("{"):
                    self._result = json.loads(line)
                elif line == "begin\n":
                    self._count_cpu(client.pid, -1)
                elif line == "end\n":
                    self._count_cpu(client.pid, 1)
            client.wait(30)
        finally:
            client.kill()
            client.wait()
        if not self._result:
            raise BenchmarkFailed(f"{self._name}: the streams could not be read")

    def _count_cpu(self, client: int, sign: int) -> None:
        """Take what was used until the beginning off what was used until the end."""
        self._load_cpu_s += sign * (self._server.cpu_s() + cpu_s_of(client))
        if self._proxy is not None:
            self._cpu_s += sign * self._proxy.running.cpu_s()
            self._mb = self._proxy.running.rss_mb() - self._idle_mb

    def note(self, samples: Samples) -> None:
        """Keep what was measured."""
        pace, name, result = self._pace.name, self._name, self._result
        seconds = self._plan.seconds
        samples.add(f"{pace}_events", name, result["events_per_s"])
        samples.add(f"{pace}_together", name, result["events_per_s"] / result["reads_per_s"])
        samples.add(f"{pace}_lost", name, result["lost"])
        samples.add(f"{pace}_load", name, self._load_cpu_s / seconds)
        for measure in ("p50_ms", "p99_ms"):
            samples.add(f"{pace}_{measure}", name, result[measure])
            if name != DIRECT:
                direct = samples.of(f"{pace}_{measure}", DIRECT)[-1]
                samples.add(f"{pace}_added_{measure}", name, result[measure] - direct)
        if self._proxy is not None and self._cpu_s > 0:
            samples.add(f"{pace}_mb", name, self._mb)
            samples.add(f"{pace}_cpu", name, self._cpu_s / seconds)
            per_cpu_s = result["events_per_s"] * seconds / self._cpu_s
            samples.add(f"{pace}_per_cpu_s", name, per_cpu_s)
