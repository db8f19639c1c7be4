"""Steps that nobody has named: what fits the replicas, the traffic and the time."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.rollout.choosing import highest_share, with_steps
from fairlead.rollout.forecast import Sampling, forecast
from fairlead.rollout.plan import FeedbackRule, Plan, Step

OPEN = Plan(chooses_steps=True, deadline_s=3_600.0)


def shares(plan: Plan, rate: float | None) -> list[float]:
    return [step.share for step in with_steps(plan, rate).steps]


def test_named_steps_stay_as_they_are() -> None:
    assert with_steps(Plan(), 100.0) == Plan()


def test_much_traffic_begins_with_a_small_share() -> None:
    assert shares(OPEN, 100.0) == [0.01, 0.05, 0.5]
    assert shares(OPEN, 4.0) == [0.1, 0.5]
    assert shares(OPEN, None) == [0.1, 0.5]


def test_few_canary_replicas_are_not_given_more_than_the_champion_s_have() -> None:
    few = msgspec.structs.replace(OPEN, champion_replicas=8, canary_replicas=1)
    assert shares(few, 4.0) == [0.1, 0.125]
    assert shares(msgspec.structs.replace(few, canary_replicas=8), 4.0) == [0.1, 0.5]
    assert shares(msgspec.structs.replace(few, champion_replicas=100), 4.0) == [0.01]


def test_little_traffic_asks_for_fewer_units() -> None:
    steps = with_steps(OPEN, 0.2).steps
    assert steps == (Step(0.1, 10, 30.0), Step(0.5, 45, 30.0))


@given(
    st.floats(1.0, 90 * 86_400.0), st.none() | st.floats(0.0, 1e6), st.integers(1, 1_000),
    st.integers(1, 1_000), st.floats(0.0, 86_400.0),
)  # fmt: skip
def test_what_is_chosen_is_always_a_plan(
    deadline_s: float, rate: float | None, champion: int, canary: int, settle_s: float
) -> None:
    """Of growing shares, within the replicas; its steps end by the deadline, if any can."""
    given_plan = Plan(
        steps=(), chooses_steps=True, deadline_s=deadline_s, champion_replicas=champion,
        canary_replicas=canary, settle_s=min(settle_s, deadline_s / 4),
    )  # fmt: skip
    chosen = with_steps(given_plan, rate)
    assert not chosen.chooses_steps
    assert chosen.steps
    assert chosen.steps[-1].share == highest_share(given_plan) <= 0.5
    if rate and chosen.steps[0].share * rate * deadline_s > 100 and settle_s < deadline_s / 20:
        assert forecast(chosen, rate).problems == ()


@pytest.mark.parametrize("rate", [0.001, 0.0])
def test_traffic_that_is_too_little_for_any_steps_is_refused_or_not_known(rate: float) -> None:
    problems = forecast(with_steps(OPEN, rate), rate).problems
    assert bool(problems) == (rate > 0)


def test_where_a_judge_model_decides_the_units_are_those_that_it_is_asked_about() -> None:
    """A sample of a twentieth takes twenty times the units, as far as the deadline has room."""
    judged = msgspec.structs.replace(
        OPEN, feedback=FeedbackRule("judge", 4.0, required=True, sampled=True)
    )
    twentieth = Sampling(0.05, 6_000.0)
    assert with_steps(judged, None, twentieth).steps[0].units == 2_000
    chosen = with_steps(judged, 100.0, twentieth).steps
    assert [step.share for step in chosen] == [0.1, 0.5]
    assert chosen[0].units == 2_000
    assert with_steps(judged, 100.0).steps[0] == Step(0.01, 100, 30.0)
    assert with_steps(OPEN, 100.0, twentieth) == with_steps(OPEN, 100.0)
    bounded = with_steps(judged, 100.0, Sampling(1.0, 60.0)).steps
    assert bounded[0].units == min(10_000, math.floor(0.1 * 100 * 3_600 / 8))
    assert forecast(msgspec.structs.replace(judged, steps=chosen), 100.0, twentieth).problems == ()
