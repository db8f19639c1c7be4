"""The self-tests of the monitors of bias: is a gap found that is there, and none that is not?"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

from fairlead.stats.monitors.counterfactual import GapTest

PAIRS = 1_500
LEVEL = math.log(1_000.0)
EVERY_S = 86_400.0


class DailySelfTest:
    """When a monitor was last tested, and what came of it.

    Args:
        test: Says what went wrong; empty if nothing did. It takes a while, and runs in a thread.
        now: Unix time in seconds.
    """

    def __init__(self, test: Callable[[], str], now: Callable[[], float]) -> None:
        self.tested_at: float | None = None
        self.error = ""
        self._test = test
        self._now = now

    async def run_if_due(self) -> None:
        """Test it, unless that was done within the last day."""
        now, last = self._now(), self.tested_at
        if last is None or not 0.0 <= now - last < EVERY_S:
            self.error = await asyncio.to_thread(self._test)
            self.tested_at = now


def pairs_self_test() -> str:
    """Empty if a gap is found that is there, and none where there is none; else what went wrong.

    The data is made for it, the same each time.
    """
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
