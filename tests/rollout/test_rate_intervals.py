"""Each rate that is judged has a confidence sequence: right, exactly resumable, and no verdict."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from fairlead.rollout.assessment import assess, numbers_of
from fairlead.rollout.judge import Judge, new_judge, observe
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import FeedbackRule, Plan
from rollout.test_live_metrics import FIVE, PLAN, Traffic, disliked, refusing

HEARD = msgspec.structs.replace(PLAN, feedback=FeedbackRule("good"))
REQUIRED = msgspec.structs.replace(PLAN, feedback=FeedbackRule("good", required=True))


def shown(judge: Judge, plan: Plan) -> dict[str, Any]:
    outcomes: dict[str, Any] = numbers_of(judge, plan)["by_outcome"]
    return outcomes


def again(judge: Judge) -> Judge:
    return msgspec.json.decode(msgspec.json.encode(judge), type=Judge)


def in_batches(world: list[Observation], plan: Plan, *, every: int, cut: int = 0) -> Judge:
    """Judged in many looks, through JSON in between; up to `cut` as an older build keeps it."""
    judge = new_judge(plan)
    for end in [*range(every, len(world), every), None]:
        moment = 1e9 if end is None else world[end].started_at
        batch = [r for r in world if r.started_at < moment and (r.started_at, r.id) > judge.cursor]
        judge = again(observe(judge, plan, batch, moment))
        if end is not None and end <= cut:
            judge = msgspec.structs.replace(judge, intervals=())
    return judge


@pytest.mark.parametrize("plan", [PLAN, HEARD, REQUIRED], ids=["none", "feedback", "required"])
def test_all_rates_have_one_and_amounts_have_none(plan: Plan) -> None:
    """Of the failures by which the plan judges it is the judge's own, and there is no second."""
    outcomes = shown(Traffic(1).judged(plan, 400), plan)
    with_one = {name for name, one in outcomes.items() if "ci_low" in one}
    other = set() if plan.feedback is None else {"failed", "unconfirmed"}
    own = {"unconfirmed"} if plan.requires_feedback else {"failed"}
    assert with_one == {"refusal", "format", "solved", "solved unconfirmed"} | other - own
    assert outcomes["ttft_ms"]["margin"] == pytest.approx(0.25)
    assert outcomes["refusal"]["margin"] == pytest.approx(0.05)


def test_it_says_which_side_is_worse_and_by_how_much() -> None:
    """Of the champion's answers one in twenty is a refusal, of the canary's each is."""
    one = shown(Traffic(2).judged(PLAN, 1_500, refusing), PLAN)["refusal"]
    assert one["ci_low"] > 0.5
    assert one["ci_low"] <= 0.93 <= one["ci_high"]
    assert one["difference"] == pytest.approx(0.93, abs=0.05)
    formats = shown(Traffic(2).judged(PLAN, 1_500, refusing), PLAN)["format"]
    assert formats["ci_low"] < 0.0 < formats["ci_high"]


def test_the_difference_is_weighted_as_the_failures_are() -> None:
    """A ramp during a drift does not show as a difference."""
    early, late = Traffic(3, rho=0.1), Traffic(4, rho=0.5)
    world = [early.request() for _ in range(2_000)]
    world += [
        msgspec.structs.replace(
            r, id=f"s{r.id}", unit=f"v{r.unit}", phase=2, started_at=r.started_at + 500.0,
            feedback=(("solved", 0.0, 0.0),),
        )
        for r in (late.request() for _ in range(2_000))
    ]  # fmt: skip
    judge = observe(new_judge(PLAN), PLAN, world, 1e9)
    one = shown(judge, PLAN)["solved"]
    assert abs(one["difference"]) < 0.04
    assert one["canary_rate"] - one["champion_rate"] > 0.1, "the plain difference is not"


@pytest.mark.parametrize("every", [37, 500])
def test_any_batches_give_the_same_to_the_last_bit(every: int) -> None:
    traffic = Traffic(5)
    world = [traffic.request(disliked) for _ in range(600)]
    whole = in_batches(world, HEARD, every=len(world))
    parts = in_batches(world, HEARD, every=every)
    assert len(whole.intervals) == 5
    assert parts == whole


def test_what_an_older_build_judged_goes_on_without() -> None:
    """It keeps its evidence and its verdict, and no interval is made of the later units alone."""
    traffic = Traffic(6)
    world = [traffic.request(refusing) for _ in range(600)]
    old = in_batches(world, PLAN, every=100, cut=300)
    new = in_batches(world, PLAN, every=100)
    assert old.intervals == ()
    assert msgspec.structs.replace(new, intervals=()) == old
    assert "ci_low" not in shown(old, PLAN)["refusal"]
    assert assess(old, PLAN).outcome is assess(new, PLAN).outcome


def test_it_covers_the_difference_at_every_look() -> None:
    """At most one of twenty sequences ever leaves out what is so."""
    plan = msgspec.structs.replace(PLAN, metrics=(FIVE[2],))
    left_out = 0
    for seed in range(40):
        dice, traffic = random.Random(seed), Traffic(seed)
        judge, world, is_outside = new_judge(plan), list[Observation](), False
        for _ in range(200):
            request = traffic.request()
            refused = int(dice.random() < (0.3 if request.canary else 0.2))
            world.append(msgspec.structs.replace(request, failed_by_error=False, refused=refused))
        for end in range(20, 201, 20):
            judge = observe(judge, plan, world[:end], world[end - 1].started_at + 3.05)
            one = shown(judge, plan)["refusal"]
            is_outside |= not one["ci_low"] <= 0.1 <= one["ci_high"]
        left_out += is_outside
    assert left_out <= 4
