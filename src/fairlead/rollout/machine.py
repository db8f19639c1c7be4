"""Moves a rollout through the states of `fairlead.rollout.states`, whose head has the rules."""

from __future__ import annotations

import msgspec

from fairlead.domain.errors import Conflict
from fairlead.rollout.commands import PROMOTED_BY, check_command, obey
from fairlead.rollout.desires import desired, is_terminal
from fairlead.rollout.early import ENDS, assess_both
from fairlead.rollout.endings import Ending
from fairlead.rollout.model import Command, Desired, Facts, Rollout, Transition, new_rollout
from fairlead.rollout.moves import PAUSABLE, clock, go, impossible, note, resalt
from fairlead.rollout.readings import take_in
from fairlead.rollout.remaining import awaits_approval
from fairlead.rollout.rules import RULES
from fairlead.rollout.standing import asked_of
from fairlead.rollout.states import State
from fairlead.rollout.suites import take_in_suites

__all__ = [
    "Command",
    "Desired",
    "Facts",
    "Rollout",
    "Transition",
    "advance",
    "awaits_approval",
    "check_command",
    "desired",
    "is_terminal",
    "new_rollout",
    "outcome",
    "take_turn",
]

_LOOPS_MAX = 50
_OBSERVED = (State.SHIFTING, State.JUDGING, State.PROMOTING, State.WATCHING)
_DECIDED = (State.PROMOTING, State.SWITCHING, State.WATCHING)


def outcome(rollout: Rollout) -> str:
    """How it ended (the name of its last state), or `running`."""
    return rollout.state.value if is_terminal(rollout) else "running"


def advance(rollout: Rollout, facts: Facts) -> Rollout:
    """The rollout after these facts; the same object when they change nothing.

    Raises Conflict when the command makes no sense in its state; nothing else has happened then.
    """
    if facts.command is not None:
        check_command(rollout, facts.command)
    current = _read(_observe(_met(rollout, facts), facts), facts)
    if facts.command is not None:
        current = obey(current, facts.command, facts)
    current = clock(_frozen(resalt(current, facts.now), facts), facts.now)
    for _ in range(_LOOPS_MAX):
        rule = RULES.get(current.state)
        after = current if rule is None else clock(rule(current, facts), facts.now)
        if after is current:
            return current
        current = after
    raise impossible(current, "it does not come to rest")


def take_turn(rollout: Rollout, champion: str | None, now: float) -> Rollout:
    """Begin a queued rollout, with the champion that serves now."""
    if rollout.state is not State.QUEUED:
        raise Conflict(f"rollout {rollout.id} is {rollout.state} and not in the queue")
    if champion == rollout.release and not rollout.gates_only:
        why = "its release has become the champion already"
        return go(rollout, State.ABORTED, now, why, ending=Ending.SUPERSEDED)
    begun = msgspec.structs.replace(rollout, champion=champion)
    return go(begun, State.EVALUATING, now, "its turn has come")


def _observe(rollout: Rollout, facts: Facts) -> Rollout:
    if rollout.state is State.SHADOWING and facts.shadowed not in (None, rollout.shadowed):
        return msgspec.structs.replace(rollout, shadowed=facts.shadowed)
    is_judged = rollout.state in _OBSERVED or (
        rollout.state is State.SWITCHING and rollout.plan.warm_s > 0
    )
    if not is_judged or rollout.phase == 0 or rollout.champion is None:
        return rollout
    judge, early = facts.judge or rollout.judge, facts.early or rollout.early
    if (judge, early) == (rollout.judge, rollout.early):
        return rollout
    found = assess_both(judge, early, rollout.plan)
    is_decided = rollout.state in _DECIDED and found.outcome not in ENDS and not _is_first(rollout)
    verdict = rollout.verdict if is_decided else found
    return msgspec.structs.replace(rollout, judge=judge, early=early, verdict=verdict)


def _met(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.met is None or facts.met == rollout.met:
        return rollout
    return msgspec.structs.replace(rollout, met=facts.met)


def _read(rollout: Rollout, facts: Facts) -> Rollout:
    """With what Prometheus said, where it is asked, and what suites have shown."""
    if facts.suites:
        suites = take_in_suites(rollout.suites, facts.suites, rollout.plan.suites)
        if suites is not rollout.suites:
            rollout = msgspec.structs.replace(rollout, suites=suites)
    asked = asked_of(rollout)
    if asked is None or facts.readings is None:
        return rollout
    memory = take_in(rollout.readings, facts.readings, asked)
    if memory is rollout.readings:
        return rollout
    return msgspec.structs.replace(rollout, readings=memory)


def _is_first(rollout: Rollout) -> bool:
    """Whether this is the only comparison that there is: of the units that are held back."""
    move = rollout.promotion
    by_judge = move is not None and move.origin is State.JUDGING
    return rollout.state is State.WATCHING and not by_judge


def _frozen(rollout: Rollout, facts: Facts) -> Rollout:
    """Begin or end a freeze. What a person has promoted goes on through it."""
    by_hand = rollout.promotion is not None and rollout.promotion.why.startswith(PROMOTED_BY)
    frozen = "" if rollout.state not in PAUSABLE or by_hand else facts.frozen
    if frozen == rollout.frozen:
        return rollout
    changed = msgspec.structs.replace(rollout, frozen=frozen)
    return note(changed, facts.now, f"frozen: {frozen}" if frozen else "the freeze is over")
