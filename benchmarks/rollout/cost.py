"""What an update costs: 50 outcomes of a metric, in microseconds, on one core."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from fairlead.stats.rae import BinaryRae, NonInferiorityRae
from fairlead.stats.slower import SlowerRae

_BLOCKS = 400
_REPEATS = 15


def measure() -> dict[str, float]:
    """The least disturbed of some runs; restarts and refreshed rates are in it."""
    dice = random.Random(1)
    blocks = []
    for _ in range(_BLOCKS):
        canary = sum(dice.random() < 0.1 for _ in range(50))
        bad = sum(dice.random() < 0.08 for _ in range(canary))
        other = sum(dice.random() < 0.08 for _ in range(50 - canary))
        blocks.append((canary, bad, 50 - canary, other))
    units = [(dice.random() < 0.1, float(dice.random() < 0.08)) for _ in range(50 * _BLOCKS)]
    seen = [(arm, dice.lognormvariate(0, 0.8)) for arm, _ in units]
    past = [dice.lognormvariate(0, 0.8) for _ in range(2_000)]

    def counted(test: BinaryRae | NonInferiorityRae) -> None:
        for block in blocks:
            test.update_counts(0.1, *block)

    def single(test: BinaryRae | SlowerRae, taken: list[tuple[bool, float]]) -> None:
        for arm, y in taken:
            test.update(arm, 0.1, y)

    return {
        "binary, roll back, 50 outcomes counted": _us(lambda: counted(_rollback())),
        "binary, promote, 50 outcomes counted": _us(
            lambda: counted(NonInferiorityRae(margin=0.03, prior_rate=0.08))
        ),
        "binary, roll back, 50 outcomes one by one": _us(lambda: single(_rollback(), units)),
        "latency, roll back, 50 values one by one": _us(
            lambda: single(SlowerRae(history=past), seen)
        ),
    }


def _rollback() -> BinaryRae:
    return BinaryRae(tol=0.0, alpha=0.01, prior_rate=0.08, prior_units=2_000)


def _us(run: Callable[[], None]) -> float:
    taken = []
    for _ in range(_REPEATS):
        began = time.process_time()
        run()
        taken.append((time.process_time() - began) / _BLOCKS * 1e6)
    return round(min(taken), 2)
