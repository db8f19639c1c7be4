"""What a rollout wants of the world, which follows from its state alone."""

from __future__ import annotations

from fairlead.rollout.checkpoints import hooks_at
from fairlead.rollout.model import Desired, Rollout
from fairlead.rollout.plan import Plan
from fairlead.rollout.states import TRANSITIONS, State

Split = tuple[float, str | None, str | None]
"""The canary's share, the canary, the champion."""


def is_terminal(rollout: Rollout) -> bool:
    """Whether it has ended."""
    return not TRANSITIONS[rollout.state]


def desired(rollout: Rollout) -> Desired:
    """What the rollout wants in its present state."""
    share, canary, champion = split_of(rollout)
    shadow = rollout.plan.shadow if rollout.state is State.SHADOWING else None
    return Desired(
        share=share,
        canary=canary,
        champion=champion,
        phase=rollout.phase,
        salt=rollout.salt,
        candidate_replicas=_replicas(rollout),
        run_gates=rollout.state is State.EVALUATING and rollout.gates > 0,
        shadow=rollout.release if shadow is not None else None,
        shadow_share=shadow.share if shadow is not None else 0.0,
        shadow_timeout_s=shadow.timeout_s if shadow is not None else 0.0,
        call_hooks=_hooks(rollout),
        finish=rollout.finish,
    )


def split_of(rollout: Rollout) -> Split:
    """Who gets the traffic."""
    state, release, champion = rollout.state, rollout.release, rollout.champion
    if state in (State.SWITCHING, State.WATCHING) and holds_back(rollout):
        return 1.0 - rollout.plan.holdback, release, champion
    if state in (State.SWITCHING, State.WATCHING, State.PROMOTED):
        return 0.0, None, release
    has_share = state in (State.SHIFTING, State.JUDGING) or (
        state is State.PROMOTING and rollout.phase > 0
    )
    if has_share:
        return rollout.plan.steps[rollout.step].share, release, champion
    return 0.0, None, champion


def stays_warm(rollout: Rollout) -> bool:
    """Whether the old release is still to be kept warm after the move of all traffic."""
    return rollout.plan.warm_s > 0 and rollout.champion is not None and not rollout.watched


def holds_back(rollout: Rollout) -> bool:
    """Whether some units stay with the old release in that time."""
    return stays_warm(rollout) and rollout.plan.holdback > 0


def full_replicas(plan: Plan) -> int:
    """Replicas that the release needs before all traffic moves to it."""
    return max(plan.champion_replicas, plan.canary_replicas)


def _replicas(rollout: Rollout) -> int:
    if rollout.state in (State.PROMOTING, State.SWITCHING, State.WATCHING):
        return full_replicas(rollout.plan)
    if rollout.state is State.PROMOTED:
        return rollout.plan.champion_replicas
    if rollout.state is State.QUEUED or is_terminal(rollout):
        return 0
    return rollout.plan.canary_replicas


def _hooks(rollout: Rollout) -> str:
    checkpoint = rollout.checkpoint
    if checkpoint is None or not hooks_at(rollout.plan, checkpoint.point):
        return ""
    return checkpoint.point
