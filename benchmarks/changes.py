"""How soon a provider's change is found by probes, and what clusters do to counted events.

    make bench-changes          # minutes; writes benchmarks/results/changes.md

A round of probes asks 20 cases and says how many answers are others than the reference's. Before
the change some share differs already, as answers of a model that samples do. Medians of 30 runs.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from fairlead.stats.changes import ChangeTest
from fairlead.stats.events import MoreEvents
from fairlead.stats.intervals import clopper_pearson

RESULT = Path(__file__).parent / "results" / "changes.md"
T = TypeVar("T")
CASES, ALPHA, RUNS = 20, 0.01, 30
QUIET = {12: "12", 18: "18 (24 `reference_rounds`)", 50: "50", 200: "200", 1_000: "1,000"}
"""Rounds that are compared before the change."""

CHANGES = ((0.0, 0.05), (0.0, 0.3), (0.1, 0.3), (0.1, 0.6), (0.2, 0.3))
WITHIN = 300
PROVIDERS, ROUNDS = 60, 600
NOISES: dict[str, Callable[[random.Random], float]] = {
    "no answer differs": lambda dice: 0.0,
    "a tenth differs": lambda dice: 0.1,
    "a third differs": lambda dice: 0.3,
    "two machines, one of which answers otherwise": lambda dice: (
        0.4 if dice.random() < 0.3 else 0.02
    ),
}
LOOKS, ROLLOUTS = 60, 2_000
EVENTS = (
    ("one-offs", 1, 1.0),
    ("clusters of five", 5, 1.0),
    ("clusters of five, design factor 5", 5, 5.0),
)


def found_after(quiet: int, before: float, after: float, seed: int) -> float:
    """Rounds from the change until it is found; infinite if it is not within `WITHIN`."""
    dice, test = random.Random(seed), ChangeTest()
    for _ in range(quiet):
        test.update(_distance(dice, before))
    while test.rounds < quiet + WITHIN:
        test.update(_distance(dice, after))
        if test.e >= 1 / ALPHA:
            return test.rounds - quiet
    return math.inf


def is_wrong(noise: str, seed: int) -> bool:
    """Whether a provider that does not change is reported."""
    dice, test = random.Random(f"{noise} {seed}"), ChangeTest()
    for _ in range(ROUNDS):
        test.update(_distance(dice, NOISES[noise](dice)))
    return test.e_max >= 1 / ALPHA


def is_rolled_back(cluster: int, phi: float, seed: int) -> bool:
    """Whether an equal canary goes back by counted events; rates swing, and the share ramps."""
    dice, test = np.random.default_rng([cluster, seed]), MoreEvents(tolerance=0.0, phi=phi)
    for look in range(LOOKS):
        rho = 0.1 if look < LOOKS // 2 else 0.5
        rate = 5.0 + 10.0 * math.sin(look / 9.0) ** 2 * (1.0 + look / LOOKS)
        canary = cluster * dice.poisson(rate * rho / cluster)
        champion = cluster * dice.poisson(rate * (1 - rho) / cluster)
        test.update(rho, float(canary), float(champion))
    return test.log_e_max >= -math.log(ALPHA)


def _distance(dice: random.Random, rate: float) -> float:
    return sum(dice.random() < rate for _ in range(CASES)) / CASES


def report(pool: Executor) -> Iterator[str]:
    """The page, line by line."""
    yield "# Changes of providers, and counted events\n"
    yield "`make bench-changes` measures this.\n"
    yield "## How many rounds it takes until a change of a provider is found\n"
    yield (
        f"At {CASES} cases and {ALPHA:.0%}; medians of {RUNS} runs; –: not within {WITHIN} rounds. "
        "Columns: the share of the answers that differ from the reference before and after.\n"
    )
    heads = [f"{_percent(before)} → {after:.0%}" for before, after in CHANGES]
    yield f"| rounds compared before the change | {' | '.join(heads)} |"
    yield "| --: |" + " --: |" * len(heads)
    for quiet, title in QUIET.items():
        cells = []
        for before, after in CHANGES:
            rounds = _each(pool, partial(found_after, quiet, before, after), RUNS)
            median = statistics.median(rounds)
            cells.append("–" if math.isinf(median) else f"{median:.0f}")
        yield f"| {title} | {' | '.join(cells)} |"
    yield f"\n## Providers that do not change, reported within {ROUNDS} rounds\n"
    yield "| answers | reported |"
    yield "| --- | --: |"
    for noise in NOISES:
        wrong = sum(_each(pool, partial(is_wrong, noise), PROVIDERS))
        yield f"| {noise} | {wrong} of {PROVIDERS} |"
    yield "\n## Equal canaries that go back by counted events\n"
    yield (
        f"{ROLLOUTS:,} rollouts, alpha {ALPHA:.0%}: the rate of both arms swings by a factor of "
        "six, and the share ramps from 10 to 50 %. The lower limit is the one-sided 99 % one.\n"
    )
    yield "| events | rolled back | lower limit |"
    yield "| --- | --: | --: |"
    for title, cluster, phi in EVENTS:
        wrong = sum(_each(pool, partial(is_rolled_back, cluster, phi), ROLLOUTS))
        lower = clopper_pearson(wrong, ROLLOUTS, 0.98)[0]
        yield f"| {title} | {wrong / ROLLOUTS:.1%} | {lower:.1%} |"


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def _each(pool: Executor, one: Callable[[int], T], count: int) -> list[T]:
    return list(pool.map(one, range(count), chunksize=max(1, count // 64)))


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    with ProcessPoolExecutor(parser.parse_args().processes) as pool:
        text = "\n".join(report(pool)) + "\n"
    print(text)
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
