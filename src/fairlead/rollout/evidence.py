"""Evidence as it is shown, and what it is held against: the same for a live rollout and a replay.

What decides is the number that is shown, and not its logarithm: at a threshold the two could differ
by the last bit.
"""

from __future__ import annotations

import math

RATIO_ALPHA = 0.001
"""Error rate of the test whether units are on the arms as was logged."""

LOG_MAX = 690.0
"""Evidence above its exponential is written as that: JSON has no infinity."""

UNITS_FORESEEN_MAX = 1e9
"""Evidence that has hardly grown would take more units than anybody ever sees: nothing is said."""


def evidence(log_e: float) -> float:
    """The evidence itself, as far as it can be written."""
    return math.exp(min(log_e, LOG_MAX))


def evidence_shown(log_e: float) -> str:
    """The evidence for a person to read."""
    value = evidence(log_e)
    return f"{value:.0e}" if value >= 1e6 else f"{value:,.3g}"


def threshold(error_rate: float) -> float:
    """The evidence that an error rate asks for, without the dust of the division."""
    return round(1 / error_rate, 9)


def foreseen(units: float | None) -> float | None:
    """Units that something takes; None where that is as good as never."""
    return None if units is None or units > UNITS_FORESEEN_MAX else units
