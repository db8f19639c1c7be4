"""Strata of risk as a live rollout uses them: how often they are wrong, what requests they spare.

    python -m benchmarks.strata             # some minutes; writes benchmarks/results/strata.md
    python -m benchmarks.strata --quick     # seconds; prints it

The tests are those of `fairlead.rollout.metrics` for one rate: with eight strata of which nothing
is known beforehand, three of them in use, and without. Each rollout's dice are its own; both judges
see the same requests.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairlead.rollout.metrics import STRATUM_UNITS
from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.rae import LOOK_EVERY, BinaryRae
from fairlead.stats.risk import RiskRae

RESULT = Path(__file__).parent / "results" / "strata.md"
ALPHA, EXPECTED, STRATA = 0.01, 0.05, 8
RHO = 0.1
MIX, LATER = (0.6, 0.3, 0.1), (0.2, 0.3, 0.5)
HORIZON, LONGEST = 30_000, 400_000
ODDS = (1.25, 1.5, 2.0)
SPREADS = {
    "alike": (0.08, 0.08, 0.08),
    "4, 8 and 20 %": (0.04, 0.08, 0.20),
    "1, 8 and 30 %": (0.01, 0.08, 0.30),
    "0.2, 2 and 60 %": (0.002, 0.02, 0.60),
}
SEED = 1_000

Block = list[tuple[int, int, int, int]]
"""Of each stratum: canary units, those that failed, champion units, those that failed."""


class Gain(NamedTuple):
    """Mean canary requests until the rollback, without strata and with them."""

    spread: str
    odds: float
    blind: float
    sighted: float
    rollouts: int


def odds_times(rate: float, times: float) -> float:
    """The rate whose odds are so many times as high."""
    return times * rate / (1 - rate + times * rate)


def blocks(
    seed: Sequence[int], champion: Sequence[float], times: float, units: int, *, drifts: bool
) -> Iterator[Block]:
    """Blocks of `LOOK_EVERY` units; a canary with odds so many times as high."""
    dice = np.random.default_rng(list(seed))
    canary = [odds_times(rate, times) for rate in champion]
    for start in range(0, units, LOOK_EVERY):
        mix = LATER if drifts and start >= units / 2 else MIX
        served = dice.multinomial(LOOK_EVERY, mix)
        block: Block = []
        for count, p_c, p_b in zip(served, canary, champion, strict=True):
            mine = int(dice.binomial(count, RHO))
            theirs = int(count) - mine
            block.append(
                (mine, int(dice.binomial(mine, p_c)), theirs, int(dice.binomial(theirs, p_b)))
            )
        yield block


def with_strata() -> RiskRae:
    """As a live rollout makes it."""
    return RiskRae(alpha=ALPHA, prior_rates=[EXPECTED] * STRATA, stratum_units=STRATUM_UNITS)


def false_rollbacks(rollouts: int) -> int:
    """Of an equal canary, while the mix of the strata drifts."""
    wrong = 0
    for number in range(rollouts):
        test = with_strata()
        for block in blocks((SEED, number), SPREADS["1, 8 and 30 %"], 1.0, HORIZON, drifts=True):
            for stratum, (canary, bad, champion, worse) in enumerate(block):
                test.update_counts(RHO, canary, bad, champion, worse, stratum)
        wrong += test.log_e_max >= -math.log(ALPHA)
    return wrong


def gain(spread: str, times: float, rollouts: int) -> Gain:
    """How soon both find the same canary."""
    needed = [0, 0]
    for number in range(rollouts):
        tests = (BinaryRae(tol=0.0, alpha=ALPHA, prior_rate=EXPECTED), with_strata())
        waiting = [True, True]
        for block in blocks((SEED + 1, number), SPREADS[spread], times, LONGEST, drifts=False):
            for k, test in enumerate(tests):
                if not waiting[k]:
                    continue
                needed[k] += sum(canary for canary, *_ in block)
                for stratum, counts in enumerate(block):
                    if isinstance(test, RiskRae):
                        test.update_counts(RHO, *counts, stratum)
                    else:
                        test.update_counts(RHO, *counts)
                waiting[k] = test.log_e_max < -math.log(ALPHA)
            if not any(waiting):
                break
    return Gain(spread, times, needed[0] / rollouts, needed[1] / rollouts, rollouts)


def report(rollouts: int, each: int) -> str:
    """All of it, as Markdown."""
    wrong = false_rollbacks(rollouts)
    lower = clopper_pearson(wrong, rollouts, 0.98)[0]
    lines = [
        "# Strata of risk in a rollout", "",
        "`make bench-strata` measures this: one failure rate, judged with strata as a "
        "live rollout has them (nothing is known of them beforehand) and without, on the same "
        "requests.",
        "",
        f"**False rollbacks** of an equal canary over {HORIZON:,} requests, while the mix of "
        f"strata that fail in 1, 8 and 30 % drifts from {MIX} to {LATER}: {wrong} of {rollouts:,} "
        f"({wrong / rollouts:.2%}, lower limit {lower:.2%}); at most {ALPHA:.0%} are allowed.", "",
        "**Canary requests until a worse canary goes back**, means; a canary has a tenth of the "
        "traffic, and odds of failing that are higher by the same factor in each stratum, of "
        f"which {', '.join(f'{share:.0%}' for share in MIX)} of the requests are.", "",
        "| strata that fail in | odds | without | with | spared |",
        "| --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    for spread in SPREADS:
        for times in ODDS:
            found = gain(spread, times, each)
            lines.append(
                f"| {spread} | × {times:g} | {found.blind:,.0f} | {found.sighted:,.0f} | "
                f"{1 - found.sighted / found.blind:.0%} |"
            )
    lines += ["", f"{each:,} rollouts in each row."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rollouts, printed only")
    quick = parser.parse_args().quick
    text = report(100, 10) if quick else report(400, 40)
    print(text)
    if not quick:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
