"""Checkpoints, freezes and queues: what holds a rollout, and how each hold ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import Conflict
from fairlead.domain.verdicts import RolloutOutcome, RolloutVerdict
from fairlead.rollout.checkpoints import HookOutcome, HookReport
from fairlead.rollout.endings import ADVICE, Ending
from fairlead.rollout.machine import (
    Command,
    Facts,
    Rollout,
    advance,
    awaits_approval,
    desired,
    outcome,
    take_turn,
)
from fairlead.rollout.plan import Hook, Point, Step
from fairlead.rollout.remaining import time_left_s
from fairlead.rollout.states import State
from rollout.stepping import PASS, PLAN, begin, judging, last_step, seen, shifting, step

HOOKED = msgspec.structs.replace(PLAN, hooks=(Hook("http://127.0.0.1:9/hook"),), approval_s=100.0)
APPROVED = msgspec.structs.replace(
    PLAN,
    steps=(Step(0.1, 2, 10.0), Step(0.5, 3, 5.0, approval=True)),
    approve_promotion=True,
    approval_s=100.0,
)


def told(point: str, said: HookOutcome = HookOutcome.PASSED, why: str = "") -> dict[str, Any]:
    """What the hooks at a point said."""
    return {"hooks": HookReport(point, said, why)}


def at_before() -> Rollout:
    """Replicas ready, and waiting for the hook before any traffic, since second 1."""
    return step(begin(plan=HOOKED), now=1.0, gate_verdicts=(PASS,), candidate_ready=2)


def at_second_step() -> Rollout:
    """Waiting for a person before the share of the second step, since second 12."""
    rollout = step(
        judging(plan=APPROVED), now=12.0, candidate_ready=2, workers_phase=1, **seen(2, 1, 3.0, 0.1)
    )
    assert awaits_approval(rollout)
    return rollout


def test_no_traffic_before_the_hook_has_answered() -> None:
    """It is called while the replicas are ready and nobody has met the release."""
    rollout = at_before()
    assert (rollout.state, desired(rollout).call_hooks) == (State.STARTING, "before")
    assert rollout.phase == 0
    other = step(rollout, now=2.0, candidate_ready=2, **told("step 1"))
    assert other == rollout, "what another point's hooks said says nothing of this one"
    rollout = step(rollout, now=2.0, candidate_ready=2, **told("before"))
    assert desired(rollout).call_hooks == "step 1"
    rollout = step(rollout, now=3.0, candidate_ready=2, **told("step 1"))
    assert (rollout.state, desired(rollout).call_hooks) == (State.SHIFTING, "")
    assert rollout.passed == ("before", "step 1")


def test_a_hook_is_called_only_at_its_points() -> None:
    plan = msgspec.structs.replace(PLAN, hooks=(Hook("http://h", (Point.PROMOTE, Point.AFTER)),))
    assert shifting(plan=plan).state is State.SHIFTING
    assert desired(judging(plan=plan)).call_hooks == ""


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        (HookOutcome.REFUSED, Ending.HOOK_REFUSED),
        (HookOutcome.UNREACHABLE, Ending.HOOK_UNREACHABLE),
    ],
)
def test_a_hook_that_does_not_agree_ends_it(said: HookOutcome, ending: Ending) -> None:
    """Before traffic as failed, later by rolling back; with its own words."""
    rollout = step(at_before(), now=2.0, candidate_ready=2, **told("before", said, "change 12"))
    assert (outcome(rollout), rollout.ending) == ("failed", ending)
    assert rollout.reason == "at before: change 12"
    later = step(at_before(), now=2.0, candidate_ready=2, **told("before"))
    later = step(later, now=2.0, candidate_ready=2, **told("step 1"))
    later = step(later, now=3.0, candidate_ready=2, workers_phase=1)
    later = step(later, now=14.0, candidate_ready=2, workers_phase=1, **seen(2, 1, 3.0, 0.1))
    assert desired(later).call_hooks == "step 2"
    assert desired(later).share == 0.1
    later = step(later, now=15.0, candidate_ready=2, workers_phase=1, **told("step 2", said, "no"))
    assert (later.state, later.ending) == (State.ROLLING_BACK, ending)


def test_a_hook_that_never_settles_ends_it() -> None:
    """Also if whoever calls it dies again and again."""
    rollout = step(at_before(), now=100.9, candidate_ready=2)
    assert rollout.state is State.STARTING
    rollout = step(rollout, now=101.1, candidate_ready=2)
    assert (outcome(rollout), rollout.ending) == ("failed", Ending.HOOK_UNREACHABLE)


def test_a_step_waits_for_a_person() -> None:
    """Its share stays that of the step before until then."""
    rollout = at_second_step()
    assert (rollout.state, desired(rollout).share) == (State.JUDGING, 0.1)
    assert desired(rollout).call_hooks == ""
    assert step(rollout, now=50.0, candidate_ready=2, workers_phase=1).state is State.JUDGING
    rollout = step(
        rollout, now=60.0, candidate_ready=2, workers_phase=1, command=Command.APPROVE, by="ann"
    )
    assert (rollout.state, desired(rollout).share) == (State.SHIFTING, 0.5)
    assert "step 2 approved by ann" in [t.why for t in rollout.history]
    assert rollout.paused_s == 48.0, "waiting for a person counts against no deadline"
    with pytest.raises(Conflict, match="waits for nobody"):
        advance(rollout, Facts(now=61.0, command=Command.APPROVE))


def test_what_nobody_approves_goes_back() -> None:
    rollout = step(at_second_step(), now=112.0, candidate_ready=2, workers_phase=1)
    assert (rollout.state, rollout.ending) == (State.ROLLING_BACK, Ending.NOT_APPROVED)
    assert rollout.reason == "at step 2: nobody approved it within 100 s"


def test_pauses_and_freezes_hold_the_wait_for_a_person() -> None:
    """What is approved in them is approved, and goes on when they end."""
    ready: dict[str, Any] = {"candidate_ready": 2, "workers_phase": 1}
    for held, freed in (({"frozen": "night"}, {}), ({"command": Command.PAUSE}, {
        "command": Command.RESUME})):  # fmt: skip
        still = {} if "command" in held else held
        rollout = step(at_second_step(), now=52.0, **held, **ready)
        rollout = step(rollout, now=500.0, **still, **ready)
        assert awaits_approval(rollout)
        assert time_left_s(rollout, 500.0) is None
        approved = step(rollout, now=501.0, command=Command.APPROVE, **still, **ready)
        approved = step(approved, now=900.0, **still, **ready)
        assert approved.state is State.JUDGING
        assert step(approved, now=901.0, **freed, **ready).state is State.SHIFTING
        waits = step(rollout, now=552.0, **freed, **ready)
        assert time_left_s(waits, 552.0) == 60.0
        assert step(waits, now=611.0, **ready).state is State.JUDGING
        assert step(waits, now=612.0, **ready).ending is Ending.NOT_APPROVED


def test_what_was_missing_at_a_checkpoint_is_named() -> None:
    plan = msgspec.structs.replace(APPROVED, hooks=(Hook("http://h", (Point.STEP,)),))
    rollout = step(begin(plan=plan), now=1.0, gate_verdicts=(PASS,), candidate_ready=2)
    rollout = step(rollout, now=1.0, candidate_ready=2, **told("step 1"))
    rollout = step(rollout, now=2.0, candidate_ready=2, workers_phase=1)
    ready: dict[str, Any] = {"candidate_ready": 2, "workers_phase": 1}
    rollout = step(rollout, now=12.0, **ready, **seen(2, 1, 3.0, 0.1))
    assert step(rollout, now=112.0, **ready).reason == (
        "at step 2: nobody approved it and its hooks have not answered within 100 s"
    )
    said = step(rollout, now=112.0, **ready, **told("step 2"))
    assert said.reason == "at step 2: nobody approved it within 100 s"
    approved = step(rollout, now=13.0, command=Command.APPROVE, **ready)
    assert approved.state is State.JUDGING
    late = step(approved, now=112.0, **ready)
    assert (late.reason, late.ending) == (
        "at step 2: its hooks have not answered within 100 s", Ending.HOOK_UNREACHABLE,
    )  # fmt: skip
    assert step(approved, now=112.0, **ready, **told("step 2")).state is State.SHIFTING


def test_without_the_evidence_nobody_is_asked_to_promote() -> None:
    """The deadline runs again, and ends it if the evidence does not come back."""
    rollout = step(
        at_second_step(), now=13.0, candidate_ready=2, workers_phase=1, command=Command.APPROVE
    )
    rollout = step(rollout, now=14.0, candidate_ready=2, workers_phase=2)
    ready: dict[str, Any] = {"candidate_ready": 2, "workers_phase": 2}
    rollout = step(rollout, now=30.0, **ready, **seen(300, 2, 15.0, 0.5))
    assert awaits_approval(rollout)
    assert rollout.verdict is not None
    fell = RolloutVerdict(RolloutOutcome.WAIT, "the evidence fell", rollout.verdict.numbers)
    fallen = step(msgspec.structs.replace(rollout, verdict=fell), now=60.0, **ready)
    assert (fallen.checkpoint, fallen.held_at) == (None, None)
    assert fallen.history[-1].why == "does not wait at promote any more: the evidence fell"
    with pytest.raises(Conflict, match="waits for nobody"):
        advance(fallen, Facts(now=61.0, command=Command.APPROVE))
    late = step(fallen, now=5_000.0, **ready)
    assert (late.state, late.ending) == (State.ROLLING_BACK, Ending.INCONCLUSIVE)
    unready = step(rollout, now=60.0, candidate_ready=1, workers_phase=2)
    assert unready.checkpoint is None
    assert awaits_approval(step(unready, now=61.0, **ready))


def test_evidence_to_roll_back_acts_while_a_person_is_waited_for() -> None:
    worse = step(
        at_second_step(), now=20.0, candidate_ready=2, workers_phase=1,
        **seen(80, 1, 13.0, 0.5, 1.0),
    )  # fmt: skip
    assert (worse.state, worse.ending) == (State.ROLLING_BACK, Ending.WORSE)


def test_the_promotion_waits_for_a_person() -> None:
    """The evidence is there; the traffic moves when somebody says so."""
    rollout = step(
        at_second_step(), now=13.0, candidate_ready=2, workers_phase=1, command=Command.APPROVE
    )
    rollout = step(rollout, now=14.0, candidate_ready=2, workers_phase=2)
    rollout = step(rollout, now=30.0, candidate_ready=2, workers_phase=2, **seen(300, 2, 15.0, 0.5))
    assert (rollout.state, desired(rollout).share) == (State.JUDGING, 0.5)
    assert awaits_approval(rollout)
    rollout = step(rollout, now=31.0, candidate_ready=2, workers_phase=2, command=Command.APPROVE)
    assert rollout.state is State.PROMOTING
    assert rollout.verdict is not None
    assert rollout.reason == rollout.verdict.reason


def test_a_freeze_holds_every_step_and_no_rollback() -> None:
    """Judging goes on in it; its time counts against no deadline."""
    rollout = step(begin(), now=1.0, gate_verdicts=(PASS,), candidate_ready=2, frozen="weekend")
    assert rollout.state is State.STARTING
    assert "frozen: weekend" in [t.why for t in rollout.history]
    rollout = step(rollout, now=500.0, candidate_ready=2)
    assert rollout.state is State.SHIFTING
    rollout = step(rollout, now=501.0, candidate_ready=2, workers_phase=1)
    held = step(rollout, now=520.0, candidate_ready=2, workers_phase=1, frozen="night",
                **seen(2, 1, 503.0, 0.1))  # fmt: skip
    assert (held.state, desired(held).share) == (State.JUDGING, 0.1)
    late = step(held, now=5_000.0, candidate_ready=2, workers_phase=1, frozen="night")
    assert late.state is State.JUDGING
    after = step(late, now=5_001.0, candidate_ready=2, workers_phase=1)
    assert (after.state, after.paused_s) == (State.SHIFTING, 4_481.0)
    worse = step(held, now=530.0, candidate_ready=2, workers_phase=1, frozen="night",
                 **seen(80, 1, 521.0, 0.5, 1.0))  # fmt: skip
    assert worse.state is State.ROLLING_BACK


def test_what_a_person_promotes_goes_through_a_freeze() -> None:
    rollout = step(judging(), now=3.0, candidate_ready=3, workers_phase=1, frozen="night",
                   command=Command.PROMOTE, by="ann")  # fmt: skip
    rollout = step(rollout, now=4.0, candidate_ready=3, workers_phase=1, frozen="night")
    assert rollout.state is State.SWITCHING


def test_a_pause_and_a_freeze_that_overlap_are_one_hold() -> None:
    """Its time is counted once, from the first beginning to the last end."""
    rollout = step(judging(), now=10.0, candidate_ready=2, workers_phase=1, command=Command.PAUSE)
    rollout = step(rollout, now=20.0, candidate_ready=2, workers_phase=1, frozen="night")
    rollout = step(rollout, now=30.0, candidate_ready=2, workers_phase=1, frozen="night",
                   command=Command.RESUME)  # fmt: skip
    assert (rollout.paused_s, rollout.held_at) == (0.0, 10.0)
    rollout = step(rollout, now=50.0, candidate_ready=2, workers_phase=1)
    assert (rollout.paused_s, rollout.held_at) == (40.0, None)


def test_a_queued_rollout_wants_nothing_until_its_turn() -> None:
    """Then it is compared with whoever is the champion by then."""
    queued = step(begin(queued=True), now=50.0, candidate_ready=2, gate_verdicts=(PASS,))
    assert queued.state is State.QUEUED
    assert desired(queued).candidate_replicas == 0
    assert not desired(queued).run_gates
    with pytest.raises(Conflict, match="has not begun"):
        advance(queued, Facts(now=51.0, command=Command.PROMOTE))
    begun = step(take_turn(queued, "sha256:c", 60.0), now=61.0)
    assert (begun.state, begun.champion) == (State.EVALUATING, "sha256:c")
    ended = take_turn(queued, "sha256:b", 60.0)
    assert (outcome(ended), ended.ending) == ("aborted", Ending.SUPERSEDED)
    ended = step(queued, now=51.0, command=Command.ABORT)
    assert (outcome(ended), ended.ending) == ("aborted", Ending.ABORTED)


def test_a_superseded_rollout_says_so() -> None:
    back = step(last_step(), now=20.0, candidate_ready=2, workers_phase=2, command=Command.ABORT,
                superseded=True, why="superseded by release c")  # fmt: skip
    assert (back.state, back.ending) == (State.ROLLING_BACK, Ending.SUPERSEDED)


def test_every_ending_has_its_advice() -> None:
    assert set(ADVICE) == set(Ending)
