"""No rollout waits for ever, and none is promoted for what did not come: each end has its name."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.endings import Ending
from fairlead.rollout.machine import Command, Rollout, desired, outcome
from fairlead.rollout.plan import FeedbackRule
from fairlead.rollout.states import State
from rollout.stepping import PASS, PLAN, begin, judging, last_step, seen, shifting, step

QUICK = msgspec.structs.replace(PLAN, ready_s=60.0, gates_s=200.0, gateway_s=30.0)


def ended(rollout: Rollout, now: float) -> tuple[str, Ending | None]:
    """The end of a rollout that is on its way to it."""
    if rollout.state is State.ROLLING_BACK:
        rollout = step(rollout, now=now, workers_phase=rollout.phase)
    return outcome(rollout), rollout.ending


def test_replicas_that_are_never_ready_end_it_in_every_state_that_needs_them() -> None:
    for gates in (0, 1):
        rollout = step(begin(plan=QUICK, gates=gates), now=0.0)
        rollout = step(rollout, now=59.0)
        assert outcome(rollout) == "running"
        rollout = step(rollout, now=60.0)
        assert ended(rollout, 61.0) == ("failed", Ending.REPLICAS_NEVER_READY)
    promoting = step(judging(plan=QUICK), now=5.0, candidate_ready=2, workers_phase=1,
                     command=Command.PROMOTE)  # fmt: skip
    rollout = step(promoting, now=65.0, candidate_ready=2, workers_phase=1)
    assert rollout.reason == "2 of 3 replicas were ready within 60 s"
    assert ended(rollout, 66.0) == ("rolled_back", Ending.REPLICAS_NEVER_READY)


def test_gates_without_a_verdict_end_it() -> None:
    rollout = step(begin(plan=QUICK), now=199.0, candidate_ready=2)
    assert outcome(rollout) == "running"
    rollout = step(rollout, now=200.0, candidate_ready=2)
    assert ended(rollout, 201.0) == ("failed", Ending.GATES_UNFINISHED)


def test_gates_that_have_begun_outlast_replicas_that_are_not_ready_for_a_moment() -> None:
    """As after a restart of control, when none is known yet."""
    rollout = step(begin(plan=QUICK), now=1.0, candidate_ready=1)
    rollout = step(rollout, now=150.0, candidate_ready=0)
    assert rollout.state is State.EVALUATING
    rollout = step(rollout, now=200.0, candidate_ready=0)
    assert ended(rollout, 201.0) == ("failed", Ending.GATES_UNFINISHED)


def test_a_pause_holds_these_deadlines_too() -> None:
    rollout = step(begin(plan=QUICK), now=10.0, command=Command.PAUSE)
    rollout = step(rollout, now=900.0)
    rollout = step(rollout, now=1_000.0, command=Command.RESUME)
    assert step(rollout, now=1_049.0).state is State.EVALUATING
    assert step(rollout, now=1_050.0).ending is Ending.REPLICAS_NEVER_READY


def test_a_gateway_that_does_not_answer_ends_it_wherever_it_is() -> None:
    """Also on the way back: the champion is then all that it is told of."""
    rollout = step(shifting(plan=QUICK), now=31.0, candidate_ready=2)
    assert ended(rollout, 32.0) == ("rolled_back", Ending.GATEWAY_UNREACHABLE)
    silent = step(rollout, now=60.9)
    assert silent.state is State.ROLLING_BACK
    silent = step(silent, now=61.0)
    assert (outcome(silent), silent.ending) == ("rolled_back", Ending.GATEWAY_UNREACHABLE)
    assert silent.reason.endswith("not all gateway workers have confirmed it")
    assert (desired(silent).champion, desired(silent).canary) == ("sha256:a", None)
    first = step(begin(plan=QUICK, champion=None), now=1.0, gate_verdicts=(PASS,),
                 candidate_ready=3)  # fmt: skip
    assert first.state is State.SWITCHING
    first = step(first, now=31.0, candidate_ready=3)
    assert ended(first, 32.0) == ("failed", Ending.GATEWAY_UNREACHABLE)
    assert desired(first).champion is None


def test_no_traffic_no_feedback_and_no_verdict_are_told_apart() -> None:
    late = {"now": 1_001.0, "candidate_ready": 2}
    rollout = step(judging(), workers_phase=1, **late)
    assert ended(rollout, 1_002.0) == ("rolled_back", Ending.NO_TRAFFIC)
    rollout = step(last_step(), workers_phase=2, **late, **seen(4, 2, 14.0, 0.5))
    assert ended(rollout, 1_002.0) == ("rolled_back", Ending.INCONCLUSIVE)
    plan = msgspec.structs.replace(PLAN, feedback=FeedbackRule("good", required=True))
    rollout = step(judging(plan=plan), workers_phase=1, **late, **seen(4, 1, 14.0, 0.1))
    assert ended(rollout, 1_002.0) == ("rolled_back", Ending.NO_FEEDBACK)


def test_a_metric_that_promotion_needs_and_most_units_lack_is_no_data() -> None:
    """One that is known, or only watched, is no reason."""
    late = {"now": 1_001.0, "candidate_ready": 2, "workers_phase": 1}
    refusal = DeclaredMetric("refusal", "refusal", margin=0.1)
    facts = seen(4, 1, 14.0, 0.1)
    known = tuple(msgspec.structs.replace(r, refused=0) for r in facts["observations"])
    for metric, observations, ending in (
        (refusal, facts["observations"], Ending.NO_DATA),
        (refusal, known, Ending.INCONCLUSIVE),
        (
            msgspec.structs.replace(refusal, promotes=False),
            facts["observations"],
            Ending.INCONCLUSIVE,
        ),
    ):
        plan = msgspec.structs.replace(PLAN, metrics=(metric,))
        given = {**facts, **late, "observations": observations}
        assert ended(step(judging(plan=plan), **given), 1_002.0) == ("rolled_back", ending)


@pytest.mark.parametrize("now", [2_000.0, 10_000_000.0])
def test_nothing_that_is_missing_promotes_however_late(now: float) -> None:
    for rollout in (begin(), shifting(), judging(), last_step()):
        late = step(rollout, now=now)
        late = step(late, now=2 * now)
        assert outcome(late) in ("failed", "rolled_back")
        assert late.ending is not Ending.PROMOTED
