"""A drill ends with the champion, whatever is found; what it may harm is bounded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.domain.errors import Conflict, FairleadError, InvalidInput
from fairlead.domain.fault import Fault
from fairlead.rollout.declared import DeclaredMetric, FeedbackRule
from fairlead.rollout.drill import Drill, Met, Result, drill_plan, measures, result_of
from fairlead.rollout.endings import Ending
from fairlead.rollout.machine import Command, Rollout, new_rollout
from fairlead.rollout.moves import go
from fairlead.rollout.pairs import PairsSeen
from fairlead.rollout.states import State
from rollout.stepping import PLAN, seen, step

A = "sha256:" + "a" * 64
DRILL = Drill(A, Fault("error"), harm=20)


def begin(*, shadow: bool = False, **changes: Any) -> Rollout:
    rollout: dict[str, Any] = {
        "id": "dr-1", "service": "bank", "release": DRILL.release, "name": DRILL.name,
        "champion": A, "plan": drill_plan(PLAN, 0.5, shadow=shadow), "gates": 0, "now": 0.0,
        "drill": DRILL, **changes,
    }  # fmt: skip
    return new_rollout(**rollout)


def judging(**changes: Any) -> Rollout:
    rollout = step(begin(**changes), now=1.0, candidate_ready=1)
    return step(rollout, now=2.0, candidate_ready=1, workers_phase=1)


def test_a_bad_release_is_caught_and_the_champion_serves() -> None:
    after = step(judging(), now=9.0, candidate_ready=1, **seen(40, 1, 3.0, 0.5, failing=1.0))
    assert (after.state, after.ending) == (State.ROLLING_BACK, Ending.WORSE)
    assert result_of(after) is Result.CAUGHT
    ended = step(after, now=10.0, workers_phase=2)
    assert ended.state is State.ROLLED_BACK


def test_what_would_promote_another_release_ends_a_drill_as_missed() -> None:
    after = step(judging(), now=9.0, candidate_ready=1, **seen(2_000, 1, 3.0, 0.5))
    assert (after.state, after.ending) == (State.ROLLING_BACK, Ending.DRILL_MISSED)
    assert result_of(after) is Result.MISSED
    assert step(after, now=10.0, workers_phase=2).state is State.ROLLED_BACK


def test_it_cannot_be_promoted_by_hand() -> None:
    with pytest.raises(Conflict, match="bad on purpose"):
        step(judging(), now=3.0, command=Command.PROMOTE)


def test_no_way_leads_to_promotion() -> None:
    with pytest.raises(FairleadError, match="is a drill and cannot go"):
        go(judging(), State.PROMOTING, 3.0, "by mistake")


def test_without_a_champion_there_is_nothing_to_drill() -> None:
    after = step(begin(champion=None), now=1.0, candidate_ready=1)
    assert (after.state, after.ending) == (State.FAILED, Ending.DRILL_MISSED)


def test_a_spent_harm_budget_ends_it_once_all_that_it_says_is_known() -> None:
    met = Met(20, 7, 3.0)
    before = step(judging(), now=4.0, candidate_ready=1, met=met)
    assert before.state is State.JUDGING, "the last answers are not settled yet"
    after = step(before, now=9.0, candidate_ready=1, met=met, **seen(3, 1, 3.0, 0.5))
    assert (after.state, after.ending) == (State.ROLLING_BACK, Ending.DRILL_SPENT)
    assert "20 requests of 7 users have met it" in after.reason
    assert result_of(after) is Result.MISSED


def test_a_verdict_goes_before_a_spent_budget() -> None:
    after = step(
        judging(), now=9.0, candidate_ready=1, met=Met(40, 40, 3.0),
        **seen(40, 1, 3.0, 0.5, failing=1.0),
    )  # fmt: skip
    assert result_of(after) is Result.CAUGHT


def test_without_traffic_it_is_missed_by_its_deadline() -> None:
    after = step(judging(), now=2_000.0, candidate_ready=1)
    assert after.ending is Ending.NO_TRAFFIC
    assert result_of(after) is Result.MISSED


def test_in_shadow_it_is_caught_or_missed_and_no_client_meets_it() -> None:
    shadowing = step(begin(shadow=True), now=1.0, candidate_ready=1)
    assert shadowing.state is State.SHADOWING
    good = PairsSeen(copies=500, units=500)
    missed = step(shadowing, now=9.0, candidate_ready=1, shadowed=good)
    assert (missed.state, missed.ending) == (State.FAILED, Ending.DRILL_MISSED)
    bad = PairsSeen(copies=50, failed=50, log_e_max=20.0)
    caught = step(shadowing, now=9.0, candidate_ready=1, shadowed=bad)
    assert (caught.ending, result_of(caught)) == (Ending.SHADOW_FAILED, Result.CAUGHT)
    assert caught.phase == 0


def test_ended_by_hand_it_says_nothing() -> None:
    after = step(judging(), now=3.0, command=Command.ABORT, superseded=True)
    assert result_of(after) is Result.ENDED


def test_the_plan_keeps_what_is_judged_and_leaves_out_what_would_hold_it_up() -> None:
    plan = msgspec.structs.replace(
        PLAN, warm_s=10.0, holdback=0.1, approve_promotion=True, finish_s=5.0
    )
    drilled = drill_plan(plan, 0.05, shadow=False)
    assert (drilled.alpha, drilled.margin, drilled.metrics) == (plan.alpha, plan.margin, ())
    assert (drilled.warm_s, drilled.finish_s, drilled.approve_promotion) == (0.0, 0.0, False)
    assert [s.share for s in drilled.steps] == [0.05]
    for share in (0.0, 0.51, float("nan")):
        with pytest.raises(InvalidInput, match="share"):
            drill_plan(PLAN, share, shadow=False)


@pytest.mark.parametrize("bad", [{"rate": 0.0}, {"rate": float("nan")}, {"delay_ms": 0.0}])
def test_a_fault_makes_sense(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=r"fault\."):
        Fault("slow", **bad)


def test_each_fault_is_another_release() -> None:
    faults = [Fault("slow"), Fault("slow", 0.5), Fault("slow", 1.0, 9.0), Fault("wrong")]
    assert len({fault.digest_of(A) for fault in faults} | {A}) == 5


@pytest.mark.parametrize(
    ("kind", "source", "sees"),
    [
        ("error", None, True), ("slow", None, False), ("slow", "ttft_ms", True),
        ("refusal", "refusal", True), ("refusal", "ttft_ms", False), ("format", "json", True),
        ("wrong", "refusal", False), ("toxic", None, False),
    ],
)  # fmt: skip
def test_what_the_plan_measures_of_a_fault(kind: Any, source: str | None, sees: bool) -> None:
    metrics = () if source is None else (DeclaredMetric("m", source, margin=0.1),)
    plan = msgspec.structs.replace(PLAN, metrics=metrics)
    assert measures(plan, Fault(kind), shadow=False) is sees
    heard = msgspec.structs.replace(plan, feedback=FeedbackRule("good"))
    assert measures(heard, Fault(kind), shadow=False) is (sees or kind != "slow")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 60), st.floats(0, 1), st.integers(0, 30), st.booleans(), st.booleans()
        ),
        max_size=8,
    )
)
def test_whatever_happens_the_champion_has_the_traffic_at_the_end(turns: list[Any]) -> None:
    """`step` checks each time that no drill is promoted."""
    rollout, at = judging(), 3.0
    for units, failing, met, pauses, confirms in turns:
        if not rollout.history or rollout.state in (State.ROLLED_BACK, State.FAILED):
            break
        phase, at = rollout.phase, at + 60.0
        facts = seen(units, phase, at, 0.5, failing) if phase == 1 else {}
        command = Command.PAUSE if pauses and rollout.state is State.JUDGING else None
        rollout = step(
            rollout, now=at + 5, candidate_ready=1, met=Met(met, met, at), command=command,
            workers_phase=phase if confirms else None, **facts,
        )  # fmt: skip
    done = step(rollout, now=at + 1e6, candidate_ready=1, workers_phase=rollout.phase)
    assert done.champion == A
    assert done.state in (State.ROLLED_BACK, State.ROLLING_BACK) or done.paused
