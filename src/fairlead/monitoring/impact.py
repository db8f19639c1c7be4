"""What an incident has cost a service's users, from what was counted of its requests by the minute.

It is told of requests that failed, whatever the alerts were about: these are what every service
counts, and what its promise of availability is about.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.monitoring.burning import MINUTE_S, Bucket
from fairlead.monitoring.objectives import Objective

BEFORE_S = 6 * 3_600.0
"""So long before the first alert it may have begun."""
DAY_S = 86_400.0
CLOSE = 0.99
"""Of a budget's period has to be known, for its share to be no estimate."""


class Impact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was counted of one service from the beginning of an incident to its end.

    Attributes:
        requests, failed: Requests of clients, and those of them that failed.
        began_at: Unix time of the minute from which on more failed than is promised, up to the
            first alert; None where there is none.
        budget: The share of a period's error budget that the failures are; None while less than a
            day is known of what comes in a period.
        period_days: That of the budget.
        is_estimated: Whether less than the period is known, and the rest is taken to be like it.
    """

    service: str
    requests: float
    failed: float
    began_at: float | None
    budget: float | None
    period_days: float
    is_estimated: bool = False


def impact_of(
    service: str, objective: Objective, minutes: Sequence[Bucket], began: float, ended: float
) -> Impact:
    """From what was counted of availability in the period before its end.

    Args:
        minutes: One for each minute with requests, in order.
        began: Unix time of the first alert.
        ended: Unix time of its end, or now.
    """
    since = _began_at(objective, minutes, began)
    first = began - MINUTE_S if since is None else since
    within = [one for one in minutes if first < one.end <= ended + MINUTE_S]
    failed = sum(one.bad for one in within)
    known = [one for one in minutes if ended - objective.period_s < one.end <= ended + MINUTE_S]
    total = sum(one.total for one in known)
    known_s = min(objective.period_s, ended - known[0].end + MINUTE_S) if known else 0.0
    share = None
    if known_s >= DAY_S and total > 0.0 and objective.allowance > 0.0:
        share = failed / (total * objective.allowance) * known_s / objective.period_s
    return Impact(
        service=service,
        requests=sum(one.total for one in within),
        failed=failed,
        began_at=since,
        budget=share,
        period_days=objective.period_days,
        is_estimated=known_s < CLOSE * objective.period_s,
    )


def _began_at(objective: Objective, minutes: Sequence[Bucket], began: float) -> float | None:
    """Back from the first alert while more fails than may; a minute without requests is no end.

    The minute of the alert itself may be a good one: it goes by what was before.
    """
    found = None
    for one in reversed(minutes):
        if one.end - MINUTE_S > began:
            continue
        if one.end < began - BEFORE_S:
            break
        if one.bad > one.total * objective.allowance:
            found = one.end - MINUTE_S
        elif one.end < began - MINUTE_S and one.total > 0.0:
            break
    return found
