"""Part 4: two workers beside one.

A cell is a core with its own wrk and its own upstream, and one worker of the gateway. One cell is
measured with the other core idle, then two cells with both workers on one listening socket: twice
the machine for twice the load, so that perfect scaling is 2 in requests/s. Load is not kept apart
from the workers here, so the figures are below those of part 1.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from benchmarks.gateway.fairlead_proxy import FairleadGateway
from benchmarks.gateway.plan import Plan, Samples, say
from benchmarks.gateway.processes import pinned
from benchmarks.gateway.upstreams import fixed_completion
from benchmarks.gateway.wrk import CONNECTIONS, WrkResult, read_wrk, write_script, wrk_command

ONE, TWO = "one worker", "two workers"
_WARM_UP_S = 1.0


def measure(plan: Plan, folder: Path) -> Samples:
    """Requests/s and per CPU second of one cell and of two; how even the workers are."""
    samples = Samples()
    script = write_script(folder)
    cells = {ONE: [plan.cores.proxy], TWO: [plan.cores.proxy, plan.cores.load]}
    for round_number in range(plan.rounds):
        for name, cores in cells.items():
            place = folder / f"{round_number}-{len(cores)}"
            place.mkdir()
            _one(plan, name, cores, place, script, samples)
            shown = samples.of("rps", name)[-1]
            say("workers", round_number, name, f"{shown:,.0f} requests/s")
    return samples


def _one(
    plan: Plan, name: str, cores: list[int], folder: Path, script: Path, samples: Samples
) -> None:
    with contextlib.ExitStack() as stack:
        upstreams = [
            stack.enter_context(fixed_completion(folder / f"upstream-{core}", core))
            for core in cores
        ]
        gateway = FairleadGateway(folder, cores=cores, upstreams=upstreams, slots=256)
        stack.callback(gateway.stop)
        gateway.wait_ready()
        _load(script, gateway.port, cores, _WARM_UP_S)
        before = [worker.cpu_s() for worker in gateway.workers]
        results = _load(script, gateway.port, cores, plan.seconds)
        used = [w.cpu_s() - b for w, b in zip(gateway.workers, before, strict=True)]
    requests = sum(result.requests - result.failed for result in results)
    samples.add("rps", name, sum(result.per_second for result in results))
    samples.add("per_cpu_s", name, requests / sum(used))
    samples.add("busiest", name, max(used) / sum(used))
    samples.add("failed", name, sum(result.failed for result in results))


def _load(script: Path, port: int, cores: list[int], seconds: float) -> list[WrkResult]:
    """One wrk on each core, at the same time."""
    running = [
        subprocess.Popen(
            pinned(core, wrk_command(script, port, seconds, CONNECTIONS)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for core in cores
    ]
    try:
        return [read_wrk(wrk.communicate(timeout=seconds + 60)[0]) for wrk in running]
    finally:
        for wrk in running:
            wrk.kill()
            wrk.wait()
