"""What a rollout is likely to take, before it begins: requests, time, and whether it can fit. Pure.

Traffic is known in requests. A unit has one or more of them, so units come at most as fast: what
does not fit by this count does not fit at all, and what fits may still take longer.
"""

from __future__ import annotations

import itertools
import math

import msgspec

from fairlead.rollout.judge import CONFIDENCE, Instruments
from fairlead.rollout.metrics import MetricTests
from fairlead.rollout.plan import Plan, Ramp, percent
from fairlead.rollout.ramp import RAISE_AT, acting_s
from fairlead.stats.intervals import GRID
from fairlead.stats.rae import NonInferiorityRae, Rates
from fairlead.stats.several import NotWorseInAll

GRID_MIN = min(gap for gap in GRID if gap > 0.0)
_NEARLY_NONE = 1e-6
WORSE_BY = 2.0
"""The forecast of a rollback is for a release that is worse by so many margins."""


class StepForecast(msgspec.Struct, frozen=True):
    """One step: its share, and the least seconds it takes; None while the traffic is not known."""

    share: float
    seconds: float | None


class Sampling(msgspec.Struct, frozen=True):
    """What a judge model sees of the traffic.

    Attributes:
        share: Of the units.
        per_minute: Samples that begin in a minute at the most.
        questions: What its budget pays for until the deadline; None for no bound.
    """

    share: float
    per_minute: float
    questions: float | None = None

    def share_at(self, requests_per_s: float | None) -> float:
        """The share of the units that is judged at this traffic."""
        most = self.per_minute / 60
        return min(self.share, most / requests_per_s) if requests_per_s else self.share


def judged_share(plan: Plan, requests_per_s: float | None, sampling: Sampling | None) -> float:
    """The share of the units that say something by every metric; 1 where no judge is asked."""
    if sampling is None or not plan.awaits_judge:
        return 1.0
    return sampling.share_at(requests_per_s)


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


def forecast(
    plan: Plan, requests_per_s: float | None, sampling: Sampling | None = None
) -> Forecast:
    """The forecast at this traffic; None or 0 if there is none to go by.

    Args:
        sampling: Of the judge model, for a plan that waits for one.
    """
    if not plan.steps:
        return Forecast(notes=("nothing is compared before all traffic moves",))
    tests = Instruments(plan)
    rate = plan.expected_failure_rate
    own = 1 if plan.feedback is None else 2
    equal: list[Rates] = [(rate, rate)] * own
    bad = min(1.0, rate + WORSE_BY * plan.margin)
    # It fails more, and is as good in all that is declared: of which nothing is known beforehand.
    declared = len(tests.rollback.parts) - own
    worse: list[Rates] = [(bad, rate)] * own + [(_NEARLY_NONE, _NEARLY_NONE)] * declared
    share = plan.steps[-1].share
    promote = NotWorseInAll(tests.promote.parts[:own]).expected_more(equal, share, 1 / plan.beta)
    back = tests.rollback.expected_more(worse, plan.steps[0].share, 1 / plan.judge_alpha)
    needed = [metric.name for metric in plan.metrics if metric.promotes and not metric.sampled]
    notes: tuple[str, ...] = ()
    if needed:
        notes = (
            f"a promotion also needs evidence by {', '.join(needed)}; how much traffic that takes "
            "follows from their spread, which is not known beforehand",
        )
    if plan.strata is not None:
        notes = (
            *notes,
            f"requests are told apart by their {plan.strata.by}: a release that is worse in one of "
            f"{len(plan.strata.names)} strata alone may go back, too",
        )
    problems: tuple[str, ...] = ()
    judged = _judged_to_promote(plan, promote)
    if sampling is not None and judged is not None and promote is not None:
        problems, said = _judging(math.ceil(judged), sampling, requests_per_s)
        notes = (*notes, said)
        # Of what is said of a sample, only the units of the sample are evidence.
        share = sampling.share_at(requests_per_s)
        promote = max(promote, judged / share)
        if plan.samples_feedback:
            back = None if back is None else back / share
    found = Forecast(
        problems=problems,
        notes=notes,
        steps=tuple(StepForecast(step.share, None) for step in plan.steps),
        units_to_promote=None if promote is None else math.ceil(promote),
        units_to_roll_back=None if back is None else math.ceil(back),
    )
    if not requests_per_s:
        return msgspec.structs.replace(
            found, notes=(*notes, "no traffic in the last hour: how long it takes is not known")
        )
    return _timed(found, plan, requests_per_s, judged_share(plan, requests_per_s, sampling))


def _judged_to_promote(plan: Plan, own: float | None) -> float | None:
    """Judged units until an equal release is promoted; None where no judge model decides that.

    What a declared metric's rate will be is not known: the expected failure rate stands for it.
    """
    share, rate = plan.steps[-1].share, plan.expected_failure_rate
    needed = [own] if plan.samples_feedback else []
    for metric in plan.metrics:
        if metric.promotes and metric.sampled:
            tests = MetricTests(metric.tests(plan.tolerance, rate), plan.judge_alpha, plan.beta)
            equal: list[Rates] = [(rate, rate)] * len(tests.promote.parts)
            needed.append(tests.promote.expected_more(equal, share, 1 / plan.beta))
    return max((units for units in needed if units is not None), default=None)


def _judging(
    needed: int, sampling: Sampling, requests_per_s: float | None
) -> tuple[tuple[str, ...], str]:
    """Why a judge model cannot say enough, and what it has to say for a promotion."""
    share = sampling.share_at(requests_per_s)
    pace = f", {60 * share * requests_per_s:,.3g} a minute" if requests_per_s else ""
    note = (
        f"an equal release is promoted after about {needed:,} judged answers; {percent(share)} of "
        f"the units are judged{pace}"
    )
    if sampling.questions is None or needed <= sampling.questions:
        return (), note
    return (
        f"a promotion takes about {needed:,} judged answers, and judge.budget pays for "
        f"{sampling.questions:,.0f} until the deadline: raise it, or rollout.margin",
    ), note


def _timed(found: Forecast, plan: Plan, rate: float, judged: float) -> Forecast:
    least = [
        max(step.seconds, step.units / (step.share * rate) + plan.settle_s) for step in plan.steps
    ]
    if plan.ramp is not None:
        # Its harm is bounded by what fails, which a judge model may say of a sample alone.
        judged = judged if plan.samples_feedback else 1.0
        least = _ramp_seconds(plan, rate, judged)
    seconds = list(least)
    if found.units_to_promote is not None:
        seconds[-1] = max(seconds[-1], found.units_to_promote / rate + plan.settle_s)
    whole = sum(seconds)
    served = sum(step.share * rate * each for step, each in zip(plan.steps, seconds, strict=True))
    problems, notes = list(found.problems), list(found.notes)
    if plan.ramp is None and sum(least) > plan.deadline_s:
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
    if plan.ramp is not None and found.units_to_promote is not None:
        added = _ramp_problems(plan, rate, found.units_to_promote, judged)
        problems, notes = problems + added[0], notes + added[1]
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


def harm_budget(ramp: Ramp, rate: float, deadline_s: float) -> float:
    """The budget of a ramp in failed requests."""
    return ramp.requests or ramp.share * rate * deadline_s


def _ramp_seconds(plan: Plan, rate: float, judged: float) -> list[float]:
    """About how long an equal release stays at each share: until the next one fits the budget.

    A share whose successor fits when it is reached is passed over.
    """
    assert plan.ramp is not None
    budget = RAISE_AT * harm_budget(plan.ramp, rate, plan.deadline_s)
    blind_s = plan.settle_s + acting_s(plan.settle_s)
    expected, seen = plan.expected_failure_rate, 0.0
    seconds: list[float] = []
    for step, following in itertools.pairwise(plan.steps):
        weight = step.share * (1 - step.share)
        lacks_s = 0.0 if seconds else blind_s
        bound = budget / (rate * following.share * (blind_s + plan.settle_s))
        if bound < 1.0:
            # So many units refute a difference of `bound`, by the test that the bound is made of.
            test = NonInferiorityRae(
                margin=max(bound, GRID_MIN), prior_rate=expected, prior_units=20.0
            )
            units = test.expected_more(expected, expected, step.share, 2 / (1 - CONFIDENCE))
            lacks_s = max(lacks_s, (units or 0.0) / (rate * judged) - seen / weight)
        seconds.append(lacks_s + blind_s if seen and lacks_s else lacks_s)
        seen += lacks_s * weight
    return [*seconds, blind_s]


def _ramp_problems(
    plan: Plan, rate: float, units: int, judged: float
) -> tuple[list[str], list[str]]:
    """Why a ramp's budget cannot hold, and why it may well be too small."""
    assert plan.ramp is not None
    budget = harm_budget(plan.ramp, rate, plan.deadline_s)
    blind_s = plan.settle_s + acting_s(plan.settle_s)
    first = rate * plan.steps[0].share * blind_s
    if first > budget:
        fitting = budget / (rate * blind_s)
        return [
            f"before anything is known of it, it answers {first:,.1f} requests at {rate:.3g} "
            f"requests per second, and the harm budget is {budget:,.1f}: lower rollout.ramp.start "
            f"to {percent(fitting)}, or raise rollout.ramp.harm_budget to {math.ceil(first)}"
        ], []
    share, p = plan.steps[-1].share, plan.expected_failure_rate
    chance = math.sqrt(units * share * p * (1 - p) / ((1 - share) * judged))
    if budget >= 3 * chance:
        return [], []
    return [], [
        f"by chance alone an equal release can seem to have cost {chance:,.0f} requests or more by "
        f"its verdict: with a harm budget of {budget:,.1f} it may well go back for it; "
        f"{math.ceil(3 * chance):,} would do"
    ]


def minutes(seconds: float) -> str:
    """A length of time in words."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
