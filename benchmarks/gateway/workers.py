"""Part 4: two workers beside one.

A cell is a core with its own wrk and its own upstream, and one worker of the gateway. One cell is
measured with the other core idle, then two cells with both workers on one listening socket: twice
the machine for twice the load, so that perfect scaling is 2 in requests/s. Load is not kept apart
from the workers here, so the figures are below those of part 1.

With two cores half of the packets go from one to the other, which costs more than on one core,
whatever runs there. So two gateways that share nothing are measured, too, each with half of each
core's load and with both upstreams: what is lost there is not lost between the workers.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from benchmarks.gateway.fairlead_proxy import FairleadGateway
from benchmarks.gateway.plan import Plan, Samples, say
from benchmarks.gateway.processes import Running, pinned
from benchmarks.gateway.upstreams import fixed_completion
from benchmarks.gateway.wrk import CONNECTIONS, WrkResult, read_wrk, write_script, wrk_command

ONE, TWO, APART = "one worker", "two workers", "two gateways apart"
_WARM_UP_S = 1.0


def measure(plan: Plan, folder: Path) -> Samples:
    """Requests/s and per CPU second of one cell and of two; how even the workers are."""
    samples = Samples()
    script = write_script(folder)
    one, other = plan.cores.proxy, plan.cores.load
    cells = {ONE: [[one]], TWO: [[one, other]], APART: [[one], [other]]}
    for round_number in range(plan.rounds):
        for name, groups in cells.items():
            place = folder / f"{round_number}-{len(groups)}-{len(groups[0])}"
            place.mkdir()
            _one(plan, name, groups, place, script, samples)
            shown = samples.of("rps", name)[-1]
            say("workers", round_number, name, f"{shown:,.0f} requests/s")
    return samples


def _one(
    plan: Plan, name: str, groups: list[list[int]], folder: Path, script: Path, samples: Samples
) -> None:
    """Each group of cores has a gateway to itself; each core loads all of them alike."""
    every = [core for cores in groups for core in cores]
    ports: list[int] = []
    workers: list[Running] = []
    with contextlib.ExitStack() as stack:
        upstreams = [
            stack.enter_context(fixed_completion(folder / f"upstream-{core}", core))
            for core in every
        ]
        for cores in groups:
            place = folder / f"gateway-{cores[0]}"
            place.mkdir()
            gateway = FairleadGateway(place, cores=cores, upstreams=upstreams, slots=256)
            stack.callback(gateway.stop)
            gateway.wait_ready()
            workers += gateway.workers
            ports.append(gateway.port)
        _load(script, every, ports, _WARM_UP_S)
        before = [worker.cpu_s() for worker in workers]
        results = _load(script, every, ports, plan.seconds)
        used = [w.cpu_s() - b for w, b in zip(workers, before, strict=True)]
    requests = sum(result.requests - result.failed for result in results)
    samples.add("rps", name, sum(result.per_second for result in results))
    samples.add("per_cpu_s", name, requests / sum(used))
    samples.add("busiest", name, max(used) / sum(used))
    samples.add("failed", name, sum(result.failed for result in results))


def _load(script: Path, cores: list[int], ports: list[int], seconds: float) -> list[WrkResult]:
    """From each core to each port, at the same time, with as many connections from each core."""
    connections = CONNECTIONS // len(ports)
    running = [
        subprocess.Popen(
            pinned(core, wrk_command(script, port, seconds, connections)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for core in cores
        for port in ports
    ]
    try:
        return [read_wrk(wrk.communicate(timeout=seconds + 60)[0]) for wrk in running]
    finally:
        for wrk in running:
            wrk.kill()
            wrk.wait()
