"""A drill ends with the champion, whatever is found; what it may harm is bounded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.domain.errors import Conflict, FairleadError, InvalidInput
from fairlead.domain.fault import KINDS, Fault
from fairlead.rollout.declared import DeclaredMetric, FeedbackRule
from fairlead.rollout.drill import (
    SEEN_BY,
    Drill,
    Met,
    Result,
    advice_of,
    drill_plan,
    measures,
    result_of,
)
from fairlead.rollout.endings import ADVICE, Ending
from fairlead.rollout.machine import Command, Facts, Rollout, new_rollout
from fairlead.rollout.moves import go
from fairlead.rollout.pairs import Half, Pair, PairsSeen, observe_pairs
from fairlead.rollout.plan import ShadowRule
from fairlead.rollout.safeguards import end_without_verdict
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
    assert "20 requests of 7 users met it" in after.reason
    assert result_of(after) is Result.MISSED


def test_a_verdict_goes_before_a_spent_budget() -> None:
    after = step(
        judging(), now=9.0, candidate_ready=1, met=Met(40, 40, 3.0),
        **seen(40, 1, 3.0, 0.5, failing=1.0),
    )  # fmt: skip
    assert result_of(after) is Result.CAUGHT


def test_without_traffic_nothing_was_tested_and_it_is_no_miss() -> None:
    after = step(judging(), now=2_000.0, candidate_ready=1)
    assert after.ending is Ending.NO_TRAFFIC
    assert result_of(after) is Result.ENDED
    assert advice_of(after).startswith("it says nothing, since nobody has met it")
    shadowing = step(begin(shadow=True), now=1.0, candidate_ready=1)
    quiet = step(shadowing, now=2_000.0, candidate_ready=1)
    assert (quiet.ending, result_of(quiet)) == (Ending.NO_TRAFFIC, Result.ENDED)


def test_traffic_of_which_nobody_met_it_tested_nothing_either() -> None:
    """Five units of the champion, and none of the canary; with one it is missed."""
    few = seen(5, 1, 3.0, 0.5)
    alone = {**few, "observations": tuple(r for r in few["observations"] if not r.canary)}
    after = step(judging(), now=2_000.0, candidate_ready=1, **alone)
    assert after.ending is Ending.INCONCLUSIVE
    assert result_of(after) is Result.ENDED
    assert "nobody has met it" in advice_of(after)
    met = step(judging(), now=2_000.0, candidate_ready=1, met=Met(1, 1, 3.0), **alone)
    assert (met.ending, result_of(met)) == (Ending.INCONCLUSIVE, Result.MISSED)
    assert advice_of(met).startswith("nothing was noticed in time")


@pytest.mark.parametrize("ending", [Ending.JUDGE_BUDGET, Ending.JUDGE_UNREACHABLE])
def test_a_judge_model_that_is_not_asked_is_no_miss(ending: Ending) -> None:
    after = end_without_verdict(judging(), Facts(now=9.0), "no more", ending)
    assert result_of(after) is Result.ENDED
    assert advice_of(after).startswith("it says nothing, since the judge model")


@pytest.mark.parametrize("ending", list(Ending))
def test_nobody_is_told_to_ship_a_drill_again(ending: Ending) -> None:
    """Of one that was caught there is nothing to do; of a rollout there mostly is."""
    drilled = msgspec.structs.replace(judging(), ending=ending)
    advice = advice_of(drilled)
    assert "ship" not in advice
    assert bool(advice) or result_of(drilled) is not Result.MISSED
    assert not (advice and result_of(drilled) is Result.CAUGHT)
    real = msgspec.structs.replace(drilled, drill=None)
    assert advice_of(real) == ADVICE[ending].replace("ID", "dr-1")


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
        ("wrong", "refusal", False), ("toxic", None, False), ("toxic", "guardrail_hits", True),
        ("wrong", "guardrail_hits", True), ("refusal", "json", True), ("slow", "json", False),
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


@pytest.mark.parametrize("source", [None, "refusal", "format", "json", "ttft_ms", "guardrail_hits"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_shadow_a_drill_measures_what_pairs_are_judged_by(kind: Any, source: str | None) -> None:
    """Errors at any time, and by a metric no more than what copies are held against."""
    metrics = () if source is None else (DeclaredMetric("m", source, margin=0.1),)
    plan = msgspec.structs.replace(PLAN, metrics=metrics, feedback=FeedbackRule("good"))
    bad = {
        "error": Half(502, "upstream_error", 1, 10.0),
        "refusal": Half(200, "", 1, 10.0, refused=1, malformed=1),
        "format": Half(200, "", 1, 10.0, refused=0, malformed=1),
        "toxic": Half(200, "", 1, 10.0, refused=0, malformed=1),
    }.get(kind, Half(200, "", 1, 2_010.0, refused=0, malformed=0))
    if "guardrail_hits" in SEEN_BY[kind]:
        bad = msgspec.structs.replace(bad, guardrail_hits=1)
    good = Half(200, "", 1, 10.0, refused=0, malformed=0, guardrail_hits=0)
    shadowed = drill_plan(plan, 1.0, shadow=True)
    pairs = [Pair(f"{n:03}", n / 10, good, bad, f"u{n}") for n in range(100)]
    judged = observe_pairs(PairsSeen(), shadowed, pairs)
    assert measures(plan, Fault(kind), shadow=True) is judged.is_worse(shadowed)


def test_in_shadow_slowness_shows_where_it_is_longer_than_a_copy_may_take() -> None:
    assert not measures(PLAN, Fault("slow", delay_ms=29_000.0), shadow=True)
    assert measures(PLAN, Fault("slow", delay_ms=30_000.0), shadow=True)
    quick = msgspec.structs.replace(PLAN, shadow=ShadowRule(0.1, 50, timeout_s=1.0))
    assert measures(quick, Fault("slow"), shadow=True)
