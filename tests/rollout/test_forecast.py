"""What is said before a rollout: right beside a simulation, and never a false refusal."""

from __future__ import annotations

import math
import random
from statistics import median

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.forecast import WORSE_BY, Sampling, forecast
from fairlead.rollout.judge import Instruments
from fairlead.rollout.plan import FeedbackRule, Plan, Ramp, ShadowRule, Step
from fairlead.rollout.prometheus import Count, Prometheus

PLAN = Plan(
    steps=(Step(0.1, 50, 60.0), Step(0.5, 100, 60.0)), margin=0.05, settle_s=10.0, deadline_s=3600.0
)


def units_until(plan: Plan, share: float, canary_rate: float, seed: int, *, promotes: bool) -> int:
    """Units until the test acts, at one share."""
    dice, tests = random.Random(seed), Instruments(plan)
    test = tests.promote if promotes else tests.rollback
    threshold = 1 / plan.beta if promotes else 1 / plan.alpha
    for count in range(1, 100_000):
        canary = dice.random() < share
        rate = canary_rate if canary else plan.expected_failure_rate
        test.update(canary, share, (float(dice.random() < rate),))
        if test.log_e >= math.log(threshold):
            return count
    raise AssertionError("it does not act")


@pytest.mark.parametrize("promotes", [True, False])
def test_the_forecast_of_units_is_near_what_a_simulation_takes(promotes: bool) -> None:
    """Within a factor of two of the median."""
    said = forecast(PLAN, None)
    share = PLAN.steps[-1 if promotes else 0].share
    rate = PLAN.expected_failure_rate + (0.0 if promotes else WORSE_BY * PLAN.margin)
    expected = said.units_to_promote if promotes else said.units_to_roll_back
    assert expected is not None
    took = median(units_until(PLAN, share, rate, seed, promotes=promotes) for seed in range(15))
    assert took / 2 < expected < took * 2


def test_time_and_requests_follow_from_the_traffic() -> None:
    said = forecast(PLAN, 10.0)
    assert [round(step.seconds or 0) for step in said.steps] == [60, 60]
    assert said.units_to_promote is not None
    assert said.seconds == pytest.approx(60 + max(60, said.units_to_promote / 10 + 10))
    assert said.canary_requests == pytest.approx(60 + 5 * (said.seconds - 60), abs=1)
    assert (said.problems, said.notes) == ((), ())


def test_steps_that_cannot_end_by_the_deadline_do_not_fit() -> None:
    """And it says what would."""
    (problem,) = forecast(PLAN, 0.1).problems
    assert "its steps take 117 min at least, and the deadline is 60 min" in problem
    deadline = int(problem.rpartition(" ")[2]) * 60.0
    fits = msgspec.structs.replace(PLAN, deadline_s=deadline)
    said = forecast(fits, 0.1)
    assert (said.problems, said.notes) == ((), ())


def test_a_verdict_that_may_come_too_late_is_noted_and_not_refused() -> None:
    said = forecast(msgspec.structs.replace(PLAN, deadline_s=600.0), 0.5 + 0.8)
    assert said.problems == ()
    assert "it may well end as inconclusive" in said.notes[0]


def test_without_traffic_nothing_is_said_of_time_and_nothing_refused() -> None:
    for rate in (None, 0.0):
        said = forecast(PLAN, rate)
        assert (said.seconds, said.canary_requests, said.problems) == (None, None, ())
        assert "no traffic in the last hour" in said.notes[0]


def test_a_plan_without_steps_compares_nothing() -> None:
    plan = msgspec.structs.replace(PLAN, steps=(), shadow=ShadowRule(0.1))
    assert forecast(plan, 1.0).units_to_promote is None


@given(st.floats(1e-6, 1e6), st.integers(1, 10_000), st.floats(0.01, 0.99))
def test_more_traffic_never_takes_longer(rate: float, units: int, share: float) -> None:
    plan = Plan(steps=(Step(share, units),), deadline_s=80 * 86_400.0)
    slow, fast = forecast(plan, rate), forecast(plan, 2 * rate)
    assert slow.seconds is not None
    assert fast.seconds is not None
    assert fast.seconds <= slow.seconds
    assert not (fast.problems and not slow.problems)


def test_a_judge_models_sample_is_what_a_verdict_takes() -> None:
    """Only what is judged is evidence; and what cannot be paid for is refused."""
    judged = msgspec.structs.replace(
        Plan(), feedback=FeedbackRule("judge", 4.0, required=True, sampled=True)
    )
    whole = forecast(judged, 10.0, Sampling(1.0, 6_000.0))
    tenth = forecast(judged, 10.0, Sampling(0.1, 6_000.0))
    bounded = forecast(judged, 10.0, Sampling(1.0, 60.0))
    assert whole.units_to_promote is not None
    assert tenth.units_to_promote == pytest.approx(10 * whole.units_to_promote, rel=0.02)
    assert bounded.units_to_promote == tenth.units_to_promote
    assert whole.problems == ()
    assert any("judged answers; 10% of the units are judged, 60 a minute" in n for n in tenth.notes)
    poor = forecast(judged, None, Sampling(0.1, 6_000.0, 20))
    assert any("judge.budget pays for 20 until the deadline" in p for p in poor.problems)


def test_a_rollback_takes_the_judges_part_of_alpha() -> None:
    counts = Prometheus("http://p", counts=(Count("bad", "{{release}}"),))
    alone, shared = forecast(Plan(), None), forecast(Plan(prometheus=counts), None)
    assert alone.units_to_roll_back is not None
    assert shared.units_to_roll_back is not None
    assert shared.units_to_roll_back > alone.units_to_roll_back


def test_a_judged_metric_beside_errors_takes_as_much_of_the_sample() -> None:
    """It has to promote by its own margin, of which only the units of the sample say anything."""
    rule = FeedbackRule("judge", 4.0, sampled=True)
    beside = DeclaredMetric("quality", "feedback", 0.05, feedback=rule)
    plan = msgspec.structs.replace(PLAN, metrics=(beside,))
    none = forecast(plan, 10.0)
    tenth = forecast(plan, 10.0, Sampling(0.1, 6_000.0))
    assert none.units_to_promote is not None
    assert tenth.units_to_promote is not None
    assert tenth.units_to_promote > 9 * none.units_to_promote
    assert tenth.units_to_roll_back == none.units_to_roll_back
    assert tenth.seconds is not None
    assert none.seconds is not None
    assert tenth.seconds > none.seconds
    assert any("judged answers; 10% of the units are judged" in note for note in tenth.notes)
    only_back = msgspec.structs.replace(
        plan, metrics=(msgspec.structs.replace(beside, promotes=False),)
    )
    assert forecast(only_back, 10.0, Sampling(0.1, 6_000.0)).units_to_promote == (
        none.units_to_promote
    )


def test_a_ramp_that_goes_by_a_sample_is_slower_and_less_sure() -> None:
    judged = msgspec.structs.replace(
        PLAN,
        feedback=FeedbackRule("judge", 4.0, required=True, sampled=True),
        steps=tuple(Step(share) for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)),
        ramp=Ramp(requests=40.0),
        deadline_s=86_400.0,
    )
    whole = forecast(judged, 10.0, Sampling(1.0, 6_000.0))
    tenth = forecast(judged, 10.0, Sampling(0.1, 6_000.0))
    took = [[step.seconds or 0.0 for step in said.steps] for said in (whole, tenth)]
    assert sum(took[1][:-1]) > 2 * sum(took[0][:-1])
    (more,) = (note for note in tenth.notes if "by chance alone" in note)
    assert more not in whole.notes
