"""What a rollout is likely to take, before it begins: requests, time, and whether it can fit. Pure.

Traffic is known in requests. A unit has one or more of them, so units come at most as fast: what
does not fit by this count does not fit at all, and what fits may still take longer.
"""

from __future__ import annotations

import math

import msgspec

from fairlead.rollout.judge import Instruments
from fairlead.rollout.plan import Plan
from fairlead.stats.rae import Rates

WORSE_BY = 2.0
"""The forecast of a rollback is for a release that is worse by so many margins."""


class StepForecast(msgspec.Struct, frozen=True):
    """One step: its share, and the least seconds it takes; None while the traffic is not known."""

    share: float
    seconds: float | None


class Forecast(msgspec.Struct, frozen=True):
    """What is to be expected; None where it is not known, or nothing is judged.

    Attributes:
        units_to_promote: Units of both sides until an equal release is promoted, at the last share.
        units_to_roll_back: The same until a release worse by `WORSE_BY` margins is rolled back, at
            the first share.
        seconds: To the promotion of an equal release, from its first traffic on.
        canary_requests: Requests that the release answers until then.
        problems: Why it cannot come to a verdict.
        notes: What should be known beforehand.
    """

    steps: tuple[StepForecast, ...] = ()
    units_to_promote: int | None = None
    units_to_roll_back: int | None = None
    seconds: float | None = None
    canary_requests: int | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def forecast(plan: Plan, requests_per_s: float | None) -> Forecast:
    """The forecast at this traffic; None or 0 if there is none to go by."""
    if not plan.steps:
        return Forecast(notes=("nothing is compared before all traffic moves",))
    tests = Instruments(plan)
    rate = plan.expected_failure_rate
    equal: list[Rates] = [(rate, rate)] * len(tests.promote.parts)
    bad = min(1.0, rate + WORSE_BY * plan.margin)
    worse: list[Rates] = [(bad, rate)] * len(tests.rollback.parts)
    promote = tests.promote.expected_more(equal, plan.steps[-1].share, 1 / plan.beta)
    back = tests.rollback.expected_more(worse, plan.steps[0].share, 1 / plan.alpha)
    found = Forecast(
        steps=tuple(StepForecast(step.share, None) for step in plan.steps),
        units_to_promote=None if promote is None else math.ceil(promote),
        units_to_roll_back=None if back is None else math.ceil(back),
    )
    if not requests_per_s:
        return msgspec.structs.replace(
            found, notes=("no traffic in the last hour: how long it takes is not known",)
        )
    return _timed(found, plan, requests_per_s)


def _timed(found: Forecast, plan: Plan, rate: float) -> Forecast:
    least = [
        max(step.seconds, step.units / (step.share * rate) + plan.settle_s) for step in plan.steps
    ]
    seconds = list(least)
    if found.units_to_promote is not None:
        seconds[-1] = max(seconds[-1], found.units_to_promote / rate + plan.settle_s)
    whole = sum(seconds)
    served = sum(step.share * rate * each for step, each in zip(plan.steps, seconds, strict=True))
    problems, notes = [], []
    if sum(least) > plan.deadline_s:
        problems.append(
            f"at {rate:.3g} requests per second its steps take {minutes(sum(least))} at least, and "
            f"the deadline is {minutes(plan.deadline_s)}: lower the steps' requests, or raise "
            f"rollout.deadline_minutes to {math.ceil(whole / 60)}"
        )
    elif whole > plan.deadline_s:
        notes.append(
            f"an equal release needs about {minutes(whole)} at {rate:.3g} requests per second, and "
            f"the deadline is {minutes(plan.deadline_s)}: it may well end as inconclusive; a "
            f"larger margin, or rollout.deadline_minutes of {math.ceil(whole / 60)}, would do"
        )
    return msgspec.structs.replace(
        found,
        steps=tuple(
            StepForecast(step.share, each) for step, each in zip(plan.steps, least, strict=True)
        ),
        seconds=whole,
        canary_requests=math.ceil(served),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def minutes(seconds: float) -> str:
    """A length of time in words."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
