"""After all traffic has moved: the old release stays warm, and the judge may still take it back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.endings import Ending
from fairlead.rollout.judge import Observation
from fairlead.rollout.machine import Command, Rollout, desired, outcome
from fairlead.rollout.plan import Plan, Strategy
from fairlead.rollout.states import State
from rollout.stepping import PASS, PLAN, begin, judging, step

WARM = msgspec.structs.replace(PLAN, warm_s=100.0, holdback=0.1)
BLUE_GREEN = msgspec.structs.replace(
    PLAN, steps=(), strategy=Strategy.BLUE_GREEN, warm_s=100.0, holdback=0.0
)


def watching(plan: Plan = WARM) -> Rollout:
    """All replicas ready, all workers on the new split since second 5."""
    if plan.steps:
        rollout = step(judging(plan=plan), now=3.0, candidate_ready=3, workers_phase=1,
                       command=Command.PROMOTE)  # fmt: skip
    else:
        rollout = step(begin(plan=plan), now=1.0, gate_verdicts=(PASS,), candidate_ready=3)
    assert rollout.state is State.SWITCHING
    rollout = step(rollout, now=5.0, candidate_ready=3, workers_phase=rollout.phase)
    assert rollout.state is State.WATCHING
    return rollout


def units(count: int, phase: int, failing: float) -> dict[str, Any]:
    """As many units as they would come at a holdback of 10 %: nine canary units to one."""
    made = tuple(
        Observation(f"q{i:05}", f"u{i}", i % 10 > 0, 0.9, phase,
                    i % 10 > 0 and i % 100 < 100 * failing, 6.0)
        for i in range(count)
    )  # fmt: skip
    return {"observations": made, "watermark": 10.0}


@pytest.mark.parametrize("by_hand", [False, True])
def test_units_held_back_without_a_canary_before_are_a_comparison(by_hand: bool) -> None:
    """Its evidence is shown, and it has traffic since the move."""
    plan = msgspec.structs.replace(WARM, steps=WARM.steps if by_hand else ())
    if by_hand:
        rollout = step(begin(plan=plan), now=1.0, gate_verdicts=(PASS,), candidate_ready=1)
        rollout = step(rollout, now=2.0, candidate_ready=3, command=Command.PROMOTE)
    else:
        rollout = step(begin(plan=plan), now=2.0, gate_verdicts=(PASS,), candidate_ready=3)
    assert (rollout.state, rollout.traffic_since) == (State.SWITCHING, 2.0)
    rollout = step(rollout, now=5.0, candidate_ready=3, workers_phase=1)
    assert rollout.state is State.WATCHING
    rollout = step(rollout, now=11.0, candidate_ready=3, workers_phase=1, **units(100, 1, 0.0))
    assert rollout.verdict is not None
    first = rollout.verdict.numbers
    assert rollout.judge.units == 100
    more = units(200, 1, 0.0)
    rollout = step(rollout, now=12.0, candidate_ready=3, workers_phase=1,
                   observations=more["observations"], watermark=11.0)  # fmt: skip
    assert rollout.state is State.WATCHING
    assert rollout.verdict is not None
    assert rollout.judge.units == 200
    assert rollout.verdict.numbers != first


def test_the_old_release_stays_warm_with_some_units_to_compare_with() -> None:
    rollout = watching()
    want = desired(rollout)
    assert (want.share, want.canary, want.champion) == (0.9, "sha256:b", "sha256:a")
    assert want.candidate_replicas == 3
    rollout = step(rollout, now=104.9, candidate_ready=3, workers_phase=2)
    assert rollout.state is State.WATCHING
    rollout = step(rollout, now=105.0, candidate_ready=3, workers_phase=2)
    assert rollout.state is State.SWITCHING
    want = desired(rollout)
    assert (want.canary, want.champion, want.phase) == (None, "sha256:b", 3)
    rollout = step(rollout, now=106.0, candidate_ready=3, workers_phase=3)
    assert (outcome(rollout), rollout.reason) == ("promoted", "promoted by hand")


def test_the_same_judge_takes_it_back_in_one_change_of_the_split() -> None:
    rollout = step(watching(), now=20.0, candidate_ready=3, workers_phase=2, **units(600, 2, 0.7))
    assert (rollout.state, rollout.ending) == (State.ROLLING_BACK, Ending.WORSE)
    want = desired(rollout)
    assert (want.share, want.canary, want.champion) == (0.0, None, "sha256:a")
    assert rollout.verdict is not None
    assert rollout.reason == rollout.verdict.reason


def test_an_equal_release_is_not_taken_back() -> None:
    rollout = step(watching(), now=20.0, candidate_ready=3, workers_phase=2, **units(2_000, 2, 0.0))
    assert rollout.state is State.WATCHING
    assert rollout.judge.units == 2_000


def test_all_at_once_with_the_old_release_warm() -> None:
    """Blue-green: all replicas first, then all traffic, and one change of the split back."""
    rollout = watching(BLUE_GREEN)
    want = desired(rollout)
    assert (want.share, want.canary, want.champion) == (0.0, None, "sha256:b")
    back = step(rollout, now=30.0, candidate_ready=3, workers_phase=1, command=Command.ABORT)
    assert back.state is State.ROLLING_BACK
    assert desired(back).champion == "sha256:a"
    lost = step(rollout, now=30.0, candidate_failed="out of memory", workers_phase=1)
    assert (lost.state, lost.ending) == (State.ROLLING_BACK, Ending.REPLICAS_FAILED)
    done = step(rollout, now=105.0, candidate_ready=3, workers_phase=1)
    assert outcome(done) == "promoted"


def test_the_watch_can_be_ended_and_held_by_hand() -> None:
    early = step(watching(), now=10.0, candidate_ready=3, workers_phase=2, command=Command.PROMOTE)
    assert (early.state, desired(early).champion) == (State.SWITCHING, "sha256:b")
    held = step(watching(), now=10.0, candidate_ready=3, workers_phase=2, command=Command.PAUSE)
    assert step(held, now=900.0, candidate_ready=3, workers_phase=2).state is State.WATCHING


def test_a_first_release_has_nothing_to_keep_warm() -> None:
    rollout = step(begin(plan=WARM, champion=None), now=1.0, gate_verdicts=(PASS,),
                   candidate_ready=3)  # fmt: skip
    assert outcome(step(rollout, now=2.0, candidate_ready=3, workers_phase=1)) == "promoted"


def test_a_holdback_needs_a_time() -> None:
    with pytest.raises(InvalidInput, match="without warm_s"):
        msgspec.structs.replace(PLAN, holdback=0.1)
