"""What people tell a rollout: whether it can obey in its state, and what it does then."""

from __future__ import annotations

import msgspec

from fairlead.domain.errors import Conflict
from fairlead.rollout.desires import is_terminal
from fairlead.rollout.endings import Ending
from fairlead.rollout.model import Command, Facts, Rollout
from fairlead.rollout.moves import PAUSABLE, give_up, go, move_rest, note
from fairlead.rollout.remaining import awaits_approval
from fairlead.rollout.rules import end_watch
from fairlead.rollout.states import State

PAUSES_HISTORY_MAX = 200
PROMOTED_BY = "promoted by "
"""How the reason of a promotion by hand begins."""


def check_command(rollout: Rollout, command: Command) -> None:
    """Raises Conflict when the rollout cannot obey this command in its state."""
    state = rollout.state
    if is_terminal(rollout):
        raise Conflict(
            f"rollout {rollout.id} has ended: {state}", hint="ship the release again to retry"
        )
    if state is State.QUEUED and command is not Command.ABORT:
        raise Conflict(f"rollout {rollout.id} has not begun: another one is under way")
    if command in (Command.PAUSE, Command.RESUME) and state not in PAUSABLE:
        raise Conflict(f"rollout {rollout.id} is {state} and cannot be held any more")
    if command is Command.PAUSE and len(rollout.history) >= PAUSES_HISTORY_MAX:
        raise Conflict(
            f"rollout {rollout.id} was paused too often", hint="abort it, and ship again later"
        )
    if command is Command.APPROVE and not awaits_approval(rollout):
        raise Conflict(f"rollout {rollout.id} is {state} and waits for nobody's approval")
    if command is Command.PROMOTE and rollout.drill is not None:
        raise Conflict(f"rollout {rollout.id} is a drill: its release is bad on purpose")
    if command is Command.PROMOTE and rollout.gates_only:
        raise Conflict(f"rollout {rollout.id} only evaluates its gates; nothing is promoted")
    if command is Command.PROMOTE and state in (State.EVALUATING, State.ROLLING_BACK):
        raise Conflict(
            f"rollout {rollout.id} is {state} and cannot be promoted",
            hint="a release has to pass its gates first" if state is State.EVALUATING else None,
        )


def obey(rollout: Rollout, command: Command, facts: Facts) -> Rollout:
    """The rollout after a command that it can obey."""
    by = f" by {facts.by}" if facts.by else " by hand"
    match command:
        case Command.PAUSE:
            if rollout.paused:
                return rollout
            paused = msgspec.structs.replace(rollout, paused_at=facts.now)
            return note(paused, facts.now, f"paused{by}")
        case Command.RESUME:
            return _resumed(rollout, facts.now, f"resumed{by}")
        case Command.APPROVE:
            assert rollout.checkpoint is not None
            at = msgspec.structs.replace(rollout.checkpoint, approved_by=facts.by or "hand")
            approved = msgspec.structs.replace(rollout, checkpoint=at)
            return note(approved, facts.now, f"{at.point} approved{by}")
        case Command.PROMOTE:
            return _promoted(_resumed(rollout, facts.now, f"resumed{by}"), facts)
        case Command.ABORT:
            return _aborted(rollout, facts, facts.why or f"aborted{by}")


def _promoted(rollout: Rollout, facts: Facts) -> Rollout:
    if rollout.state in (State.PROMOTING, State.SWITCHING):
        return rollout
    if rollout.state is State.WATCHING:
        if rollout.finish is not None:
            rollout = move_rest(rollout, facts.now, "all conversations move at once")
        return end_watch(rollout, facts.now)
    why = f"{PROMOTED_BY}{facts.by or 'hand'}"
    return go(rollout, State.PROMOTING, facts.now, why)


def _aborted(rollout: Rollout, facts: Facts, why: str) -> Rollout:
    if rollout.state is State.ROLLING_BACK:
        if rollout.finish is None:
            return rollout
        return move_rest(rollout, facts.now, f"all conversations move at once: {why}")
    ending = Ending.SUPERSEDED if facts.superseded else Ending.ABORTED
    return give_up(rollout, facts.now, why, ending, State.ABORTED)


def _resumed(rollout: Rollout, now: float, why: str) -> Rollout:
    if rollout.paused_at is None:
        return rollout
    return note(msgspec.structs.replace(rollout, paused_at=None), now, why)
