"""How fast error budgets burn, over pairs of windows, and what is left of them.

The rules are those of The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate
Alerts": a long window says that enough of the budget is gone to matter, a short one, a twelfth of
it, that it still goes on, so that the alert ends soon after the trouble does. Its figures are for
30 days (2 % of the budget in an hour, 5 % in six, 10 % in three days); for another period the
windows are longer or shorter by as much, and so spend the same shares of the budget.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.objectives import Objective, ObjectiveKind

MINUTE_S = 60
SHORT_S_MIN = 2 * MINUTE_S
"""No window is shorter: two scrapes or buckets of a minute have to lie in it."""

BAD_SHARE_MAX = 0.8
"""A burn rate that asks for more than this share to be bad is lowered to it: with a target of 90 %,
14.4 would ask for 144 %, and even an outage would be no reason for a page."""


UNCOVERED_MAX = 0.05
"""Share of the period, at its beginning, that need not be covered: nobody may have called then."""


class Severity(enum.StrEnum):
    """Who has to know: somebody now (`page`), somebody in working hours (`ticket`), readers."""

    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"


RANK = {Severity.PAGE: 0, Severity.TICKET: 1, Severity.INFO: 2}
BURN = {Severity.PAGE: "fast", Severity.TICKET: "slow"}
"""The label `burn` of alerts on promises, by severity: both can fire at the same time."""


class Pair(msgspec.Struct, frozen=True):
    """A rule: both windows burn at least so fast.

    Attributes:
        factor: Burn rate; 1 uses up the budget exactly by the end of the period.
        long_s, short_s: The windows in seconds.
    """

    severity: Severity
    factor: float
    long_s: int
    short_s: int


_H = 3_600
_PAIRS = (
    Pair(Severity.PAGE, 14.4, _H, 300),
    Pair(Severity.PAGE, 6.0, 6 * _H, 1_800),
    Pair(Severity.TICKET, 3.0, 24 * _H, 2 * _H),
    Pair(Severity.TICKET, 1.0, 72 * _H, 6 * _H),
)
_COST_PAIRS = (
    Pair(Severity.PAGE, 4.0, _H, 300),
    Pair(Severity.TICKET, 2.0, 6 * _H, 1_800),
    Pair(Severity.TICKET, 1.0, 72 * _H, 6 * _H),
)
"""Money has no natural 100 %: requests that cost twice as much as they may are worth a look, four
times as much somebody's evening."""


def pairs_of(objective: Objective) -> tuple[Pair, ...]:
    """The rules of this objective, its windows in proportion to its period."""
    is_cost = objective.kind is ObjectiveKind.COST
    scale = objective.period_days / 30.0
    factor_max = math.inf if is_cost else BAD_SHARE_MAX / objective.allowance
    return tuple(
        Pair(
            pair.severity,
            min(pair.factor, factor_max),
            _scaled(pair.long_s, scale),
            max(SHORT_S_MIN, _scaled(pair.short_s, scale)),
        )
        for pair in (_COST_PAIRS if is_cost else _PAIRS)
    )


def _scaled(seconds: int, scale: float) -> int:
    return max(1, round(seconds * scale / MINUTE_S)) * MINUTE_S


class Bucket(msgspec.Struct, frozen=True):
    """What was counted in a short time.

    Attributes:
        end: Unix time in seconds at which it ended.
        total: Requests (for quality, judged answers).
        bad: Those of them that broke the promise; for cost the USD that all of them cost.
    """

    end: float
    total: float
    bad: float


class Burn(msgspec.Struct, frozen=True):
    """What a pair of windows holds. Rates are None where nothing was counted."""

    pair: Pair
    long: float | None
    short: float | None
    total: float
    bad: float
    is_burning: bool


class Assessment(msgspec.Struct, frozen=True):
    """How an objective stands.

    Attributes:
        severity: Of the gravest pair that burns; None when none does.
        burns: All pairs.
        budget_left: Share of the period's budget that is left: below 0 the promise is broken; None
            without requests, and until the counts go back to the beginning of the period: two bad
            days of a month that is not known are no broken promise.
        gone_in_s: Seconds after which nothing is left, at the rate of the fastest pair that burns;
            None where `budget_left` is.
    """

    objective: Objective
    severity: Severity | None
    burns: tuple[Burn, ...]
    budget_left: float | None
    gone_in_s: float | None


def assess(objective: Objective, buckets: Sequence[Bucket], now: float) -> Assessment:
    """Look at an objective.

    Args:
        buckets: In the order of their ends; those of the future and of before the period are left
            out. A bucket counts in a window when its end does: `now - window < end <= now`.

    Raises:
        InvalidInput: counts that cannot be, or buckets that are not in order.
    """
    _check(objective, buckets)
    ends = [bucket.end for bucket in buckets]
    totals = [0.0, *accumulate(bucket.total for bucket in buckets)]
    bads = [0.0, *accumulate(bucket.bad for bucket in buckets)]
    last = bisect_right(ends, now)

    def within(window_s: float) -> tuple[float, float]:
        first = min(last, bisect_right(ends, now - window_s))
        return totals[last] - totals[first], bads[last] - bads[first]

    burns = tuple(
        _burn(objective, pair, within(pair.long_s), within(pair.short_s))
        for pair in pairs_of(objective)
    )
    burning = [burn for burn in burns if burn.is_burning]
    left = _rate(objective, *within(objective.period_s)) if _covers(objective, ends, now) else None
    budget_left = None if left is None else 1.0 - left
    fastest = max((burn.long or 0.0 for burn in burning), default=0.0)
    gone = budget_left is not None and fastest > 0.0
    return Assessment(
        objective=objective,
        severity=min((b.pair.severity for b in burning), key=RANK.__getitem__, default=None),
        burns=burns,
        budget_left=budget_left,
        gone_in_s=max(0.0, budget_left or 0.0) * objective.period_s / fastest if gone else None,
    )


def _covers(objective: Objective, ends: Sequence[float], now: float) -> bool:
    """Whether the counts go back to about the beginning of the period."""
    return bool(ends) and ends[0] <= now - (1.0 - UNCOVERED_MAX) * objective.period_s


def _burn(
    objective: Objective, pair: Pair, long: tuple[float, float], short: tuple[float, float]
) -> Burn:
    (total, bad), long_rate, short_rate = long, _rate(objective, *long), _rate(objective, *short)
    is_enough = total >= objective.requests_min and (
        objective.kind is ObjectiveKind.COST or bad > objective.bad_min - 0.5
    )
    is_burning = (
        is_enough
        and long_rate is not None
        and short_rate is not None
        and long_rate > pair.factor
        and short_rate > pair.factor
    )
    return Burn(pair, long_rate, short_rate, total, bad, is_burning)


def _rate(objective: Objective, total: float, bad: float) -> float | None:
    return bad / (total * objective.allowance) if total > 0.0 else None


def _check(objective: Objective, buckets: Sequence[Bucket]) -> None:
    before = -math.inf
    is_cost = objective.kind is ObjectiveKind.COST
    for bucket in buckets:
        finite = all(map(math.isfinite, (bucket.end, bucket.total, bucket.bad)))
        if not finite or bucket.total < 0.0 or bucket.bad < 0.0:
            raise InvalidInput(f"slos.{objective.kind}: a count is negative or no number: {bucket}")
        if not is_cost and bucket.bad > bucket.total:
            raise InvalidInput(f"slos.{objective.kind}: more are bad than there are: {bucket}")
        if bucket.end < before:
            raise InvalidInput(f"slos.{objective.kind}: the counts are not in order: {bucket}")
        before = bucket.end
