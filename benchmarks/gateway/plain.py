"""Part 1: plain completions, as many as one core of proxy can do."""

from __future__ import annotations

import contextlib
from pathlib import Path

from benchmarks.gateway.peers import serving
from benchmarks.gateway.plan import Plan, Samples, say
from benchmarks.gateway.processes import BenchmarkFailed
from benchmarks.gateway.upstreams import fixed_completion
from benchmarks.gateway.wrk import run_wrk, write_script

WARM_UP_S = 1.0


def measure(plan: Plan, folder: Path) -> Samples:
    """Requests per second, and per CPU second of the proxy, of each proxy in each round."""
    samples = Samples()
    script = write_script(folder)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(fixed_completion(folder / "upstream", plan.cores.load))
        proxies = [
            stack.enter_context(
                serving(name, plan.environments, folder / name, plan.cores, upstream)
            )
            for name in plan.proxies
        ]
        for round_number in range(plan.rounds):
            for proxy in proxies:
                run_wrk(script, proxy.port, core=plan.cores.load, seconds=WARM_UP_S)
                before = proxy.running.cpu_s()
                result = run_wrk(script, proxy.port, core=plan.cores.load, seconds=plan.seconds)
                cpu_s = proxy.running.cpu_s() - before
                proxy.running.wait_idle()
                samples.add("rps", proxy.name, result.per_second)
                samples.add("per_cpu_s", proxy.name, result.per_second * result.seconds / cpu_s)
                samples.add("failed", proxy.name, result.failed)
                say("plain", round_number, proxy.name, f"{result.per_second:,.0f} requests/s")
        for proxy in proxies:
            if proxy.gateway is not None:
                _check_records(proxy.name, *proxy.gateway.split(), samples)
    return samples


def _check_records(name: str, records: int, canary: int, samples: Samples) -> None:
    """All features were on: every request is in the spool, and the split was made."""
    if records == 0 or canary == 0:
        raise BenchmarkFailed(f"{records} records, {canary} of the canary: not all was on")
    samples.add("records", name, records)
    samples.add("canary", name, canary / records)
