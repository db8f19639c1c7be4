"""How a rollout changes: a transition of the table, a note in its history, the clock of its holds.

All of it is pure; `rules` and `commands` say when.
"""

from __future__ import annotations

import msgspec

from fairlead.domain.errors import FairleadError
from fairlead.rollout import units
from fairlead.rollout.desires import split_of
from fairlead.rollout.endings import Ending
from fairlead.rollout.model import Finish, Rollout, Transition
from fairlead.rollout.states import TRANSITIONS, State

FRESH_S = 3.0
"""A conversation that began so shortly before moves with the others: it may not be recorded yet."""
_AT_ONCE = (Ending.REPLICAS_FAILED, Ending.SUPERSEDED)
"""Ends at which no conversation stays: there is nowhere to stay, or another release waits."""
REMARKS_MAX = 200
"""Entries of the history from which on no more remarks are made."""

PROMOTION = (State.PROMOTING, State.SWITCHING, State.WATCHING, State.PROMOTED)
"""States that no drill ever comes to."""

PAUSABLE = (
    State.EVALUATING,
    State.STARTING,
    State.SHADOWING,
    State.SHIFTING,
    State.JUDGING,
    State.PROMOTING,
    State.WATCHING,
)
"""States in which steps and promotion can be held."""


def go(
    rollout: Rollout,
    to: State,
    now: float,
    why: str,
    *,
    ending: Ending | None = None,
    step: int | None = None,
    watched: bool = False,
) -> Rollout:
    """Take a transition of the table; a changed split begins a new phase.

    Args:
        ending: Why it ends, where it does.
        watched: The time in which the old release stays warm is over.
    """
    if to not in TRANSITIONS[rollout.state]:
        raise impossible(rollout, f"it cannot go from {rollout.state} to {to} ({why})")
    if rollout.drill is not None and to in PROMOTION:
        raise impossible(rollout, f"it is a drill and cannot go to {to} ({why})")
    holds = to in PAUSABLE
    moved = msgspec.structs.replace(
        rollout,
        state=to,
        step=rollout.step if step is None else step,
        entered_at=now,
        paused_at=rollout.paused_at if holds else None,
        frozen=rollout.frozen if holds else "",
        checkpoint=None,
        watched=rollout.watched or watched,
        ending=rollout.ending if ending is None else ending,
        finish=_finish(rollout, to, now, ending, watched=watched),
        reason=why,
    )
    if split_of(moved) != split_of(rollout):
        moved = msgspec.structs.replace(moved, phase=rollout.phase + 1)
        if split_of(moved)[0] > 0.0 and moved.traffic_since is None:
            moved = msgspec.structs.replace(moved, traffic_since=now)
    return note(moved, now, why, rollout.state)


def _finish(
    rollout: Rollout, to: State, now: float, ending: Ending | None, *, watched: bool
) -> Finish | None:
    """Who may finish where they are, if this is the move by which a release is left."""
    plan, arm = rollout.plan, "canary" if to is State.ROLLING_BACK else "champion"
    if to is State.WATCHING:
        return rollout.finish
    if to not in (State.ROLLING_BACK, State.SWITCHING) or watched or ending in _AT_ONCE:
        return None
    left = rollout.release if to is State.ROLLING_BACK else rollout.champion
    if plan.finish_s <= 0.0 or left is None:
        return None
    before = now - FRESH_S
    return Finish(left, arm, rollout.phase, before - plan.finish_s, before, now + plan.finish_s)


def give_up(
    rollout: Rollout, now: float, why: str, ending: Ending, without_traffic: State = State.FAILED
) -> Rollout:
    """Back to the champion if the release had traffic and there is one, else to an end."""
    if rollout.phase > 0 and rollout.champion is not None:
        return go(rollout, State.ROLLING_BACK, now, why, ending=ending)
    return go(rollout, without_traffic, now, why, ending=ending)


def note(rollout: Rollout, now: float, why: str, origin: State | None = None) -> Rollout:
    """The rollout with one more entry in its history."""
    entry = Transition(now, origin or rollout.state, rollout.state, why)
    return msgspec.structs.replace(rollout, history=(*rollout.history, entry))


def move_rest(rollout: Rollout, now: float, why: str) -> Rollout:
    """Nobody finishes on another release any more.

    On the way back this is one more phase, which the gateway workers have to confirm.
    """
    moved = msgspec.structs.replace(rollout, finish=None)
    if rollout.state is State.ROLLING_BACK:
        moved = msgspec.structs.replace(moved, phase=rollout.phase + 1, entered_at=now)
    return moved if len(rollout.history) >= REMARKS_MAX else note(moved, now, why)


def resalt(rollout: Rollout, now: float) -> Rollout:
    """A new phase at the same split, when the present one can take in no more units.

    Each unit is assigned anew with the new salt, so it may be judged once more. Keeping the old
    assignment and forgetting who was judged would count the same users twice, and be no fair bet.
    """
    # The early judge is never behind the judge.
    phases = (rollout.early or rollout.judge).phases
    here = next((p for p in phases if p.phase == rollout.phase), None)
    if here is None or here.champion + here.canary < units.UNITS_PER_PHASE_MAX:
        return rollout
    if split_of(rollout)[0] <= 0.0:
        return rollout
    renewed = msgspec.structs.replace(rollout, phase=rollout.phase + 1)
    if len(rollout.history) >= REMARKS_MAX:
        return renewed
    full = f"{units.UNITS_PER_PHASE_MAX:,} units were judged in phase {rollout.phase}"
    return note(renewed, now, f"{full}: all are assigned anew, and the judge goes on")


def clock(rollout: Rollout, now: float) -> Rollout:
    """Start or stop the clock of its holds: the time of a hold counts against no deadline.

    A checkpoint is a hold with a deadline of its own, which pauses and freezes hold in turn.
    """
    rollout = _checkpoint_clock(rollout, now)
    if rollout.is_held == (rollout.held_at is not None):
        return rollout
    if rollout.held_at is None:
        return msgspec.structs.replace(rollout, held_at=now)
    in_state = now - max(rollout.held_at, rollout.entered_at)
    with_traffic = now - max(rollout.held_at, rollout.traffic_since or now)
    return msgspec.structs.replace(
        rollout,
        held_at=None,
        entered_at=rollout.entered_at + max(0.0, in_state),
        paused_s=rollout.paused_s + max(0.0, with_traffic),
    )


def _checkpoint_clock(rollout: Rollout, now: float) -> Rollout:
    at = rollout.checkpoint
    is_held = rollout.paused or bool(rollout.frozen)
    if at is None or is_held == (at.held_at is not None):
        return rollout
    if at.held_at is None:
        at = msgspec.structs.replace(at, held_at=now)
    else:
        at = msgspec.structs.replace(at, since=at.since + now - at.held_at, held_at=None)
    return msgspec.structs.replace(rollout, checkpoint=at)


def impossible(rollout: Rollout, what: str) -> FairleadError:
    """A fault of the machine itself, with the rollout's history."""
    history = "; ".join(f"{t.at:.3f} {t.origin} -> {t.to}: {t.why}" for t in rollout.history)
    return FairleadError(f"rollout {rollout.id}: {what}", hint=f"history: {history or 'none'}")
