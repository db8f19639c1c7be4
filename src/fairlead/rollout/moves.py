"""How a rollout changes: a transition of the table, a note in its history, the clock of its holds.

All of it is pure; `rules` and `commands` say when.
"""

from __future__ import annotations

import msgspec

from fairlead.domain.errors import FairleadError
from fairlead.rollout.desires import split_of
from fairlead.rollout.endings import Ending
from fairlead.rollout.model import Rollout, Transition
from fairlead.rollout.states import TRANSITIONS, State

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
        reason=why,
    )
    if split_of(moved) != split_of(rollout):
        moved = msgspec.structs.replace(moved, phase=rollout.phase + 1)
        if split_of(moved)[0] > 0.0 and moved.traffic_since is None:
            moved = msgspec.structs.replace(moved, traffic_since=now)
    return note(moved, now, why, rollout.state)


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
