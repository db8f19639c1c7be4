"""The automatic ramp: as fast as the evidence allows, and never dearer than its budget."""

from __future__ import annotations

from statistics import mean, median

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.checkpoints import HookOutcome, HookReport
from fairlead.rollout.endings import Ending
from fairlead.rollout.forecast import forecast
from fairlead.rollout.machine import Facts, Rollout
from fairlead.rollout.plan import FeedbackRule, Hook, Plan, Point, Ramp, Step
from fairlead.rollout.ramp import grid, harm_of, next_move
from fairlead.rollout.states import State
from rollout.stepping import begin, judging, seen, step
from rollout.test_simulated import PLAN, Run, World

BUDGET = 40.0
FAILS = 0.1
RAMP = msgspec.structs.replace(
    PLAN,
    steps=grid(0.01, 0.5),
    ramp=Ramp(requests=BUDGET),
    deadline_s=1_500.0,
    feedback=FeedbackRule("correct", required=True),
)
BY_HAND = msgspec.structs.replace(
    PLAN, steps=grid(0.01, 0.5), ramp=Ramp(requests=10.0), feedback=None, settle_s=1.0
)


def run(seed: int, canary_fails: float, plan: Plan = RAMP) -> tuple[Rollout, float]:
    """A rollout in a world of 27 requests per second, and the failures that it really cost."""
    world = World(seed, FAILS, canary_fails, rate=20.0)
    ended = Run(world, 0.1, plan, seed=seed).to_the_end()
    return ended, world.served_by_canary * (canary_fails - FAILS)


def shares(rollout: Rollout) -> list[float]:
    """The shares that its history names."""
    words = [t.why.split() for t in rollout.history if t.to is State.SHIFTING]
    return [float(word[2].rstrip("%:,")) / 100 for word in words]


def test_the_grid_is_geometric_and_ends_at_the_highest_share() -> None:
    assert [s.share for s in grid(0.01, 0.5)] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5]
    assert [s.share for s in grid(0.2, 0.2)] == [0.2]
    assert [s.share for s in grid(0.05, 0.1)] == [0.05, 0.1]
    assert len(grid(0.0001, 0.99)) <= 20


@pytest.mark.parametrize("fails", [0.2, 0.4, 0.9])
def test_a_bad_release_costs_no_more_than_the_budget(fails: float) -> None:
    """On average far less, and with bad luck little more; the top share alone would cost more."""
    ended, harm = zip(*(run(seed, fails) for seed in range(12)), strict=True)
    assert {r.ending for r in ended} <= {Ending.WORSE, Ending.HARM_BUDGET}
    assert mean(harm) < 0.8 * BUDGET
    assert sum(h > BUDGET for h in harm) <= 3
    assert max(harm) < 1.5 * BUDGET


def test_an_equal_release_reaches_the_top_about_as_fast_as_information_allows() -> None:
    """In twice the time that it takes at the highest share from the beginning on."""
    at_once = msgspec.structs.replace(RAMP, steps=(Step(0.5),), ramp=None)
    ramped = [run(seed, FAILS)[0] for seed in range(8)]
    free = [run(seed, FAILS, at_once)[0] for seed in range(8)]
    assert sum(r.ending is Ending.PROMOTED for r in ramped) >= 7
    assert median(r.history[-1].at for r in ramped) < 2 * median(r.history[-1].at for r in free)
    assert all(r.phase <= 12 for r in ramped), "sticky users are moved a few times only"
    assert all(len(shares(r)) == r.phase - 1 for r in ramped if r.ending is Ending.PROMOTED)


def test_with_a_smaller_budget_it_is_slower() -> None:
    wide = msgspec.structs.replace(RAMP, ramp=Ramp(requests=400.0))
    tight = msgspec.structs.replace(RAMP, ramp=Ramp(requests=25.0))
    quick, slow = (median(run(s, FAILS, p)[0].history[-1].at for s in range(5))
                   for p in (wide, tight))  # fmt: skip
    assert quick < slow


def test_every_change_of_the_share_is_told_with_its_figures() -> None:
    ended, _ = run(3, FAILS)
    moves = [t.why for t in ended.history if t.origin is State.JUDGING and t.to is State.SHIFTING]
    assert moves
    for why in moves:
        assert why.startswith("canary share ")
        assert "the budget is 40.0" in why


def units(n: int, phase: int, start: float, rho: float, failing: float) -> dict[str, object]:
    """n units on each side within a second."""
    made = seen(n, phase, start, rho, failing)
    spread = [
        msgspec.structs.replace(o, started_at=start + i / len(made["observations"]))
        for i, o in enumerate(made["observations"])
    ]
    return {"observations": tuple(spread), "watermark": start + 3.0}


def test_the_share_goes_down_when_what_comes_could_exceed_the_budget() -> None:
    """Also while it is paused, and never without a word."""
    rollout = judging(plan=BY_HAND)
    rollout = step(rollout, now=6.0, candidate_ready=2, workers_phase=1, observed_until=6.0,
                   **units(2, 1, 3.0, 0.01, 0.0))  # fmt: skip
    assert rollout.state is State.SHIFTING
    assert rollout.step > 1, "it skips the steps that fit the budget"
    raised = rollout.step
    rollout = step(rollout, now=7.0, candidate_ready=2, workers_phase=2, observed_until=7.0)
    rollout = step(rollout, now=7.5, candidate_ready=2, workers_phase=2, observed_until=7.0,
                   command="pause")  # fmt: skip
    # The records stop coming, so what is served since then counts as failed.
    rollout = step(rollout, now=30.0, candidate_ready=2, workers_phase=2, observed_until=7.0)
    assert rollout.state is State.SHIFTING
    assert rollout.step < raised
    assert rollout.paused
    assert ", lowered: " in rollout.reason
    assert rollout.phase == 3


def test_a_budget_that_is_used_up_ends_it_by_name() -> None:
    rollout = judging(plan=msgspec.structs.replace(BY_HAND, ramp=Ramp(requests=1.0)))
    rollout = step(rollout, now=6.0, candidate_ready=2, workers_phase=1, observed_until=6.0,
                   **units(6, 1, 3.0, 0.01, 0.5))  # fmt: skip
    assert rollout.state is State.ROLLING_BACK
    assert rollout.ending is Ending.HARM_BUDGET
    assert rollout.reason.startswith("the harm budget is used up: ")


def test_a_raise_waits_for_its_hook_and_leaves_it_when_the_budget_does_not_allow_it() -> None:
    hooked = msgspec.structs.replace(BY_HAND, hooks=(Hook("http://x", (Point.STEP,)),))
    rollout = step(begin(plan=hooked, gates=0), now=1.0, candidate_ready=2)
    rollout = step(rollout, now=1.5, candidate_ready=2, hooks=_passed("step 1"))
    rollout = step(rollout, now=2.0, candidate_ready=2, workers_phase=1)
    rollout = step(rollout, now=6.0, candidate_ready=2, workers_phase=1, observed_until=6.0,
                   **units(2, 1, 3.0, 0.01, 0.0))  # fmt: skip
    assert rollout.checkpoint is not None
    asked = rollout.checkpoint.point
    rollout = step(rollout, now=60.0, candidate_ready=2, workers_phase=1, observed_until=6.0)
    assert rollout.checkpoint is None
    assert rollout.state is State.JUDGING
    assert rollout.step == 0
    assert rollout.history[-1].why.startswith(f"does not wait at {asked} any more")


def _passed(point: str) -> HookReport:
    return HookReport(point, HookOutcome.PASSED)


def test_without_a_ramp_or_without_traffic_there_is_no_harm_to_count() -> None:
    assert harm_of(judging(), 3.0) is None
    rollout = judging(plan=BY_HAND)
    assert harm_of(rollout, 3.0) is None
    assert next_move(rollout, Facts(now=3.0)) is None


def test_a_share_as_budget_is_one_of_the_requests_until_the_deadline() -> None:
    plan = msgspec.structs.replace(BY_HAND, ramp=Ramp(share=0.001), deadline_s=1_000.0)
    rollout = step(judging(plan=plan), now=6.0, candidate_ready=2, workers_phase=1,
                   observed_until=6.0, **units(50, 1, 3.0, 0.01, 0.0))  # fmt: skip
    harm = harm_of(rollout, 6.0, 6.0)
    assert harm is not None
    assert harm.budget == pytest.approx(0.001 * harm.requests_per_s * 1_000.0)
    assert harm.requests_per_s == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(
    ("steps", "ramp"),
    [((), Ramp(requests=1.0)), ((Step(0.1),), Ramp()), ((Step(0.1),), Ramp(1.0, 0.1)),
     ((Step(0.1),), Ramp(float("inf"))), ((Step(0.1),), Ramp(float("nan"))),
     ((Step(0.1),), Ramp(share=1.5))],
)  # fmt: skip
def test_a_ramp_that_makes_no_sense_is_refused(steps: tuple[Step, ...], ramp: Ramp) -> None:
    with pytest.raises(InvalidInput, match="ramp"):
        Plan(steps=steps, ramp=ramp)


def test_the_forecast_of_a_ramp_is_near_what_a_simulation_takes() -> None:
    """From its first traffic to the promotion of an equal release."""
    said = forecast(msgspec.structs.replace(RAMP, feedback=None), 20.0)
    assert said.problems == ()
    took = []
    for seed in range(8):
        ended, _ = run(seed, FAILS)
        took.append(ended.history[-1].at - (ended.traffic_since or 0.0))
    assert said.seconds is not None
    assert median(took) / 2.5 < said.seconds < 2.5 * median(took)


def test_a_start_that_costs_the_budget_before_anything_is_known_does_not_fit() -> None:
    (problem,) = forecast(msgspec.structs.replace(RAMP, ramp=Ramp(requests=1.0)), 50.0).problems
    assert "lower rollout.ramp.start to 0.282%" in problem
    small = forecast(msgspec.structs.replace(RAMP, ramp=Ramp(requests=5.0)), 20.0)
    assert small.problems == ()
    assert any("by chance alone" in note for note in small.notes)
