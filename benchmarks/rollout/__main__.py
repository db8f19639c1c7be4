"""How often the judge is wrong, how soon it decides, and how others fare on the same dice.

    python -m benchmarks.rollout                  # all of it: an hour or two on one core
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
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.rollout import cost, delays, latencies, paired, report, whole, worlds

RESULTS = Path(__file__).parents[1] / "results"
SEED = 1_000
PARTS = ("cost", "pairs", "latencies", "delays", "slow", "whole", "errors")
Keep = Callable[[list[dict[str, Any]]], None]


def errors(
    rollouts: int,
    scale: float,
    keep: Keep,
    done_before: Sequence[dict[str, Any]] = (),
    begin: int = 0,
) -> list[dict[str, Any]]:
    """All worlds, or those from `begin` on; `keep` is told of what there is after each."""
    jobs: list[Callable[[int], worlds.Error | list[worlds.Error]]] = []
    for world in worlds.BINARY:
        jobs.append(lambda seed, w=world: worlds.falsely_rolled_back(w, rollouts, scale, seed))
        jobs.append(
            lambda seed, w=world: worlds.false_promotion(
                w, rollouts, scale * min(1.0, worlds.SHORTER / w.horizon), seed
            )
        )
    jobs += [
        lambda seed: worlds.at_the_tolerance(rollouts, scale, seed),
        lambda seed: worlds.sticky(rollouts, scale, seed),
        lambda seed: worlds.sticky(min(rollouts, 1_000), scale / 10, seed, per_request=True),
        lambda seed: worlds.delayed(rollouts, scale, seed),
        lambda seed: worlds.delayed(min(rollouts, 1_000), scale, seed, by_arrival=True),
        lambda seed: worlds.safety(rollouts, scale, seed),
        lambda seed: worlds.wrong_share(rollouts, scale, seed),
        lambda seed: worlds.pairs(rollouts, scale, seed),
        lambda seed: worlds.risk(rollouts, scale, seed),
        lambda seed: worlds.twelve_metrics(
            rollouts // 5 * 5 if scale < 1 else rollouts, scale / 10, seed
        ),
        *worlds.latency_jobs(rollouts, scale / 4),
    ]
    out: list[dict[str, Any]] = list(done_before)
    for number, job in enumerate(jobs):
        if number < begin:
            continue
        began = time.perf_counter()
        done = job(SEED + number)
        for error in done if isinstance(done, list) else [done]:
            out.append(
                {**asdict(error), "lower": error.lower, "kept": error.is_kept, "scale": scale}
            )
            _say(
                f"{error.kind:16} {error.world}: {error.wrong} of {error.rollouts}",
                began,
            )
        keep(out)
    return out


def binary_delays(rollouts: int, keep: Keep) -> list[dict[str, Any]]:
    """Delays of the judge, of one that knows the alternative, and of the rivals."""
    out: list[dict[str, Any]] = []
    for number, (name, p_b, p_c) in enumerate((*delays.SCENARIOS, *delays.FURTHER)):
        began = time.perf_counter()
        seed = SEED + 200 + number
        made = [
            delays.binary(name, p_b, p_c, rollouts, seed),
            delays.binary(name, p_b, p_c, rollouts, seed, knowing=True),
        ]
        if number < len(delays.SCENARIOS):
            made += delays.of_rivals(name, p_b, p_c, rollouts // 4, SEED + 300 + number)
        out += _rows(made)
        keep(out)
        _say(f"{name}: {made[0].ratio:.2f} times the bound", began)
    out += _rows(delays.safety_at_half(rollouts // 4, SEED + 500))
    return out + _rows([delays.late(20_000, rollouts // 4, SEED + 501)])


def latency_delays(rollouts: int, keep: Keep) -> list[dict[str, Any]]:
    """The same for latencies, without rivals."""
    out: list[dict[str, Any]] = []
    for number, change in enumerate(delays.LATENCIES):
        began = time.perf_counter()
        seed = SEED + 400 + number
        made = [
            delays.latency(change, rollouts, seed),
            delays.latency(change, rollouts, seed, knowing=True),
        ]
        out += _rows(made)
        keep(out)
        _say(f"{change.name}: {made[0].ratio:.2f} times the bound", began)
    return out


def _rows(made: Sequence[delays.Delay]) -> list[dict[str, Any]]:
    return [{**asdict(delay), "ratio": delay.ratio} for delay in made]


def wholes(rollouts: int, scale: float) -> list[dict[str, Any]]:
    """Whole rollouts."""
    out = []
    for number, (name, worse) in enumerate(whole.WORSE):
        seed = SEED + 600 + number
        out += [
            whole.by_judge(name, worse, rollouts, scale, seed),
            whole.by_checks(name, worse, rollouts, seed, flagger=False),
            whole.by_checks(name, worse, rollouts, seed, flagger=True),
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
        "errors": lambda: errors(options.rollouts, 1.0, lambda done: _keep("errors", done)),
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
    measured = errors(500, 0.06, lambda done: None)
    wrong = [error for error in measured if error["holds"] and not error["kept"]]
    shown = [error for error in measured if not error["holds"] and error["kept"]]
    late = [
        delay
        for delay in (delays.binary(*scenario, 200, SEED + 900) for scenario in delays.SCENARIOS)
        if delay.ratio > 1.6
    ]
    for error in wrong:
        print(f"FAILED: {error['world']}: {error['kind']} {error['wrong']} of {error['rollouts']}")
    for delay in late:
        print(f"FAILED: {delay.scenario}: {delay.ratio:.2f} times the bound")
    print(f"{len(measured)} worlds, {len(shown)} traps that did not show in so short a time")
    _say("quick", began)
    return 1 if wrong or late else 0


def _keep(part: str, values: Any) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"rollout-{part}.json"
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _kept(part: str) -> Any:
    path = RESULTS / f"rollout-{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
