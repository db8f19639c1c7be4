"""What a rollout waits for, what it misses, and how long it may."""

from __future__ import annotations

from fairlead.rollout.assessment import crowding_of
from fairlead.rollout.checkpoints import hook_name, hooks_at, needs_approval
from fairlead.rollout.desires import full_replicas, is_terminal
from fairlead.rollout.model import Rollout
from fairlead.rollout.plan import ShadowRule, Step, percent
from fairlead.rollout.standing import lacking
from fairlead.rollout.states import State
from fairlead.rollout.units import UNITS_PER_PHASE_MAX


def missing_in_step(rollout: Rollout, now: float, ready: int) -> str | None:
    """Which of the step's minimums is not reached.

    Args:
        ready: Replicas that can serve the release.
    """
    step = rollout.plan.steps[rollout.step]
    phases = range(rollout.step_phase or rollout.phase, rollout.phase + 1)
    units = sum(rollout.judge.canary_units(phase) for phase in phases)
    if units < step.units:
        return _too_few(rollout, step, units)
    if now - rollout.step_started_at < step.seconds:
        return f"the step at {percent(step.share)} lasts {step.seconds:g} s"
    if ready < rollout.plan.canary_replicas:
        return f"only {ready} of {rollout.plan.canary_replicas} canary replicas ready"
    return lacking(rollout)


def missing_in_shadow(rollout: Rollout, rule: ShadowRule) -> str:
    """What keeps it from its first step, in words."""
    seen = rollout.shadowed
    needed = units_needed(rule)
    if seen.units < needed:
        late = f"; {seen.late:,} more took too long on both sides" if seen.late else ""
        unknown = f"; {seen.unknown:,} more were given up on a side" if seen.unknown else ""
        return (
            f"copies of {needed:,} sessions, users or keys; {seen.copies:,} copies, of "
            f"{seen.units:,} of them, have an outcome{late}{unknown}"
        )
    if seen.is_suspect(rollout.plan):
        return "a clearer verdict: its copies are some evidence that it is worse"
    return f"the rest of {rule.seconds:g} s with copies"


def units_needed(rule: ShadowRule) -> int:
    """Units with a pair after which the shadow goes on; no more than can be remembered."""
    return min(rule.requests, UNITS_PER_PHASE_MAX)


def missing(rollout: Rollout, now: float, ready: int, awaited: str = "") -> str:
    """What it misses to go on, in words; empty when it has ended.

    Args:
        ready: Replicas that can serve the release.
        awaited: The judge model that is behind with its samples, and why; else empty.
    """
    plan = rollout.plan
    if is_terminal(rollout):
        return ""
    if rollout.paused:
        return "somebody who resumes it: it is paused"
    if rollout.frozen or rollout.checkpoint is not None:
        return f"the end of the freeze {rollout.frozen!r}" if rollout.frozen else awaits(rollout)
    match rollout.state:
        case State.QUEUED:
            return "the end of the rollout before it"
        case State.EVALUATING if not ready:
            return "a ready replica"
        case State.EVALUATING:
            return "the verdicts of its gates"
        case State.STARTING:
            return f"replicas: {ready} of {plan.canary_replicas} ready"
        case State.SHADOWING if plan.shadow is not None:
            return missing_in_shadow(rollout, plan.shadow)
        case State.JUDGING if awaited:
            return f"waits for {awaited}"
        case State.JUDGING:
            return missing_in_step(rollout, now, ready) or "a verdict"
        case State.PROMOTING:
            return f"replicas: {ready} of {full_replicas(plan)} ready"
        case State.WATCHING | State.ROLLING_BACK if rollout.finish is not None:
            return "conversations that may finish on the release that they are on"
        case State.WATCHING:
            return "the end of the time in which the old release stays warm"
        case _:
            return "gateway workers that have not taken the new split over"


def awaits_approval(rollout: Rollout) -> bool:
    """Whether it waits for a person at a checkpoint."""
    at = rollout.checkpoint
    return at is not None and not at.approved_by and needs_approval(rollout.plan, at.point)


def awaits(rollout: Rollout) -> str:
    """What it waits for at its checkpoint, and what to type; empty while it waits at none."""
    at = rollout.checkpoint
    if at is None:
        return ""
    if awaits_approval(rollout):
        return f"a person at {at.point}: fairlead rollout approve {rollout.id}"
    hooks = hooks_at(rollout.plan, at.point)
    return f"its hooks at {at.point}: {', '.join(hook_name(rollout.plan, hook) for hook in hooks)}"


def time_left_s(rollout: Rollout, now: float) -> float | None:
    """Seconds until the deadline of its state; None where there is none, or a hold stops it."""
    plan, at = rollout.plan, rollout.checkpoint
    if is_terminal(rollout) or rollout.state is State.QUEUED:
        return None
    if at is not None and at.held_at is None:
        return max(0.0, at.since + plan.approval_s - now)
    if rollout.held_at is not None:
        return None
    if rollout.state is State.ROLLING_BACK and rollout.finish is not None:
        return max(0.0, rollout.finish.until - now)
    if rollout.state is State.JUDGING:
        since = (rollout.traffic_since or now) + rollout.paused_s
        return max(0.0, since + plan.deadline_s - now)
    limits_s = {
        State.EVALUATING: plan.gates_s,
        State.STARTING: plan.ready_s,
        State.SHADOWING: plan.deadline_s,
        State.PROMOTING: plan.ready_s,
        State.WATCHING: plan.warm_s,
    }
    finish_s = rollout.finish.until - now if rollout.finish is not None else 0.0
    return max(
        finish_s, 0.0, rollout.entered_at + limits_s.get(rollout.state, plan.gateway_s) - now
    )


def _too_few(rollout: Rollout, step: Step, units: int) -> str:
    crowding = crowding_of(rollout.judge)
    seen = rollout.early or rollout.judge
    if crowding is None and not units and not seen.canary_units(rollout.phase):
        return f"no traffic: no canary unit has settled at {percent(step.share)}"
    few = (
        f"too few units: {units:,} of {step.units:,} canary units settled at {percent(step.share)}"
    )
    return f"{few}; {crowding}" if crowding else few
