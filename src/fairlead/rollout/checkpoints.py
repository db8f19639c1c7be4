"""Checkpoints: the moments of a rollout at which others are told or asked before it goes on.

A point is `before` (the first traffic), `step N` (its share, N from 1), `promote` (all traffic) and
`after` (the end). A rollout that reaches a point with a hook or a needed approval waits there: its
split stays, evidence to roll back still acts, and its deadline is held. Each wait has an end of its
own. By `after` everything is decided: a hook is told, and what it says changes nothing.
"""

from __future__ import annotations

import enum

import msgspec

from fairlead.rollout.plan import Hook, Plan, Point

BEFORE = "before"
PROMOTE = "promote"
AFTER = "after"


class Checkpoint(msgspec.Struct, frozen=True):
    """Where a rollout waits.

    Attributes:
        point: Name of the point.
        since: Unix time in seconds; the time of pauses and freezes is left out.
        held_at: Since when a pause or a freeze holds this wait; None while none does.
        approved_by: Who approved it; empty while nobody has.
    """

    point: str
    since: float
    approved_by: str = ""
    held_at: float | None = None


class HookOutcome(enum.StrEnum):
    """What became of a point's hooks, all of them together."""

    PASSED = "passed"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


class HookReport(msgspec.Struct, frozen=True):
    """What a point's hooks said; `why` in words where they did not all agree."""

    point: str
    outcome: HookOutcome
    why: str = ""


def step_point(step: int) -> str:
    """The point before this step (index from 0) begins."""
    return f"step {step + 1}"


def hooks_at(plan: Plan, point: str) -> tuple[Hook, ...]:
    """The hooks that are called at a point."""
    kind = _kind(point)
    return tuple(hook for hook in plan.hooks if kind in hook.at)


def hook_name(plan: Plan, hook: Hook) -> str:
    """How a hook is called in every text: by its place in the plan and its host."""
    return f"hook {plan.hooks.index(hook) + 1} ({hook.host})"


def needs_approval(plan: Plan, point: str) -> bool:
    """Whether a person has to approve it."""
    if point.startswith("step "):
        return plan.steps[int(point.removeprefix("step ")) - 1].approval
    return point == PROMOTE and plan.approve_promotion


def _kind(point: str) -> Point:
    return Point.STEP if point.startswith("step ") else Point(point)
