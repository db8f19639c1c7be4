"""Does the test for bias find a gap that is there, and none where there is none?"""

from __future__ import annotations

import math
import random

from fairlead.stats.monitors.counterfactual import GapTest

PAIRS = 1_500
LEVEL = math.log(1_000.0)


def self_test() -> str:
    """Empty if so, else what went wrong. The data is made for it, the same each time."""
    found = {gap: _evidence(gap) >= LEVEL for gap in (0.0, 0.15)}
    if not found[0.15]:
        return f"a gap of 15 points in refusals was not found in {PAIRS} pairs"
    if found[0.0]:
        return f"a gap was found in {PAIRS} pairs without one"
    return ""


def _evidence(gap: float) -> float:
    dice, test = random.Random(7), GapTest()  # noqa: S311  # The same each time.
    for _ in range(PAIRS):
        first, other = dice.random() < 0.1, dice.random() < 0.1 + gap
        test.update(float(other) - float(first))
    return test.log_e_max


def tracking_self_test() -> str:
    """The same for scores that are to be compared with accepted ones: worse by 15 points, and not
    worse though a tenth of the answers are others.
    """
    found = {worse: _evidence_of_scores(worse) >= LEVEL for worse in (0.0, 0.15)}
    if not found[0.15]:
        return f"a score that is worse by 15 points was not found in {PAIRS} answers"
    if found[0.0]:
        return f"a score was found to be worse in {PAIRS} answers, and is not"
    return ""


def _evidence_of_scores(worse: float) -> float:
    dice, test = random.Random(7), GapTest(tolerance=0.05)  # noqa: S311  # The same each time.
    most = 0.0
    for _ in range(PAIRS):
        drawn = dice.random()
        test.update(1.0 if drawn < 0.05 + worse else -1.0 if drawn > 0.95 else 0.0)
        most = max(most, test.log_e_above)
    return most
