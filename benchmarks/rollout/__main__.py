"""How often the judge is wrong, how soon it decides, and how others fare on the same dice.

    python -m benchmarks.rollout                  # all of it: hours on one core
    python -m benchmarks.rollout --quick          # under three minutes; fails if a limit breaks
    python -m benchmarks.rollout --part errors    # one part; the others stay as they were
    python -m benchmarks.rollout --report         # tables and picture from what was measured

Seeds are fixed. Weights and grids were chosen on seeds below 100 (and rivals are tuned on rollouts
of their own); what is reported is from seeds above. Results go to benchmarks/results:
rollout.md, rollout.svg, and the figures of each part as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.rollout import cost, delays, intervals, latencies, paired, report, whole, worlds

RESULTS = Path(__file__).parents[1] / "results"
SEED = 1_000
PARTS = ("cost", "pairs", "latencies", "delays", "slow", "whole", "errors")
Keep = Callable[[list[dict[str, Any]]], None]
Job = Callable[[range, int], worlds.Error | list[worlds.Error]]
"""Which rollouts, and the seed of their dice."""

_WORLDS: list[tuple[Job, bool]] = []
"""Of a process that runs parts of them."""


def errors(rollouts: int, scale: float, keep: Keep, processes: int = 1) -> list[dict[str, Any]]:
    """All worlds; `keep` is told of what there is after each. Processes change no figure."""
    jobs = _jobs(scale)
    of_traps = min(rollouts, 1_000)
    parts = [
        (number, range(begin, min(begin + worlds.CHUNK, most)))
        for number, (job, is_trap) in enumerate(jobs)
        for most in [of_traps if is_trap else rollouts]
        for begin in range(0, most, worlds.CHUNK)
    ]
    done: dict[tuple[int, str, str], list[worlds.Error]] = {}
    out: list[dict[str, Any]] = []
    began = time.perf_counter()
    with ProcessPoolExecutor(processes, get_context("fork"), _begin, (scale,)) as pool:
        for (number, _), found in zip(parts, pool.map(_run, parts), strict=True):
            for error in found:
                done.setdefault((number, error.world, error.kind), []).append(error)
            out = [_row(same, scale) for same in done.values()]
            keep(out)
            last = out[-1]
            _say(f"{last['kind']:16} {last['world']}: {last['wrong']} of {last['rollouts']}", began)
    return out


def _row(same: Sequence[worlds.Error], scale: float) -> dict[str, Any]:
    """Parts of one world, together."""
    error = replace(
        same[0],
        wrong=sum(each.wrong for each in same),
        rollouts=sum(each.rollouts for each in same),
    )
    return {**asdict(error), "lower": error.lower, "kept": error.is_kept, "scale": scale}


def _begin(scale: float) -> None:
    _WORLDS[:] = _jobs(scale)


def _run(part: tuple[int, range]) -> list[worlds.Error]:
    number, rollouts = part
    found = _WORLDS[number][0](rollouts, SEED + number)
    return found if isinstance(found, list) else [found]


def _jobs(scale: float) -> list[tuple[Job, bool]]:
    """What is done in each world, and whether it only shows a trap."""
    jobs: list[tuple[Job, bool]] = []
    for world in worlds.BINARY:
        shorter = scale * min(1.0, worlds.SHORTER / world.horizon)
        jobs += [
            (lambda r, seed, w=world: worlds.falsely_rolled_back(w, r, scale, seed), False),
            (lambda r, seed, w=world, s=shorter: worlds.false_promotion(w, r, s, seed), False),
        ]
    return [
        *jobs,
        (lambda r, seed: worlds.at_the_tolerance(r, scale, seed), False),
        (lambda r, seed: worlds.sticky(r, scale, seed), False),
        (lambda r, seed: worlds.sticky(r, 0.1, seed, per_request=True), True),
        (lambda r, seed: worlds.delayed(r, scale, seed), False),
        (lambda r, seed: worlds.delayed(r, 1.0, seed, by_arrival=True), True),
        (lambda r, seed: worlds.safety(r, scale, seed), False),
        (lambda r, seed: worlds.wrong_share(r, scale, seed), False),
        (lambda r, seed: worlds.pairs(r, scale, seed), False),
        (lambda r, seed: worlds.risk(r, scale, seed), False),
        (lambda r, seed: worlds.twelve_metrics(r, scale / 10, seed), False),
        *((job, False) for job in worlds.latency_jobs(scale / 4)),
        (lambda r, seed: worlds.sticky(r, scale, seed, worse=worlds.MARGIN), False),
        (lambda r, seed: worlds.safety_promoted(r, scale, seed), False),
        (lambda r, seed: worlds.one_of_twelve(r, scale / 10, seed), False),
        (lambda r, seed: worlds.wrong_share_equal(r, scale, seed), False),
        (lambda r, seed: intervals.misses(r, scale, seed, sticky=False), False),
        (lambda r, seed: intervals.misses(r, scale, seed, sticky=True), False),
    ]


def binary_delays(rollouts: int, keep: Keep) -> list[dict[str, Any]]:
    """Delays of the judge, of one that knows the alternative, and of the rivals."""
    out: list[dict[str, Any]] = []
    for number, (name, p_b, p_c) in enumerate((*delays.SCENARIOS, *delays.FURTHER)):
        began = time.perf_counter()
        seed = SEED + 200 + number
        made = [
            delays.binary(name, p_b, p_c, rollouts, seed),
            delays.binary(name, p_b, p_c, rollouts, seed, knowing=True),
            delays.binary_unknown(name, p_b, p_c, rollouts, SEED + 250 + number),
        ]
        if number < len(delays.SCENARIOS):
            made += delays.of_rivals(name, p_b, p_c, rollouts // 4, SEED + 300 + number)
        out += _rows(made)
        keep(out)
        _say(f"{name}: {made[0].ratio:.2f} times the bound", began)
    out += _rows(delays.safety_at_half(rollouts // 4, SEED + 500))
    return out + _rows([delays.late(20_000, rollouts // 4, SEED + 501)])


def latency_delays(rollouts: int, keep: Keep) -> list[dict[str, Any]]:
    """The same for latencies."""
    out: list[dict[str, Any]] = []
    for number, change in enumerate(delays.LATENCIES):
        began = time.perf_counter()
        seed = SEED + 400 + number
        made = [
            delays.latency(change, rollouts, seed),
            delays.latency(change, rollouts, seed, knowing=True),
            delays.latency_unknown(change, rollouts // 2, SEED + 450 + number),
        ]
        if change.name in delays.BESIDE:
            made += delays.of_latency_rivals(change, rollouts * 3 // 4, SEED + 480 + number)
        out += _rows(made)
        keep(out)
        _say(f"{change.name}: {made[0].ratio:.2f} times the bound", began)
    return out


def _rows(made: Sequence[delays.Delay]) -> list[dict[str, Any]]:
    return [{**asdict(delay), "ratio": delay.ratio} for delay in made]


def wholes(rollouts: int, scale: float) -> list[dict[str, Any]]:
    """Whole rollouts."""
    out = []
    for number, case in enumerate(whole.CASES):
        seed = SEED + 600 + number
        out += [
            whole.by_judge(case, rollouts, scale, seed),
            whole.by_checks(case, rollouts, seed, flagger=False),
            whole.by_checks(case, rollouts, seed, flagger=True),
        ]
    return [asdict(one) for one in out]


def _say(what: str, began: float) -> None:
    print(f"{what}  ({time.perf_counter() - began:.0f} s)", flush=True)


def main() -> int:
    """Measure what is asked for, keep it, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--rollouts", type=int, default=5_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.quick:
        return quick()
    parts: dict[str, Callable[[], Any]] = {
        "cost": cost.measure,
        "pairs": lambda: paired.measure(2_000),
        "latencies": lambda: latencies.replayed(200),
        "delays": lambda: binary_delays(1_200, lambda rows: _keep("delays", rows)),
        "slow": lambda: latency_delays(400, lambda rows: _keep("slow", rows)),
        "whole": lambda: wholes(1_000, 0.3),
        "errors": lambda: errors(
            options.rollouts, 1.0, lambda done: _keep("errors", done), options.processes
        ),
    }
    for name, measure in parts.items():
        if not options.report and options.part in (None, name):
            _keep(name, measure())
    measured = {name: _kept(name) for name in parts}
    (RESULTS / "rollout.md").write_text(report.text(measured), encoding="utf-8")
    (RESULTS / "rollout.svg").write_text(report.picture(measured), encoding="utf-8")
    return 0


def quick() -> int:
    """Fewer and shorter rollouts; exit code 1 where an error rate is above its nominal one."""
    began = time.perf_counter()
    measured = errors(500, 0.06, lambda done: None, os.cpu_count() or 1)
    wrong = [error for error in measured if error["holds"] and not error["kept"]]
    hidden = [error for error in measured if not error["holds"] and error["kept"]]
    late = [
        delay
        for delay in (delays.binary(*scenario, 200, SEED + 900) for scenario in delays.SCENARIOS)
        if delay.ratio > 1.6
    ]
    for error in wrong:
        print(f"FAILED: {error['world']}: {error['kind']} {error['wrong']} of {error['rollouts']}")
    for error in hidden:
        print(f"FAILED: {error['world']}: does not show ({error['wrong']} of {error['rollouts']})")
    for delay in late:
        print(f"FAILED: {delay.scenario}: {delay.ratio:.2f} times the bound")
    print(f"{len(measured)} worlds and traps")
    _say("quick", began)
    return 1 if wrong or hidden or late else 0


def _keep(part: str, values: Any) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"rollout-{part}.json"
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _kept(part: str) -> Any:
    path = RESULTS / f"rollout-{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
