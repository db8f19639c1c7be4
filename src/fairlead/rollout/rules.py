"""What each state of a rollout does with the facts: one function for each state that moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fairlead.domain.verdicts import GateOutcome, RolloutOutcome, RolloutVerdict
from fairlead.rollout.assessment import SILENCE_MAX
from fairlead.rollout.checkpoints import (
    BEFORE,
    PROMOTE,
    Checkpoint,
    HookOutcome,
    hooks_at,
    needs_approval,
    step_point,
)
from fairlead.rollout.desires import full_replicas, holds_back, split_of, stays_warm
from fairlead.rollout.drill import spent
from fairlead.rollout.early import assess_both
from fairlead.rollout.endings import Ending
from fairlead.rollout.model import Facts, Rollout
from fairlead.rollout.moves import REMARKS_MAX, give_up, go, impossible, move_rest, note
from fairlead.rollout.pairs import worse_by_pairs
from fairlead.rollout.plan import percent
from fairlead.rollout.ramp import next_move
from fairlead.rollout.remaining import (
    awaits_approval,
    missing_in_shadow,
    missing_in_step,
    units_needed,
)
from fairlead.rollout.standing import lacking as lacking_readings
from fairlead.rollout.standing import lacking_for_promotion, stopped
from fairlead.rollout.states import State
from fairlead.rollout.telling import lacking

UNJUDGED_FROM = 0.9
"""With fewer of the units judged, a judge model that is behind is why there is no verdict."""
_HOOK_ENDINGS = {
    HookOutcome.REFUSED: Ending.HOOK_REFUSED,
    HookOutcome.UNREACHABLE: Ending.HOOK_UNREACHABLE,
}


def _evaluating(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return _replicas_failed(rollout, facts)
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
        return _wait_for_replicas(rollout, facts, 1)
    if not _is_late(rollout, facts.now, rollout.plan.gates_s):
        return rollout
    why = f"its gates have no verdict after {rollout.plan.gates_s:g} s"
    return give_up(rollout, facts.now, why, Ending.GATES_UNFINISHED)


def _starting(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return _replicas_failed(rollout, facts)
    overdue = _overdue(rollout, facts)
    if overdue is not rollout or rollout.paused:
        return overdue
    wanted = rollout.plan.canary_replicas
    if facts.candidate_ready < wanted:
        return _wait_for_replicas(rollout, facts, wanted)
    if rollout.frozen:
        return rollout
    rollout, may_go = _reach(rollout, facts, BEFORE)
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
        return _replicas_failed(rollout, facts)
    rule, seen = rollout.plan.shadow, rollout.shadowed
    if rule is None:
        raise impossible(rollout, "it has no shadow in its plan")
    if seen.is_worse(rollout.plan):
        why = f"shadow: {worse_by_pairs(seen, rollout.plan)}"
        return go(rollout, State.FAILED, facts.now, why, ending=Ending.SHADOW_FAILED)
    overdue = _overdue(rollout, facts)
    if overdue is not rollout or rollout.paused or rollout.frozen:
        return overdue
    enough = seen.units >= units_needed(rule) and facts.now - rollout.entered_at >= rule.seconds
    if seen.is_not_worse(rollout.plan) or (enough and not seen.is_suspect(rollout.plan)):
        return _first_step(rollout, facts)
    if not _is_late(rollout, facts.now, rollout.plan.deadline_s):
        return rollout
    lacks = missing_in_shadow(rollout, rule)
    why = f"shadow: inconclusive after {rollout.plan.deadline_s:g} s: it lacked {lacks}"
    ending = Ending.INCONCLUSIVE if seen.copies or seen.late or seen.unknown else Ending.NO_TRAFFIC
    return go(rollout, State.FAILED, facts.now, why, ending=ending)


def _shifting(rollout: Rollout, facts: Facts) -> Rollout:
    safe = _keep_safe(rollout, facts)
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
    return _wait_for_workers(rollout, facts)


def _judging(rollout: Rollout, facts: Facts) -> Rollout:
    safe = _keep_safe(rollout, facts)
    if safe is not rollout:
        return safe
    lowered = _lower(rollout, facts)
    if lowered is not rollout:
        return lowered
    overdue = _overdue(rollout, facts)
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
    rollout = _without_reason_to_promote(rollout, facts.now, missing or "no verdict")
    if facts.no_more and (missing is not None or not last):
        return _end_without_verdict(rollout, facts, facts.no_more, Ending.JUDGE_BUDGET)
    late = _keep_deadline(rollout, facts, missing or "its steps were not finished")
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
    return _remark(left, now, f"does not wait at {at.point} any more: {why}")


def _promoting(rollout: Rollout, facts: Facts) -> Rollout:
    safe = _keep_safe(rollout, facts)
    if safe is not rollout or rollout.paused:
        return safe
    wanted = full_replicas(rollout.plan)
    if facts.candidate_ready < wanted:
        return _wait_for_replicas(rollout, facts, wanted)
    if rollout.frozen:
        return rollout
    return go(rollout, State.SWITCHING, facts.now, f"{wanted} replicas ready for all traffic")


def _switching(rollout: Rollout, facts: Facts) -> Rollout:
    safe = _keep_safe(rollout, facts) if rollout.plan.warm_s else _keep_replicas(rollout, facts)
    if safe is not rollout:
        return safe
    if facts.workers_phase != rollout.phase:
        return _wait_for_workers(rollout, facts)
    if not stays_warm(rollout) and rollout.finish is None:
        return _promoted(rollout, facts.now)
    held = f" and {percent(rollout.plan.holdback)} of the units" if holds_back(rollout) else ""
    why = f"the old release keeps its replicas{held} for {rollout.plan.warm_s:g} s"
    if not stays_warm(rollout):
        why = f"conversations may finish on the old release for {rollout.plan.finish_s:g} s"
    return go(rollout, State.WATCHING, facts.now, why)


def _watching(rollout: Rollout, facts: Facts) -> Rollout:
    warm_s = rollout.plan.warm_s
    safe = _keep_safe(rollout, facts)
    if safe is not rollout:
        return safe
    moved = _finished(rollout, facts)
    if moved is not rollout or moved.finish is not None:
        return moved
    return end_watch(rollout, facts.now) if _is_late(rollout, facts.now, warm_s) else rollout


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
    if not _is_late(rollout, facts.now, rollout.plan.gateway_s):
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


def _reach(rollout: Rollout, facts: Facts, point: str) -> tuple[Rollout, bool]:
    """Whether the rollout may go on from this point; it waits there until it may, or is given up.

    What was passed once is not asked again.
    """
    hooks, approval = hooks_at(rollout.plan, point), needs_approval(rollout.plan, point)
    if point in rollout.passed or not (hooks or approval):
        return rollout, True
    at = rollout.checkpoint
    if at is None or at.point != point:
        waiting = msgspec.structs.replace(rollout, checkpoint=Checkpoint(point, facts.now))
        awaited = " and ".join(["approval"] * approval + [f"{len(hooks)} hooks"] * bool(hooks))
        return _remark(waiting, facts.now, f"at {point}: waits for {awaited}"), False
    report = facts.hooks if facts.hooks is not None and facts.hooks.point == point else None
    if hooks and report is not None and report.outcome is not HookOutcome.PASSED:
        why = f"at {point}: {report.why}"
        return give_up(rollout, facts.now, why, _HOOK_ENDINGS[report.outcome]), False
    if (hooks and report is None) or (approval and not at.approved_by):
        return rollout, False
    passed = (*rollout.passed, point)
    return msgspec.structs.replace(rollout, checkpoint=None, passed=passed), True


def _overdue(rollout: Rollout, facts: Facts) -> Rollout:
    """Given up, if what it misses at its checkpoint has not come for too long."""
    at, limit_s = rollout.checkpoint, rollout.plan.approval_s
    if at is None or at.held_at is not None or facts.now - at.since < limit_s:
        return rollout
    unsaid = facts.hooks is None or facts.hooks.point != at.point
    lacks = []
    if awaits_approval(rollout):
        lacks.append("nobody approved it")
    if unsaid and hooks_at(rollout.plan, at.point):
        lacks.append("its hooks have not answered")
    if not lacks:
        return rollout
    why = f"at {at.point}: {' and '.join(lacks)} within {limit_s:g} s"
    ending = Ending.NOT_APPROVED if awaits_approval(rollout) else Ending.HOOK_UNREACHABLE
    return give_up(rollout, facts.now, why, ending)


def _without_reason_to_promote(rollout: Rollout, now: float, missing: str) -> Rollout:
    """No longer waiting to be promoted, so that its deadline runs again."""
    at = rollout.checkpoint
    if at is None or at.point != PROMOTE:
        return rollout
    left = msgspec.structs.replace(rollout, checkpoint=None)
    return _remark(left, now, f"does not wait at {PROMOTE} any more: {missing}")


def _remark(rollout: Rollout, now: float, why: str) -> Rollout:
    """A note, unless there are very many: evidence can come and go."""
    return rollout if len(rollout.history) >= REMARKS_MAX else note(rollout, now, why)


def _promote(rollout: Rollout, facts: Facts, why: str) -> Rollout:
    if rollout.drill is not None:
        return give_up(rollout, facts.now, f"missed: {why}", Ending.DRILL_MISSED)
    rollout, may_go = _reach(rollout, facts, PROMOTE)
    return go(rollout, State.PROMOTING, facts.now, why) if may_go else rollout


def _shift(rollout: Rollout, step: int, facts: Facts, why: str = "") -> Rollout:
    rollout, may_go = _reach(rollout, facts, step_point(step))
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


def _keep_safe(rollout: Rollout, facts: Facts) -> Rollout:
    """Back, if the canary is worse, a guard is crossed, the split is wrong or replicas fail."""
    kept = _keep_replicas(rollout, facts)
    verdict, end = rollout.verdict, stopped(rollout, facts.now)
    if kept is rollout and end is not None:
        return go(rollout, State.ROLLING_BACK, facts.now, end[1], ending=end[0])
    if kept is not rollout or rollout.phase == 0 or verdict is None or rollout.champion is None:
        return kept
    if verdict.outcome is RolloutOutcome.ROLL_BACK:
        return go(rollout, State.ROLLING_BACK, facts.now, verdict.reason, ending=Ending.WORSE)
    if verdict.outcome is RolloutOutcome.INVALID:
        why = f"invalid: {verdict.reason}"
        return go(rollout, State.ROLLING_BACK, facts.now, why, ending=Ending.INVALID_SPLIT)
    nothing = spent(rollout)
    if nothing is not None:
        return go(rollout, State.ROLLING_BACK, facts.now, nothing, ending=Ending.DRILL_SPENT)
    return rollout


def _keep_replicas(rollout: Rollout, facts: Facts) -> Rollout:
    return rollout if facts.candidate_failed is None else _replicas_failed(rollout, facts)


def _replicas_failed(rollout: Rollout, facts: Facts) -> Rollout:
    why = f"its replicas fail: {facts.candidate_failed}"
    return give_up(rollout, facts.now, why, Ending.REPLICAS_FAILED)


def _wait_for_replicas(rollout: Rollout, facts: Facts, wanted: int) -> Rollout:
    if not _is_late(rollout, facts.now, rollout.plan.ready_s):
        return rollout
    why = (
        f"{facts.candidate_ready} of {wanted} replicas were ready within {rollout.plan.ready_s:g} s"
    )
    return give_up(rollout, facts.now, why, Ending.REPLICAS_NEVER_READY)


def _wait_for_workers(rollout: Rollout, facts: Facts) -> Rollout:
    if not _is_late(rollout, facts.now, rollout.plan.gateway_s):
        return rollout
    why = f"the gateway workers did not take over the split within {rollout.plan.gateway_s:g} s"
    return give_up(rollout, facts.now, why, Ending.GATEWAY_UNREACHABLE)


def _is_late(rollout: Rollout, now: float, limit_s: float) -> bool:
    """Whether it has been in its state for so long, the time of holds left out."""
    return rollout.held_at is None and now - rollout.entered_at >= limit_s


def _keep_deadline(rollout: Rollout, facts: Facts, missing: str) -> Rollout:
    """Back as inconclusive, if the plan's time is over."""
    if rollout.held_at is not None or rollout.traffic_since is None:
        return rollout
    used = facts.now - rollout.traffic_since - rollout.paused_s
    if used < rollout.plan.deadline_s:
        return rollout
    missing = f"waits for {facts.awaited}" if facts.awaited else missing
    why = f"no verdict within {rollout.plan.deadline_s:g} s: {missing}"
    return _end_without_verdict(rollout, facts, why, _without_verdict(rollout, facts.awaited))


def _end_without_verdict(rollout: Rollout, facts: Facts, why: str, ending: Ending) -> Rollout:
    """Back to the champion, as inconclusive."""
    why = f"inconclusive: {why}"
    numbers = {} if rollout.verdict is None else rollout.verdict.numbers
    verdict = RolloutVerdict(RolloutOutcome.INCONCLUSIVE, why, numbers)
    ended = msgspec.structs.replace(rollout, verdict=verdict)
    return go(ended, State.ROLLING_BACK, facts.now, why, ending=ending)


def _without_verdict(rollout: Rollout, awaited: str) -> Ending:
    """What was missing for a verdict."""
    judge, seen = rollout.judge, rollout.early or rollout.judge
    if awaited and judge.units < UNJUDGED_FROM * seen.units:
        return Ending.JUDGE_UNREACHABLE
    if seen.requests == 0:
        return Ending.NO_TRAFFIC
    silence = max(judge.canary.silence, judge.champion.silence)
    if rollout.plan.requires_feedback and judge.canary.units and silence > SILENCE_MAX:
        return Ending.NO_FEEDBACK
    if judge.canary.units and judge.champion.units and lacking(judge, rollout.plan) is not None:
        return Ending.NO_DATA
    return Ending.INCONCLUSIVE
