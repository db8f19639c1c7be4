"""One look of the whole desk: what monitors find goes in; messages and actions come out.

The desk is all that has to be kept: alerts, incidents, what was told, silences, and the audit of
actions. `step` puts the deciders one after another; it is as pure and level-triggered as they are,
so the desk can be written after each step and read again after a crash. What was sent is noted with
`note_told`, what was carried out with `note_done`; until then both are due again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.actions import (
    HISTORY_S,
    ActionEntry,
    ActionPolicy,
    Circumstances,
    decide_all,
    settle,
    to_do,
)
from fairlead.monitoring.alert_states import AlertState
from fairlead.monitoring.alerts import (
    ALERTS_MAX,
    Alert,
    Condition,
    check_condition,
    labels_of,
    observe,
)
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change
from fairlead.monitoring.incidents import Event, Incident, follow
from fairlead.monitoring.inhibition import BLIND, DEFAULTS, Inhibition
from fairlead.monitoring.silences import Silence
from fairlead.monitoring.telling import Message, Route, Told, audible, messages
from fairlead.monitoring.watchers import Report, Watch, blind

CONDITIONS_MAX = ALERTS_MAX // 2
INCIDENTS_MAX = 500
AUDIT_MAX = 5_000
TOLD_S = 7 * 86_400.0
SILENCES_S = 86_400.0


class Desk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept.

    Attributes:
        alerts: By fingerprint.
        told: By key of receiver and group.
        audit: Decisions on actions, the oldest first.
    """

    alerts: dict[str, Alert] = {}
    incidents: tuple[Incident, ...] = ()
    told: dict[str, Told] = {}
    silences: tuple[Silence, ...] = ()
    audit: tuple[ActionEntry, ...] = ()


class Duties(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is declared.

    Attributes:
        actions: By service.
        watches: What is expected of the monitors.
    """

    routes: tuple[Route, ...] = ()
    actions: dict[str, tuple[ActionPolicy, ...]] = {}
    inhibitions: tuple[Inhibition, ...] = DEFAULTS
    watches: tuple[Watch, ...] = ()


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is the case now.

    Attributes:
        looked: Monitors that have looked.
        reports: What each monitor said last.
        started_at: Unix time since which monitors could have reported.
        changes: What was changed lately, for causes; they are events of incidents, too.
        events: What else happened lately.
        circumstances: What there is to act on, by service.
    """

    now: float
    conditions: tuple[Condition, ...] = ()
    looked: tuple[str, ...] = ()
    reports: tuple[Report, ...] = ()
    started_at: float = 0.0
    changes: tuple[Change, ...] = ()
    events: tuple[Event, ...] = ()
    circumstances: dict[str, Circumstances] = {}


class Outcome(NamedTuple):
    """The desk after a look, what is to be sent, and what is to be done."""

    desk: Desk
    messages: list[Message]
    actions: list[ActionEntry]


def step(desk: Desk, duties: Duties, look: Look) -> Outcome:
    """Let all deciders look once.

    A condition that makes no sense stops nothing: that its monitor says such is one of its own.
    """
    now = look.now
    unseen = blind(duties.watches, look.reports, look.started_at, now)
    conditions = _sound((*unseen, *look.conditions))
    looked = (*look.looked, BLIND)
    alerts = observe(desk.alerts, conditions, looked, now, look.changes)
    alerts = {**_untold(desk, duties, alerts, now), **alerts}
    audit = _audit(desk.audit, alerts, duties, look)
    events = (
        *look.events,
        *(Event(one.at, one.kind, one.what, one.labels) for one in look.changes),
        *_acts(audit),
    )
    incidents = follow(desk.incidents, alerts.values(), events, now)
    heard = audible(alerts.values(), desk.silences, now, duties.inhibitions)
    after = Desk(
        alerts=alerts,
        incidents=incidents[-INCIDENTS_MAX:],
        told={
            key: told
            for key, told in desk.told.items()
            if now - told.at < TOLD_S or any(name in alerts for name, _ in told.firing)
        },
        silences=tuple(one for one in desk.silences if now - one.until < SILENCES_S),
        audit=audit,
    )
    due = messages(duties.routes, heard, after.told, now)
    return Outcome(after, due, to_do(audit, now))


def note_told(desk: Desk, arrived: Mapping[str, Told]) -> Desk:
    """The desk, with what has arrived."""
    return msgspec.structs.replace(desk, told={**desk.told, **arrived}) if arrived else desk


def note_done(desk: Desk, entry: ActionEntry, outcome: str, now: float) -> Desk:
    """The desk, with what came of an action."""
    return msgspec.structs.replace(desk, audit=settle(desk.audit, entry, outcome, now))


def _sound(conditions: Iterable[Condition]) -> list[Condition]:
    """Those that can be alerts, and that others cannot."""
    found: list[Condition] = []
    for condition in conditions:
        try:
            check_condition(condition)
        except InvalidInput as error:
            found.append(_nonsense(condition.monitor[:100] or "unknown", error.one_line[:300]))
        else:
            found.append(condition)
    if len(found) > CONDITIONS_MAX:
        many = _nonsense("all", f"{len(found)} conditions at once, of which it sees the first")
        found = [*found[:CONDITIONS_MAX], many]
    return found


def _nonsense(monitor: str, why: str) -> Condition:
    return Condition(
        labels=labels_of(monitor=BLIND, watched=monitor, fault="nonsense"),
        severity=Severity.TICKET,
        summary=f"what monitor {monitor} says makes no sense: {why}",
    )


def _untold(
    desk: Desk, duties: Duties, alerts: Mapping[str, Alert], now: float
) -> dict[str, Alert]:
    """Alerts that would be forgotten, though their end has not reached those who know of them."""
    ends = {route.receiver for route in duties.routes if route.resolved}
    known = {
        name
        for key, told in desk.told.items()
        if key.partition("/")[0] in ends
        for name, _ in told.firing
    }
    return {
        name: alert
        for name, alert in desk.alerts.items()
        if name in known
        and name not in alerts
        and alert.state is AlertState.RESOLVED
        and now - alert.entered_at < TOLD_S
    }


def _audit(
    audit: tuple[ActionEntry, ...], alerts: Mapping[str, Alert], duties: Duties, look: Look
) -> tuple[ActionEntry, ...]:
    found = [entry for entry in audit if look.now - entry.at < HISTORY_S]
    for service, policies in sorted(duties.actions.items()):
        members = [alert for alert in alerts.values() if alert.of.get("service") == service]
        seen = look.circumstances.get(service)
        if seen is not None:
            found += decide_all(members, policies, found, seen, look.now)
    return tuple(found[-AUDIT_MAX:])


def _acts(audit: tuple[ActionEntry, ...]) -> list[Event]:
    """Decisions, and what came of them, as events."""
    events = []
    for entry in audit:
        labels = labels_of(service=entry.service)
        events.append(Event(entry.at, "action", entry.words, labels))
        if entry.settled_at is not None:
            words = f"{entry.kind} {entry.target}: {entry.outcome}"
            events.append(Event(entry.settled_at, "action", words, labels))
    return events
