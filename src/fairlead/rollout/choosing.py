"""Chooses the steps of a canary where nobody has named any: from replicas, traffic and time. Pure.

- The last share is half of the units, where a verdict comes with the fewest of them, unless the
  canary's replicas are fewer than the champion's: then none of them is given more of the traffic
  than each of the champion's has.
- The first share is the smallest at which the first step is over in a tenth of the time until the
  deadline, but 1 % at least and 10 % at most.
- Where the two are far apart a step between them limits what a mistake costs.
- A step's least number of units is 100, or as many as come in an eighth of that time.
- Where a judge model decides, the 100 units are those that it is asked about: a sample of one in
  twenty takes twenty times the units.
"""

from __future__ import annotations

import math

import msgspec

from fairlead.rollout.forecast import Sampling, judged_share
from fairlead.rollout.plan import UNITS_MAX, Plan, Step

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares are rounded to these, the first one up and the others down, where they are no less."""
FIRST_MAX = 0.1
UNITS = 100
UNITS_MIN = 10
SECONDS = 30.0
FAR_APART = 6.0


def with_steps(plan: Plan, requests_per_s: float | None, sampling: Sampling | None = None) -> Plan:
    """The plan with the steps that fit; as it is where it names its steps itself.

    Args:
        requests_per_s: The service's traffic; None or 0 while it is not known.
        sampling: Of the judge model, for a plan that waits for one.
    """
    if not plan.chooses_steps:
        return plan
    highest = highest_share(plan)
    wanted = UNITS / judged_share(plan, requests_per_s, sampling)
    first = min(_first(wanted, plan.deadline_s, requests_per_s), highest)
    shares = [first]
    if highest / first > FAR_APART:
        shares.append(_rounded_down(math.sqrt(first * highest)))
    shares.append(highest)
    seconds = min(SECONDS, plan.deadline_s / (8 * len(shares)))
    steps = tuple(
        Step(share, _units(wanted, share * (requests_per_s or 0.0), plan.deadline_s), seconds)
        for share in dict.fromkeys(shares)
    )
    return msgspec.structs.replace(plan, steps=steps, chooses_steps=False)


def highest_share(plan: Plan) -> float:
    """The highest share for which the canary's replicas are enough."""
    return min(SHARES[-1], plan.canary_replicas / plan.champion_replicas)


def _first(units: float, deadline_s: float, rate: float | None) -> float:
    expected = (rate or 0.0) * deadline_s / 10
    if not expected:  # also of a rate that is next to nothing
        return FIRST_MAX
    wanted = units / expected
    return next((share for share in SHARES if wanted <= share <= FIRST_MAX), FIRST_MAX)


def _rounded_down(share: float) -> float:
    return max((known for known in SHARES if known <= share), default=share)


def _units(wanted: float, canary_rate: float, deadline_s: float) -> int:
    most = min(math.ceil(wanted), UNITS_MAX)
    if not canary_rate:
        return most
    return max(UNITS_MIN, min(most, math.floor(canary_rate * deadline_s / 8)))
