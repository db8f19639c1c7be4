"""Copies of requests before the first step: what lets a release go on, and what ends it."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.endings import Ending
from fairlead.rollout.invariants import validate
from fairlead.rollout.machine import Command, Facts, Rollout, advance, desired, new_rollout
from fairlead.rollout.pairs import Half, Pair, PairsSeen, observe_pairs
from fairlead.rollout.plan import Plan, ShadowRule, Step
from fairlead.rollout.states import State

PLAN = Plan(
    steps=(Step(0.1, 2, 10.0),),
    settle_s=1.0,
    deadline_s=100.0,
    shadow=ShadowRule(0.25, requests=20, seconds=10.0, timeout_s=5.0),
)
WELL = Half(200, "", 1, 50.0)
FAILED = Half(502, "upstream_error", 1, 50.0)


def seen(*, both_well: int = 0, copy_failed: int = 0, live_failed: int = 0) -> PairsSeen:
    sides = (
        [(WELL, WELL)] * both_well + [(WELL, FAILED)] * copy_failed + [(FAILED, WELL)] * live_failed
    )
    pairs = [
        Pair(f"q{k}.shadow", float(k), *both, f"u{k}") for k, both in enumerate(sides, start=1)
    ]
    return observe_pairs(PairsSeen(), PLAN, pairs)


def begin(**changes: Any) -> Rollout:
    given: dict[str, Any] = {
        "id": "ro-1", "service": "bank", "release": "sha256:b", "name": "b",
        "champion": "sha256:a", "plan": PLAN, "gates": 0, "now": 0.0, **changes,
    }  # fmt: skip
    return new_rollout(**given)


def step(rollout: Rollout, now: float, shadowed: PairsSeen | None = None, **facts: Any) -> Rollout:
    given = Facts(now=now, gate_verdicts=(), candidate_ready=1, shadowed=shadowed, **facts)
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
    assert (want.shadow, want.shadow_share, want.shadow_timeout_s) == ("sha256:b", 0.25, 5.0)
    assert (want.canary, want.share, want.champion) == (None, 0.0, "sha256:a")
    assert want.candidate_replicas == 1
    assert rollout.phase == 0


def test_it_goes_on_when_enough_pairs_in_enough_time_are_no_evidence_of_harm() -> None:
    assert step(shadowing(), 12.0, seen(both_well=19)).state is State.SHADOWING
    assert step(shadowing(), 10.0, seen(both_well=20)).state is State.SHADOWING
    found = seen(both_well=18, copy_failed=1, live_failed=1)
    after = step(shadowing(), 11.0, found)
    assert after.state is State.SHIFTING
    assert desired(after).shadow is None
    assert after.shadowed == found


def test_it_goes_on_at_once_when_it_is_shown_not_to_be_worse_by_the_margin() -> None:
    some, enough = seen(both_well=50), seen(both_well=200)
    assert not some.is_not_worse(PLAN)
    assert enough.is_not_worse(PLAN)
    assert step(shadowing(), 2.0, some).state is State.SHADOWING
    assert step(shadowing(), 2.0, enough).state is State.SHIFTING


def test_evidence_of_harm_ends_it_with_the_numbers_in_the_reason() -> None:
    assert step(shadowing(), 2.0, seen(copy_failed=11)).state is State.SHADOWING
    after = step(shadowing(), 3.0, seen(both_well=30, live_failed=1, copy_failed=14))
    assert (after.state, after.ending) == (State.FAILED, Ending.SHADOW_FAILED)
    assert after.reason.startswith(
        "shadow: worse on pairs: of 45 copies with their live requests the copy alone failed in "
        "14, the live request alone in 1; the evidence that it is worse reached "
    )
    assert after.reason.endswith(" 200 end it")
    assert desired(after).champion == "sha256:a"


def test_some_evidence_of_harm_keeps_it_from_going_on_and_is_inconclusive_in_the_end() -> None:
    suspect = seen(both_well=30, copy_failed=10)
    assert suspect.is_suspect(PLAN)
    assert not suspect.is_worse(PLAN)
    assert step(shadowing(), 50.0, suspect).state is State.SHADOWING
    after = step(shadowing(), 101.0, suspect)
    assert (after.state, after.ending) == (State.FAILED, Ending.INCONCLUSIVE)
    assert "some evidence that it is worse" in after.reason


def test_without_enough_copies_by_the_deadline_it_ends_as_inconclusive() -> None:
    assert step(shadowing(), 100.9, seen(both_well=3)).state is State.SHADOWING
    after = step(shadowing(), 101.0, seen(both_well=3))
    assert (after.state, after.ending) == (State.FAILED, Ending.INCONCLUSIVE)
    assert after.reason == (
        "shadow: inconclusive after 100 s: it lacked copies of 20 sessions, users or keys; "
        "3 copies, of 3 of them, have an outcome"
    )
    assert step(shadowing(), 101.0, PairsSeen()).ending is Ending.NO_TRAFFIC


def test_a_pause_holds_it_and_its_deadline_but_not_its_failures() -> None:
    held = step(shadowing(), 50.0, command=Command.PAUSE)
    assert step(held, 90.0, seen(both_well=50)).state is State.SHADOWING
    assert step(held, 90.0, seen(copy_failed=50)).state is State.FAILED
    resumed = step(held, 150.0, seen(both_well=3), command=Command.RESUME)
    assert step(resumed, 200.0).state is State.SHADOWING
    assert step(resumed, 201.0).state is State.FAILED


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
    assert step(shadowing(plan=plan), 11.0, seen(both_well=20)).state is State.SWITCHING


@pytest.mark.parametrize(
    "rule",
    [
        ShadowRule(0.0),
        ShadowRule(1.1),
        ShadowRule(0.5, requests=0),
        ShadowRule(0.5, seconds=100.0),
        ShadowRule(0.5, timeout_s=0.0),
        ShadowRule(0.5, timeout_s=float("nan")),
    ],
)
def test_a_shadow_that_makes_no_sense_is_refused(rule: ShadowRule) -> None:
    with pytest.raises(InvalidInput, match="shadow"):
        msgspec.structs.replace(PLAN, shadow=rule)


def test_what_an_earlier_build_kept_of_a_shadow_still_loads() -> None:
    """Its plan had a share of failures, and its count neither a cursor nor evidence."""
    kept = msgspec.to_builtins(shadowing())
    kept["plan"]["shadow"] = {"share": 0.25, "requests": 20, "failures_at_most": 0.05}
    kept["shadowed"] = {"copies": 7, "failed": 2}
    rollout = msgspec.convert(kept, Rollout)
    assert rollout.shadowed.copies == 7
    again = observe_pairs(rollout.shadowed, PLAN, [Pair("q1.shadow", 1.0, WELL, WELL, "u1")])
    assert (again.copies, again.failed) == (1, 0), "counted anew from the first pair"


def test_copies_from_few_units_are_not_enough_however_many_they_are() -> None:
    pairs = [Pair(f"q{k:03}.shadow", k / 100, WELL, WELL, f"u{k % 3}") for k in range(1, 100)]
    found = observe_pairs(PairsSeen(), PLAN, pairs)
    assert (found.copies, found.units) == (99, 3)
    assert step(shadowing(), 50.0, found).state is State.SHADOWING


def test_the_shadow_and_the_judge_share_alpha() -> None:
    """Either can end a release that is not worse."""
    assert PLAN.shadow_alpha + PLAN.judge_alpha == PLAN.alpha
    without = msgspec.structs.replace(PLAN, shadow=None)
    assert without.judge_alpha == PLAN.alpha
    found = seen(both_well=1, copy_failed=12)
    assert 100 < math.exp(found.log_e_max) < 200
    assert not found.is_worse(PLAN)
