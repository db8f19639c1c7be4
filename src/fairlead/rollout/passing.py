"""Checkpoints: hooks and approvals that a rollout has to pass to go on."""

from __future__ import annotations

import msgspec

from fairlead.rollout.checkpoints import (
    PROMOTE,
    Checkpoint,
    HookOutcome,
    hooks_at,
    needs_approval,
)
from fairlead.rollout.endings import Ending
from fairlead.rollout.model import Facts, Rollout
from fairlead.rollout.moves import REMARKS_MAX, give_up, note
from fairlead.rollout.remaining import awaits_approval

_HOOK_ENDINGS = {
    HookOutcome.REFUSED: Ending.HOOK_REFUSED,
    HookOutcome.UNREACHABLE: Ending.HOOK_UNREACHABLE,
}


def reach(rollout: Rollout, facts: Facts, point: str) -> tuple[Rollout, bool]:
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
        return remark(waiting, facts.now, f"at {point}: waits for {awaited}"), False
    report = facts.hooks if facts.hooks is not None and facts.hooks.point == point else None
    if hooks and report is not None and report.outcome is not HookOutcome.PASSED:
        why = f"at {point}: {report.why}"
        return give_up(rollout, facts.now, why, _HOOK_ENDINGS[report.outcome]), False
    if (hooks and report is None) or (approval and not at.approved_by):
        return rollout, False
    passed = (*rollout.passed, point)
    return msgspec.structs.replace(rollout, checkpoint=None, passed=passed), True


def overdue_at_checkpoint(rollout: Rollout, facts: Facts) -> Rollout:
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


def without_reason_to_promote(rollout: Rollout, now: float, missing: str) -> Rollout:
    """No longer waiting to be promoted, so that its deadline runs again."""
    at = rollout.checkpoint
    if at is None or at.point != PROMOTE:
        return rollout
    left = msgspec.structs.replace(rollout, checkpoint=None)
    return remark(left, now, f"does not wait at {PROMOTE} any more: {missing}")


def remark(rollout: Rollout, now: float, why: str) -> Rollout:
    """A note, unless there are very many: evidence can come and go."""
    return rollout if len(rollout.history) >= REMARKS_MAX else note(rollout, now, why)
