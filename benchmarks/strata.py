"""Strata of risk as a live rollout uses them: how often they are wrong, what requests they spare.

    python -m benchmarks.strata             # half an hour on two cores; writes results/strata.md
    python -m benchmarks.strata --quick     # seconds; prints it

The tests are those of `fairlead.rollout.metrics` for one rate: with eight strata of which nothing
is known beforehand, three of them in use, and without. Each rollout's dice are its own, so that it
does not matter how many processes share them; both judges see the same requests.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from benchmarks.strata_worlds import (
    ALPHA,
    EXPECTED,
    HORIZON,
    MIX,
    NULLS,
    RHO,
    block_of,
    odds_times,
    with_strata,
)

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.rae import LOOK_EVERY, BinaryRae
from fairlead.stats.risk import RiskRae

RESULT = Path(__file__).parent / "results" / "strata.md"
LONGEST = 400_000
ODDS = (1.25, 1.5, 2.0)
SPREADS = {
    "alike": (0.08, 0.08, 0.08),
    "4, 8 and 20 %": (0.04, 0.08, 0.20),
    "1, 8 and 30 %": (0.01, 0.08, 0.30),
    "0.2, 2 and 60 %": (0.002, 0.02, 0.60),
}
SEED = 1_000
T = TypeVar("T")
CHUNK = 10
"""Rollouts that a process takes at once."""


class Gain(NamedTuple):
    """Mean canary requests until the rollback, without strata and with them."""

    blind: float
    sighted: float
    error: float
    """Standard error of the ratio of the two."""


def is_wrong(world: int, number: int) -> bool:
    """Whether a rollout of this null goes back."""
    return NULLS[world].log_e_max((SEED, world, number)) >= -math.log(ALPHA)


def needed(spread: str, times: float, number: int) -> tuple[int, int]:
    """Canary requests until the same canary goes back, without strata and with them."""
    dice = np.random.default_rng([SEED + 1, number])
    champion = SPREADS[spread]
    canary = [odds_times(rate, times) for rate in champion]
    tests = (BinaryRae(tol=0.0, alpha=ALPHA, prior_rate=EXPECTED), with_strata())
    requests, waiting = [0, 0], [True, True]
    for _ in range(0, LONGEST, LOOK_EVERY):
        block = block_of(dice, RHO, MIX, champion, canary)
        for k, test in enumerate(tests):
            if not waiting[k]:
                continue
            requests[k] += sum(counts.canary for counts in block)
            for stratum, counts in enumerate(block):
                if isinstance(test, RiskRae):
                    test.update_counts(RHO, *counts, stratum)
                else:
                    test.update_counts(RHO, *counts)
            waiting[k] = test.log_e_max < -math.log(ALPHA)
        if not any(waiting):
            break
    return requests[0], requests[1]


def gain(pairs: list[tuple[int, int]]) -> Gain:
    """The means, and how well their ratio is known (delta method)."""
    blind, sighted = np.array(pairs, dtype=float).T
    ratio = sighted.mean() / blind.mean()
    spread = np.std(sighted - ratio * blind, ddof=1) / blind.mean()
    return Gain(blind.mean(), sighted.mean(), float(spread) / math.sqrt(len(pairs)))


def report(rollouts: int, each: int, pool: Executor) -> str:
    """All of it, as Markdown."""
    return "\n".join([*_wrong(rollouts, pool), *_spared(each, pool)]) + "\n"


def _wrong(rollouts: int, pool: Executor) -> Iterator[str]:
    yield "# Strata of risk in a rollout\n"
    yield (
        "`make bench-strata` measures this: one failure rate, judged with strata as a "
        "live rollout has them (nothing is known of them beforehand) and without, on the same "
        "requests.\n"
    )
    yield (
        f"**False rollbacks** of a canary that in no stratum is worse than is tolerated, over "
        f"{HORIZON:,} requests of three strata (1, 8 and 30 % fail if not said otherwise); at "
        f"most {ALPHA:.0%} are allowed. The lower limit is the one-sided 99 % Clopper-Pearson "
        "limit.\n"
    )
    yield "| world | rolled back | of | rate | lower limit |"
    yield "| --- | --: | --: | --: | --: |"
    for place, world in enumerate(NULLS):
        wrong = sum(_each(pool, partial(is_wrong, place), rollouts))
        lower = clopper_pearson(wrong, rollouts, 0.98)[0]
        yield f"| {world.name} | {wrong} | {rollouts:,} | {wrong / rollouts:.2%} | {lower:.2%} |"


def _spared(each: int, pool: Executor) -> Iterator[str]:
    yield (
        "\n**Canary requests until a worse canary goes back**, means; a canary has a tenth of the "
        "traffic, and odds of failing that are higher by the same factor in each stratum, of "
        f"which {', '.join(f'{share:.0%}' for share in MIX)} of the requests are.\n"
    )
    yield "| strata that fail in | odds | without | with | spared | standard error |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for spread in SPREADS:
        for times in ODDS:
            found = gain(_each(pool, partial(needed, spread, times), each))
            yield (
                f"| {spread} | × {times:g} | {found.blind:,.0f} | {found.sighted:,.0f} | "
                f"{1 - found.sighted / found.blind:.0%} | {found.error:.1%} |"
            )
    yield f"\n{each:,} rollouts in each row."


def _each(pool: Executor, one: Callable[[int], T], rollouts: int) -> list[T]:
    return list(pool.map(one, range(rollouts), chunksize=CHUNK))


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rollouts, printed only")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        text = report(100, 10, pool) if options.quick else report(5_000, 400, pool)
    print(text)
    if not options.quick:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
