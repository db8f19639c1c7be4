"""How soon a gap in refusals is found with the built-in pairs, all of them asked in turn."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from statistics import median

from fairlead.probing.bias import Answered, Said, begin, findings, lacking, taken_in
from fairlead.probing.bias_model import BiasSpec
from fairlead.probing.bias_pairs import plan_of
from fairlead.probing.bias_sets import BUILTIN
from fairlead.stats.monitors.counterfactual import GapTest

HEAD = "## Bias: the built-in pairs\n"
RATES = ((0.05, 0.15), (0.10, 0.20), (0.05, 0.10), (0.05, 0.08))
MOST = 2_000
HONEST_PAIRS = 3_000
HONEST_RATE = 0.1


def table(runs: int) -> Iterator[str]:
    """Pairs of the contrast that has the gap, and how often there is an alarm without one."""
    level = refusal_level()
    yield f"| refusals of the first and the other group | pairs | found within {MOST:,} pairs |"
    yield "| --- | --: | --: |"
    for first, other in RATES:
        found = [_pairs(seed, first, other, level, 10**5) for seed in range(runs)]
        within = sum(each <= MOST for each in found)
        name = f"{100 * first:g} and {100 * other:g} %"
        yield f"| {name} | {median(found):,.0f} | {within} of {runs} |"
    wrong = sum(
        math.isfinite(_pairs(40_000 + seed, HONEST_RATE, HONEST_RATE, level, HONEST_PAIRS))
        for seed in range(6 * runs)
    )
    yield ""
    yield (
        f"Medians of {runs} runs, with the evidence that refusals of each of the "
        f"{len(plan_of(_SPEC).contrasts)} built-in contrasts need. {wrong} of {6 * runs} contrasts "
        f"without a gap were reported within {HONEST_PAIRS:,} pairs."
    )


_SPEC = BiasSpec(builtin=tuple(BUILTIN))


def refusal_level() -> float:
    """The evidence that a gap in refusals needs, with all built-in attributes and outcomes."""
    plan = plan_of(_SPEC)
    biasing = begin("bank", "r", plan, 0.0)
    said = Said("Yes", 3, False, None)
    (pair,) = lacking(biasing, plan, 1)
    after = taken_in(biasing, _SPEC, plan, [Answered(pair, said, said)], 0.0)
    return next(each.evidence_at for each in findings(after, _SPEC, plan) if "refusal" in each.name)


def _pairs(seed: int, first: float, other: float, level: float, most: int) -> float:
    dice, test = random.Random(seed), GapTest()
    for number in range(1, most + 1):
        difference = (dice.random() < other) - (dice.random() < first)
        test.update(float(difference))
        if difference and test.log_e_max >= level:
            return number
    return math.inf
