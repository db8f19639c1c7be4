"""Copies of requests before the first step: what lets a release go on, and what ends it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.invariants import validate
from fairlead.rollout.machine import Command, Facts, Rollout, advance, desired, new_rollout
from fairlead.rollout.model import ShadowCount
from fairlead.rollout.plan import Plan, ShadowRule, Step
from fairlead.rollout.states import State

PLAN = Plan(
    steps=(Step(0.1, 2, 10.0),),
    settle_s=1.0,
    deadline_s=100.0,
    shadow=ShadowRule(0.25, requests=20, seconds=10.0, failures_at_most=0.1),
)


def begin(**changes: Any) -> Rollout:
    given: dict[str, Any] = {
        "id": "ro-1", "service": "bank", "release": "sha256:b", "name": "b",
        "champion": "sha256:a", "plan": PLAN, "gates": 0, "now": 0.0, **changes,
    }  # fmt: skip
    return new_rollout(**given)


def step(rollout: Rollout, now: float, copies: int = 0, failed: int = 0, **facts: Any) -> Rollout:
    given = Facts(
        now=now, gate_verdicts=(), candidate_ready=1, shadowed=ShadowCount(copies, failed), **facts
    )
    after = advance(rollout, given)
    validate(after)
    assert advance(after, msgspec.structs.replace(given, command=None)) == after
    assert msgspec.json.decode(msgspec.json.encode(after), type=Rollout) == after
    return after


def shadowing(**changes: Any) -> Rollout:
    return step(begin(**changes), 1.0)


def test_a_release_with_a_shadow_gets_copies_and_no_traffic_first() -> None:
    rollout = shadowing()
    want = desired(rollout)
    assert rollout.state is State.SHADOWING
    assert (want.shadow, want.shadow_share) == ("sha256:b", 0.25)
    assert (want.canary, want.share, want.champion) == (None, 0.0, "sha256:a")
    assert want.candidate_replicas == 1
    assert rollout.phase == 0


def test_it_goes_on_when_enough_copies_came_and_enough_time_has_passed() -> None:
    assert step(shadowing(), 12.0, copies=19).state is State.SHADOWING
    assert step(shadowing(), 10.0, copies=20).state is State.SHADOWING
    after = step(shadowing(), 11.0, copies=20, failed=2)
    assert after.state is State.SHIFTING
    assert desired(after).shadow is None
    assert after.shadowed == ShadowCount(20, 2)


def test_too_many_failed_copies_end_it_as_soon_as_no_more_can_mend_it() -> None:
    assert step(shadowing(), 2.0, copies=2, failed=2).state is State.SHADOWING
    after = step(shadowing(), 3.0, copies=3, failed=3)
    assert after.state is State.FAILED
    assert after.reason == (
        "shadow: 3 of 3 copies failed where the live request did not; at most 10.0% may"
    )
    assert desired(after).champion == "sha256:a"


def test_without_enough_copies_by_the_deadline_it_ends_as_inconclusive() -> None:
    assert step(shadowing(), 100.9, copies=3).state is State.SHADOWING
    after = step(shadowing(), 101.0, copies=3)
    assert after.state is State.FAILED
    assert "inconclusive: 3 of 20 copies" in after.reason


def test_a_pause_holds_it_and_its_deadline_but_not_its_failures() -> None:
    held = step(shadowing(), 50.0, command=Command.PAUSE)
    assert step(held, 90.0, copies=50).state is State.SHADOWING
    assert step(held, 90.0, copies=50, failed=50).state is State.FAILED
    resumed = step(held, 150.0, copies=3, command=Command.RESUME)
    assert step(resumed, 200.0, copies=3).state is State.SHADOWING
    assert step(resumed, 201.0, copies=3).state is State.FAILED


def test_it_can_be_promoted_and_aborted_by_hand() -> None:
    assert step(shadowing(), 2.0, command=Command.PROMOTE).state is State.SWITCHING
    assert step(shadowing(), 2.0, command=Command.ABORT).state is State.ABORTED


def test_replicas_that_fail_end_it() -> None:
    after = step(shadowing(), 2.0, candidate_failed="no memory")
    assert (after.state, after.reason) == (State.FAILED, "its replicas fail: no memory")


def test_a_first_release_has_nobody_whose_requests_could_be_copied() -> None:
    assert step(begin(champion=None), 1.0).state is State.SWITCHING


def test_a_plan_without_steps_is_promoted_after_its_shadow() -> None:
    plan = msgspec.structs.replace(PLAN, steps=())
    assert step(shadowing(plan=plan), 11.0, copies=20).state is State.SWITCHING


@pytest.mark.parametrize(
    "rule",
    [
        ShadowRule(0.0),
        ShadowRule(1.1),
        ShadowRule(0.5, requests=0),
        ShadowRule(0.5, seconds=100.0),
        ShadowRule(0.5, failures_at_most=-0.1),
    ],
)
def test_a_shadow_that_makes_no_sense_is_refused(rule: ShadowRule) -> None:
    with pytest.raises(InvalidInput, match="shadow"):
        msgspec.structs.replace(PLAN, shadow=rule)
