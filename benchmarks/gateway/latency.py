"""Part 2: what a proxy adds to a request at a rate that it can easily do."""

from __future__ import annotations

import contextlib
from pathlib import Path

from benchmarks.gateway.peers import serving
from benchmarks.gateway.plan import DIRECT, Plan, Samples, say
from benchmarks.gateway.processes import run_json, tool
from benchmarks.gateway.upstreams import fixed_completion
from benchmarks.gateway.wrk import run_wrk, write_script

_ROOM = 1.2
"""A proxy takes part when it can do the rate so many times over."""


def measure(plan: Plan, folder: Path) -> Samples:
    """p50 and p99 in microseconds, of the upstream alone and through each proxy."""
    samples = Samples()
    script = write_script(folder)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(fixed_completion(folder / "upstream", plan.cores.load))
        ports = {DIRECT: upstream}
        for name in plan.proxies:
            with contextlib.ExitStack() as one:
                proxy = one.enter_context(
                    serving(name, plan.environments, folder / name, plan.cores, upstream)
                )
                able = run_wrk(script, proxy.port, core=plan.cores.load, seconds=2).per_second
                if able < _ROOM * plan.rate:
                    samples.add("too_slow", name, able)
                    continue  # And it is ended.
                proxy.running.wait_idle()
                ports[name] = proxy.port
                stack.push(one.pop_all())
        for round_number in range(plan.rounds):
            for name, port in ports.items():
                _one(plan, name, port, samples, round_number)
    return samples


def _one(plan: Plan, name: str, port: int, samples: Samples, round_number: int) -> None:
    result = run_json(
        tool("rate_client", port, plan.rate, plan.seconds),
        core=plan.cores.load,
        timeout_s=plan.seconds + 60,
    )
    for measure in ("p50_us", "p99_us", "failed"):
        samples.add(measure, name, result[measure])
    if name != DIRECT:
        for measure in ("p50_us", "p99_us"):
            added = result[measure] - samples.of(measure, DIRECT)[-1]
            samples.add(f"added_{measure}", name, added)
    text = f"p50 {result['p50_us']:,.0f} us, p99 {result['p99_us']:,.0f} us"
    say("latency", round_number, name, text)
