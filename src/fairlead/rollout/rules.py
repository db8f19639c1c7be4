"""What each state of a rollout does with the facts: one function for each state that moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fairlead.domain.verdicts import GateOutcome, RolloutOutcome
from fairlead.rollout.checkpoints import (
    BEFORE,
    PROMOTE,
    step_point,
)
from fairlead.rollout.desires import full_replicas, holds_back, split_of, stays_warm
from fairlead.rollout.early import assess_both
from fairlead.rollout.endings import Ending
from fairlead.rollout.model import Facts, Rollout
from fairlead.rollout.moves import REMARKS_MAX, give_up, go, impossible, move_rest
from fairlead.rollout.pairs import worse_by_pairs
from fairlead.rollout.passing import overdue_at_checkpoint, reach, remark, without_reason_to_promote
from fairlead.rollout.plan import percent
from fairlead.rollout.ramp import next_move
from fairlead.rollout.remaining import (
    missing_in_shadow,
    missing_in_step,
    units_needed,
)
from fairlead.rollout.safeguards import (
    end_without_verdict,
    is_late,
    keep_deadline,
    keep_replicas,
    keep_safe,
    replicas_failed,
    wait_for_replicas,
    wait_for_workers,
)
from fairlead.rollout.standing import lacking as lacking_readings
from fairlead.rollout.standing import lacking_for_promotion
from fairlead.rollout.states import State


def _evaluating(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return replicas_failed(rollout, facts)
    verdicts = facts.gate_verdicts if rollout.gates else ()
    if verdicts is None or len(verdicts) < rollout.gates:
        return _unfinished_gates(rollout, facts)
    judged = msgspec.structs.replace(rollout, gate_verdicts=verdicts)
    for verdict in verdicts:
        if verdict.outcome is not GateOutcome.PASS:
            why = f"gate {verdict.gate}: {verdict.outcome.value}: {verdict.reason}"
            return go(judged, State.GATE_FAILED, facts.now, why, ending=Ending.GATE_FAILED)
    why = f"passed all {rollout.gates} gates" if rollout.gates else "no gates to pass"
    if rollout.gates_only:
        return go(judged, State.GATES_PASSED, facts.now, why, ending=Ending.GATES_PASSED)
    return go(judged, State.STARTING, facts.now, why)


def _unfinished_gates(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_ready and not rollout.gates_begun:
        return msgspec.structs.replace(rollout, gates_begun=True)
    if not rollout.gates_begun:
        return wait_for_replicas(rollout, facts, 1)
    if not is_late(rollout, facts.now, rollout.plan.gates_s):
        return rollout
    why = f"its gates have no verdict after {rollout.plan.gates_s:g} s"
    return give_up(rollout, facts.now, why, Ending.GATES_UNFINISHED)


def _starting(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return replicas_failed(rollout, facts)
    overdue = overdue_at_checkpoint(rollout, facts)
    if overdue is not rollout or rollout.paused:
        return overdue
    wanted = rollout.plan.canary_replicas
    if facts.candidate_ready < wanted:
        return wait_for_replicas(rollout, facts, wanted)
    if rollout.frozen:
        return rollout
    rollout, may_go = reach(rollout, facts, BEFORE)
    if not may_go:
        return rollout
    if rollout.champion is None:
        return _promote(rollout, facts, "first release")
    if rollout.plan.shadow is not None:
        why = f"copies of {percent(rollout.plan.shadow.share)} of the requests"
        return go(rollout, State.SHADOWING, facts.now, why)
    return _first_step(rollout, facts)


def _first_step(rollout: Rollout, facts: Facts) -> Rollout:
    if not rollout.plan.steps:
        why = rollout.why or "the plan has no canary steps"
        return _promote(rollout, facts, why)
    return _shift(rollout, 0, facts)


def _shadowing(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return replicas_failed(rollout, facts)
    rule, seen = rollout.plan.shadow, rollout.shadowed
    if rule is None:
        raise impossible(rollout, "it has no shadow in its plan")
    if seen.is_worse(rollout.plan):
        why = f"shadow: {worse_by_pairs(seen, rollout.plan)}"
        return go(rollout, State.FAILED, facts.now, why, ending=Ending.SHADOW_FAILED)
    overdue = overdue_at_checkpoint(rollout, facts)
    if overdue is not rollout or rollout.paused or rollout.frozen:
        return overdue
    enough = seen.units >= units_needed(rule) and facts.now - rollout.entered_at >= rule.seconds
    if seen.is_not_worse(rollout.plan) or (enough and not seen.is_suspect(rollout.plan)):
        return _first_step(rollout, facts)
    if not is_late(rollout, facts.now, rollout.plan.deadline_s):
        return rollout
    lacks = missing_in_shadow(rollout, rule)
    why = f"shadow: inconclusive after {rollout.plan.deadline_s:g} s: it lacked {lacks}"
    ending = Ending.INCONCLUSIVE if seen.copies or seen.late or seen.unknown else Ending.NO_TRAFFIC
    return go(rollout, State.FAILED, facts.now, why, ending=ending)


def _shifting(rollout: Rollout, facts: Facts) -> Rollout:
    safe = keep_safe(rollout, facts)
    if safe is not rollout:
        return safe
    spent = next_move(rollout, facts)
    if spent is not None and spent.step is None:
        return go(rollout, State.ROLLING_BACK, facts.now, spent.why, ending=Ending.HARM_BUDGET)
    if facts.workers_phase == rollout.phase:
        begun = msgspec.structs.replace(
            rollout, step_started_at=facts.now, step_requests=rollout.judge.requests
        )
        return go(begun, State.JUDGING, facts.now, "all gateway workers run on the split")
    return wait_for_workers(rollout, facts)


def _judging(rollout: Rollout, facts: Facts) -> Rollout:
    safe = keep_safe(rollout, facts)
    if safe is not rollout:
        return safe
    lowered = _lower(rollout, facts)
    if lowered is not rollout:
        return lowered
    overdue = overdue_at_checkpoint(rollout, facts)
    if overdue is not rollout or rollout.paused:
        return overdue
    missing = missing_in_step(rollout, facts.now, facts.candidate_ready)
    ramps = rollout.plan.ramp is not None
    last = ramps or rollout.step == len(rollout.plan.steps) - 1
    missing = missing or (lacking_for_promotion(rollout) if last else None)
    verdict = rollout.verdict
    if last and missing is None and verdict is not None:
        if verdict.outcome is RolloutOutcome.PROMOTE:
            return rollout if rollout.frozen else _promote(rollout, facts, verdict.reason)
        missing = verdict.reason
    rollout = without_reason_to_promote(rollout, facts.now, missing or "no verdict")
    if facts.no_more and (missing is not None or not last):
        return end_without_verdict(rollout, facts, facts.no_more, Ending.JUDGE_BUDGET)
    late = keep_deadline(rollout, facts, missing or "its steps were not finished")
    if late is not rollout or rollout.frozen:
        return late
    if ramps:
        return rollout if lacking_readings(rollout) else _raise(rollout, facts)
    if last or missing is not None:
        return rollout
    return _shift(rollout, rollout.step + 1, facts)


def _lower(rollout: Rollout, facts: Facts) -> Rollout:
    """At a lower share or back, if the ramp's harm could exceed its budget."""
    move = next_move(rollout, facts)
    if move is None:
        return rollout
    if move.step is None:
        return go(rollout, State.ROLLING_BACK, facts.now, move.why, ending=Ending.HARM_BUDGET)
    return _to_share(rollout, move.step, facts.now, move.why)


def _raise(rollout: Rollout, facts: Facts) -> Rollout:
    """At a higher share, if the ramp's budget allows it, and enough of this one was seen."""
    if missing_in_step(rollout, facts.now, facts.candidate_ready) is not None:
        return rollout
    at, higher = rollout.checkpoint, range(len(rollout.plan.steps) - 1, rollout.step, -1)
    awaited = [step for step in higher if at is not None and at.point == step_point(step)]
    move = None
    if len(rollout.history) < REMARKS_MAX:
        move = next_move(rollout, facts, awaited or higher)
    if move is None or move.step is None:
        return _leave(rollout, facts.now, awaited, "the budget does not allow that share now")
    return _shift(rollout, move.step, facts, move.why)


def _leave(rollout: Rollout, now: float, awaited: Sequence[int], why: str) -> Rollout:
    """No longer waiting before one of these steps, so that its deadline runs again."""
    at = rollout.checkpoint
    if at is None or at.point not in map(step_point, awaited):
        return rollout
    left = msgspec.structs.replace(rollout, checkpoint=None)
    return remark(left, now, f"does not wait at {at.point} any more: {why}")


def _promoting(rollout: Rollout, facts: Facts) -> Rollout:
    safe = keep_safe(rollout, facts)
    if safe is not rollout or rollout.paused:
        return safe
    wanted = full_replicas(rollout.plan)
    if facts.candidate_ready < wanted:
        return wait_for_replicas(rollout, facts, wanted)
    if rollout.frozen:
        return rollout
    return go(rollout, State.SWITCHING, facts.now, f"{wanted} replicas ready for all traffic")


def _switching(rollout: Rollout, facts: Facts) -> Rollout:
    safe = keep_safe(rollout, facts) if rollout.plan.warm_s else keep_replicas(rollout, facts)
    if safe is not rollout:
        return safe
    if facts.workers_phase != rollout.phase:
        return wait_for_workers(rollout, facts)
    if not stays_warm(rollout) and rollout.finish is None:
        return _promoted(rollout, facts.now)
    held = f" and {percent(rollout.plan.holdback)} of the units" if holds_back(rollout) else ""
    why = f"the old release keeps its replicas{held} for {rollout.plan.warm_s:g} s"
    if not stays_warm(rollout):
        why = f"conversations may finish on the old release for {rollout.plan.finish_s:g} s"
    return go(rollout, State.WATCHING, facts.now, why)


def _watching(rollout: Rollout, facts: Facts) -> Rollout:
    warm_s = rollout.plan.warm_s
    safe = keep_safe(rollout, facts)
    if safe is not rollout:
        return safe
    moved = _finished(rollout, facts)
    if moved is not rollout or moved.finish is not None:
        return moved
    return end_watch(rollout, facts.now) if is_late(rollout, facts.now, warm_s) else rollout


def _finished(rollout: Rollout, facts: Facts) -> Rollout:
    """Without conversations that finish on another release, if their time is over."""
    if rollout.finish is None or facts.now < rollout.finish.until:
        return rollout
    return move_rest(rollout, facts.now, "the last conversations move, too")


def end_watch(rollout: Rollout, now: float) -> Rollout:
    """End the time in which the old release stays warm."""
    if holds_back(rollout):
        return go(rollout, State.SWITCHING, now, "the last units move, too", watched=True)
    return _promoted(rollout, now)


def _promoted(rollout: Rollout, now: float) -> Rollout:
    why = "" if rollout.promotion is None else rollout.promotion.why
    return go(rollout, State.PROMOTED, now, why, ending=Ending.PROMOTED, watched=True)


def _rolling_back(rollout: Rollout, facts: Facts) -> Rollout:
    if rollout.finish is not None and facts.candidate_failed is not None:
        return move_rest(rollout, facts.now, f"all conversations move: {facts.candidate_failed}")
    moved = _finished(rollout, facts)
    if moved is not rollout or moved.finish is not None:
        return moved
    if facts.workers_phase == rollout.phase:
        return go(rollout, State.ROLLED_BACK, facts.now, rollout.reason)
    if not is_late(rollout, facts.now, rollout.plan.gateway_s):
        return rollout
    # The champion is all that the gateway is told of from here on, whenever it is reached again.
    why = f"{rollout.reason}; not all gateway workers have confirmed it"
    return go(rollout, State.ROLLED_BACK, facts.now, why)


RULES: dict[State, Callable[[Rollout, Facts], Rollout]] = {
    State.EVALUATING: _evaluating,
    State.STARTING: _starting,
    State.SHADOWING: _shadowing,
    State.SHIFTING: _shifting,
    State.JUDGING: _judging,
    State.PROMOTING: _promoting,
    State.SWITCHING: _switching,
    State.WATCHING: _watching,
    State.ROLLING_BACK: _rolling_back,
}


def _promote(rollout: Rollout, facts: Facts, why: str) -> Rollout:
    if rollout.drill is not None:
        return give_up(rollout, facts.now, f"missed: {why}", Ending.DRILL_MISSED)
    rollout, may_go = reach(rollout, facts, PROMOTE)
    return go(rollout, State.PROMOTING, facts.now, why) if may_go else rollout


def _shift(rollout: Rollout, step: int, facts: Facts, why: str = "") -> Rollout:
    rollout, may_go = reach(rollout, facts, step_point(step))
    if not may_go:
        return rollout
    verdict = rollout.verdict or assess_both(rollout.judge, rollout.early, rollout.plan)
    begun = msgspec.structs.replace(rollout, verdict=verdict)
    return _to_share(begun, step, facts.now, why)


def _to_share(rollout: Rollout, step: int, now: float, why: str) -> Rollout:
    before = split_of(rollout)[0]
    share = rollout.plan.steps[step].share
    moved = go(rollout, State.SHIFTING, now, f"canary share {percent(share)}{why}", step=step)
    return msgspec.structs.replace(moved, share_before=before, step_phase=moved.phase)
