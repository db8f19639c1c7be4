"""Part 3: a thousand streams at the same time.

Three paces: gentle (an event comes alone, for every proxy), full (what was asked for), and
saturation (no pause at all; only back-pressure). A proxy is started anew for each, because
memory that was used once is seldom given back.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway.peers import Proxy, serving
from benchmarks.gateway.plan import DIRECT, Plan, Samples, say
from benchmarks.gateway.processes import TOOL_ENVIRON, BenchmarkFailed, pinned, tool
from benchmarks.gateway.upstreams import event_streams

LEFT_OUT = ("litellm",)
"""Opening a thousand streams would take it longer than the measurement."""


def paces(plan: Plan) -> dict[str, int]:
    """Events per second of each stream, by the pace's name; 0 for as fast as it goes."""
    return {"gentle": max(1, plan.events_per_s // 5), "full": plan.events_per_s, "saturation": 0}


def measure(plan: Plan, folder: Path) -> Samples:
    """Of each pace and proxy: events/s, delays, CPU, memory."""
    samples = Samples()
    names = [DIRECT, *(name for name in plan.proxies if name not in LEFT_OUT)]
    for round_number in range(plan.rounds):
        for pace, events_per_s in paces(plan).items():
            for name in names:
                place = folder / f"{round_number}-{pace}-{name}"
                upstream = event_streams(
                    place, plan.cores.load, streams=plan.streams, events_per_s=events_per_s
                )
                with upstream as port, _through(plan, name, place, port) as proxy:
                    _one(plan, pace, name, port, proxy, samples)
                shown = samples.of(f"{pace}_events", name)[-1]
                say("streams", round_number, f"{pace}, {name}", f"{shown:,.0f} events/s")
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


def _one(
    plan: Plan, pace: str, name: str, upstream: int, proxy: Proxy | None, samples: Samples
) -> None:
    port = upstream if proxy is None else proxy.port
    idle_mb = proxy.running.rss_mb() if proxy is not None else 0.0
    cpu_s = 0.0
    result: dict[str, float] = {}
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
                result = json.loads(line)
            elif proxy is None:
                continue
            elif line == "begin\n":
                cpu_s = -proxy.running.cpu_s()
            elif line == "end\n":
                cpu_s += proxy.running.cpu_s()
                samples.add(f"{pace}_mb", name, proxy.running.rss_mb() - idle_mb)
        client.wait(30)
    finally:
        client.kill()
        client.wait()
    if not result:
        raise BenchmarkFailed(f"{name}: the streams could not be read")
    _note(plan, pace, name, result, cpu_s, samples)


def _note(
    plan: Plan,
    pace: str,
    name: str,
    result: dict[str, float],
    cpu_s: float,
    samples: Samples,
) -> None:
    samples.add(f"{pace}_events", name, result["events_per_s"])
    samples.add(f"{pace}_lost", name, result["lost"])
    for measure in ("p50_ms", "p99_ms"):
        samples.add(f"{pace}_{measure}", name, result[measure])
        if name != DIRECT:
            direct = samples.of(f"{pace}_{measure}", DIRECT)[-1]
            samples.add(f"{pace}_added_{measure}", name, result[measure] - direct)
    if cpu_s > 0:
        samples.add(f"{pace}_cpu", name, cpu_s / plan.seconds)
        samples.add(f"{pace}_per_cpu_s", name, result["events_per_s"] * plan.seconds / cpu_s)
