"""The automatic ramp: the share grows with the evidence, and the harm stays in a budget. Pure.

*Harm* is the number of requests that failed, or are going to fail, because the canary answered them
and not the champion. Of those that have settled it is estimated: the difference of the failure
rates, and one standard error more (an estimate alone is too low as often as not), times the
requests that the canary had. Of those that have not settled, and of those that come
until a decision can act, nothing is known but the upper bound of the difference, by its confidence
sequence: that is what they count with, and in the beginning, when nothing is refuted, each of them
counts as a whole failed request.

Holding a share is allowed while all of this is within the budget; a higher one when even all
requests until the first of *its* outcomes are known would be. When no share is allowed, the least
waits for what has not settled, and the rollout ends once the settled harm is above the budget.

So the share goes up as fast as the bound comes down, and skips steps of the grid that it need not
stop at: each change of the share is a new phase with a new salt and moves sticky units, and a grid
with ratio 2 has few of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from fairlead.rollout.model import Facts, Rollout
from fairlead.rollout.plan import STEPS_MAX, Step, percent

RATIO = 2.0
"""From one share of the grid to the next."""
RAISE_AT = 0.75
"""Part of the budget that a higher share may take: else traffic that grows a little lowers it."""
ACTING_S = 5.0
"""Within so many seconds of a look all workers have acted on it, the time between looks apart."""
LOOKS_PER_SETTLING = 20
"""Control looks at the evidence so often in the time that a unit takes to settle."""


class Harm(NamedTuple):
    """The harm of a rollout at one moment, in failed requests.

    Attributes:
        so_far: Of settled units: the estimate and one standard error.
        unsettled: At worst, of what was served and has not settled.
        budget: What it may cost.
        upper: Upper bound of the difference of the failure rates, 0 to 1.
        requests_per_s: Of both sides.
        blind_s: For how long nothing is known of a unit, once it has begun.
        acting_s: From a look until all workers have acted on it.
    """

    so_far: float
    unsettled: float
    budget: float
    upper: float
    requests_per_s: float
    blind_s: float
    acting_s: float

    @property
    def known(self) -> float:
        """What cannot be helped any more, at worst."""
        return self.so_far + self.unsettled

    def at(self, share: float, *, higher: bool = False) -> float:
        """The harm at worst, once a decision taken after the next look can have acted.

        Args:
            higher: It is a new and higher share, of which nothing is known for longer.
        """
        seconds = self.acting_s + (self.blind_s if higher else 0.0)
        return self.known + self.upper * self.requests_per_s * share * seconds


class Move(NamedTuple):
    """What a ramp does next: another step of the plan, or none of them any more (None), and why."""

    step: int | None
    why: str


def grid(start: float, highest: float) -> tuple[Step, ...]:
    """The steps of a ramp, from the first share to the highest."""
    shares = [start]
    while shares[-1] * RATIO <= highest / 1.2 and len(shares) < STEPS_MAX - 1:
        shares.append(shares[-1] * RATIO)
    if highest > start:
        shares.append(highest)
    return tuple(Step(round(share, 9)) for share in shares)


def acting_s(settle_s: float) -> float:
    """Seconds from a look to the moment at which all workers have acted on it."""
    return ACTING_S + settle_s / LOOKS_PER_SETTLING


def harm_of(rollout: Rollout, now: float, observed_until: float | None = None) -> Harm | None:
    """The harm at this moment; None without a ramp, or while no request has settled.

    Args:
        observed_until: Up to when all requests are known; None if that is not behind.
    """
    ramp, judge, verdict = rollout.plan.ramp, rollout.judge, rollout.verdict
    rate = _requests_per_s(rollout, now)
    if ramp is None or verdict is None or rate is None or rollout.traffic_since is None:
        return None
    settled = judge.canary.requests + judge.champion.requests
    served = judge.canary.requests * judge.requests / max(1, settled)
    upper = verdict.numbers.get("ci_high")
    lag = 0.0 if observed_until is None else max(0.0, now - observed_until)
    blind_s = rollout.plan.settle_s + lag
    upper = 1.0 if upper is None else min(1.0, max(0.0, float(upper)))
    return Harm(
        so_far=min(upper, _difference(rollout)) * served,
        unsettled=upper * rate * _share_seconds(rollout, now, blind_s),
        budget=ramp.requests or ramp.share * rate * rollout.plan.deadline_s,
        upper=upper,
        requests_per_s=rate,
        blind_s=blind_s,
        acting_s=acting_s(rollout.plan.settle_s),
    )


def next_move(rollout: Rollout, facts: Facts, higher: Iterable[int] = ()) -> Move | None:
    """Another share, or the end; None to stay where it is.

    Args:
        higher: The steps to which it may go up, the best first.
    """
    harm = harm_of(rollout, facts.now, facts.observed_until)
    if harm is None:
        return None
    steps, present = rollout.plan.steps, rollout.step
    if harm.so_far > harm.budget:
        return Move(None, f"the harm budget is used up: {_said(harm, rollout)}")
    if harm.at(steps[present].share) > harm.budget:
        for step in range(present - 1, -1, -1):
            # What has not settled cannot be helped: the least share may wait for its outcomes.
            if step == 0 or harm.at(steps[step].share) <= harm.budget:
                return Move(step, f", lowered: {_said(harm, rollout)}")
        return None
    for step in higher:
        if harm.at(steps[step].share, higher=True) <= RAISE_AT * harm.budget:
            return Move(step, f": {_said(harm, rollout, steps[step].share)}")
    return None


def _said(harm: Harm, rollout: Rollout, share: float | None = None) -> str:
    """The figures behind a move."""
    present = rollout.plan.steps[rollout.step].share
    at = harm.at(present) if share is None else harm.at(share, higher=True)
    until = "the next look" if share is None else "its first outcomes"
    return (
        f"so far about {harm.so_far:.1f} requests may have failed because of it, by {until} at "
        f"most {at:.1f} would at {percent(share or present)}; the budget is {harm.budget:.1f} "
        f"(difference of the failure rates at most {100 * harm.upper:.3g} points)"
    )


def _difference(rollout: Rollout) -> float:
    """Of the failure rates, so far: the estimate and one standard error; 0 at least."""
    judge, verdict = rollout.judge, rollout.verdict
    estimate = None if verdict is None else verdict.numbers.get("difference")
    if estimate is None:
        return 1.0
    variance = 0.0
    for arm in (judge.canary, judge.champion):
        rate = (arm.failures + 0.5) / (arm.judged + 1.0)
        variance += rate * (1.0 - rate) / max(1, arm.judged)
    return max(0.0, float(estimate) + math.sqrt(variance))


def _requests_per_s(rollout: Rollout, now: float) -> float | None:
    """The traffic: the higher of its mean since the beginning and since this share is in force."""
    judge = rollout.judge
    span = judge.cursor[0] - judge.first_at
    if judge.units < 2 or span <= 0.0:
        return None
    recent = 0.0
    if now > rollout.step_started_at > 0.0:
        recent = (judge.requests - rollout.step_requests) / max(1.0, now - rollout.step_started_at)
    return max(recent, judge.requests / span)


def _share_seconds(rollout: Rollout, now: float, seconds: float) -> float:
    """The integral of the canary's share over the last so many seconds."""
    seconds = min(seconds, now - (rollout.traffic_since or now))
    since = seconds if rollout.step_started_at == 0.0 else now - rollout.step_started_at
    present = min(max(0.0, since), seconds)
    share = rollout.plan.steps[rollout.step].share
    # Until the last worker has taken a share over, it may be the one before: the higher counts.
    before = max(rollout.share_before, share if rollout.step_started_at == 0.0 else 0.0)
    return share * present + before * (seconds - present)
