"""How the monitors of requests are set."""

from __future__ import annotations

import math

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.stats.monitors.evidence import RUN_LENGTH

LEARN_MIN = 200
"""Fewer requests say too little of a rate, and make no class of times."""
LEARN_MAX = 10_000
RUN_LENGTH_MAX = 1e9


class MonitorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the monitors of one service are set.

    Attributes:
        learn: First requests of a release that a monitor learns from; `LEARN_MIN` to `LEARN_MAX`.
        requests_per_false_alarm: Of each monitor: what it takes in between two false alarms, at
            least, on average.
        tolerance: Ratio by which times may be longer without an alarm.
        off: Names of monitors that are not wanted.
    """

    learn: int = 1_000
    requests_per_false_alarm: float = RUN_LENGTH
    tolerance: float = 0.1
    off: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises InvalidInput for what is out of bounds."""
        if not LEARN_MIN <= self.learn <= LEARN_MAX:
            raise InvalidInput(
                f"monitors: learn={self.learn} must be from {LEARN_MIN} to {LEARN_MAX:,} requests"
            )
        if not 1_000.0 <= self.requests_per_false_alarm <= RUN_LENGTH_MAX:
            raise InvalidInput(
                f"monitors: requests_per_false_alarm={self.requests_per_false_alarm:g} must be "
                f"from 1,000 to {RUN_LENGTH_MAX:g}"
            )
        if not (math.isfinite(self.tolerance) and 0.0 <= self.tolerance <= 5.0):
            raise InvalidInput(f"monitors: tolerance={self.tolerance} must be a ratio from 0 to 5")

    @property
    def times_run_length(self) -> float:
        """Of the times of all requests, and of those of single keys: the two share one."""
        shares = 1.0 if "slow_key" in self.off else 2.0
        return shares * self.requests_per_false_alarm
