"""What was decided and is to be done, what came of it, and what nobody has done.

An action is to be done until it is settled (`to_do`), also after a crash, but not later than
`LATE_S` after it was decided: by then the world is another one. It is given up then, which people
are told of, and it counts for the limits of actions all the same: it may have been done in part.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fairlead.domain.release import shortened
from fairlead.monitoring.actions import MONITOR, ActionEntry, ActionVerdict
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of

LATE_S = 600.0
GIVEN_UP = "given up: not carried out within ten minutes"
TOLD_OF_S = 3_600.0
"""For so long an action that was given up is a condition."""


def to_do(history: Iterable[ActionEntry], now: float) -> list[ActionEntry]:
    """What was decided and is neither carried out nor too late."""
    return [
        entry
        for entry in history
        if entry.verdict is ActionVerdict.ACT
        and entry.settled_at is None
        and now - entry.at < LATE_S
    ]


def give_up(history: Iterable[ActionEntry], now: float) -> tuple[ActionEntry, ...]:
    """The entries, with what is too late to be carried out settled as given up."""
    return tuple(
        msgspec.structs.replace(entry, settled_at=entry.at + LATE_S, outcome=GIVEN_UP)
        if entry.verdict is ActionVerdict.ACT
        and entry.settled_at is None
        and now - entry.at >= LATE_S
        else entry
        for entry in history
    )


def given_up(history: Iterable[ActionEntry], now: float) -> tuple[Condition, ...]:
    """A condition for each kind of action of a service that was given up within the last hour."""
    last = {
        (entry.service, entry.kind): entry
        for entry in history
        if entry.outcome == GIVEN_UP
        and entry.settled_at is not None
        and now - entry.settled_at < TOLD_OF_S
    }
    return tuple(
        Condition(
            labels=labels_of(monitor=MONITOR, service=service, action=kind.value),
            severity=Severity.PAGE,
            summary=f"{service}: {kind} {shortened(entry.target)} was decided; it is {GIVEN_UP}",
        )
        for (service, kind), entry in sorted(last.items())
    )


def settle(
    history: Iterable[ActionEntry], done: ActionEntry, outcome: str, now: float
) -> tuple[ActionEntry, ...]:
    """The entries, with what came of one of them, also after it was given up.

    Its times may have changed since it was handed out, when the clock was set back.
    """
    entries = list(history)
    meant = [
        (entry.key != done.key, index)
        for index, entry in enumerate(entries)
        if entry.verdict is ActionVerdict.ACT
        and (entry.settled_at is None or entry.outcome == GIVEN_UP)
        and (entry.key[:3], entry.target) == (done.key[:3], done.target)
    ]
    for _, index in sorted(meant)[:1]:
        entries[index] = msgspec.structs.replace(
            entries[index], settled_at=now, outcome=outcome[:500]
        )
    return tuple(entries)
