"""One look of the whole desk: what monitors find goes in; messages and actions come out.

The desk is all that has to be kept: alerts, incidents, what was told, silences, and the audit of
actions. `step` puts the deciders one after another; it is as pure and level-triggered as they are,
so the desk can be written after each step and read again after a crash. What was sent is noted with
`note_told`, what was carried out with `note_done`; until then both are due again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.release import shortened
from fairlead.monitoring import clock
from fairlead.monitoring.actions import (
    ACTED,
    DAY_S,
    HISTORY_S,
    ActionEntry,
    ActionPolicy,
    Circumstances,
    decide_all,
)
from fairlead.monitoring.actions import MONITOR as ACTIONS
from fairlead.monitoring.alert_states import AlertState
from fairlead.monitoring.alerts import ALERTS_MAX, Alert, observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.carrying_out import GIVEN_UP, give_up, given_up, settle, to_do
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition, Looked, check_condition, labels_of
from fairlead.monitoring.incidents import Event, Incident, follow
from fairlead.monitoring.inhibition import BLIND, DEFAULTS, Inhibition
from fairlead.monitoring.runbooks import common, runbook_of
from fairlead.monitoring.silences import Silence
from fairlead.monitoring.telling import Message, Route, Told, audible, messages
from fairlead.monitoring.watchers import UNTESTED, Report, Watch, blind

CONDITIONS_MAX = ALERTS_MAX // 2
INCIDENTS_MAX = 500
AUDIT_MAX = 5_000
OWN = (BLIND, ACTIONS)
"""Monitors that are the desk's own, and look each time."""

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
        runbooks: By service: the declared address of what is to be done.
    """

    routes: tuple[Route, ...] = ()
    actions: dict[str, tuple[ActionPolicy, ...]] = {}
    inhibitions: tuple[Inhibition, ...] = DEFAULTS
    watches: tuple[Watch, ...] = ()
    runbooks: dict[str, str] = {}


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is the case now.

    Attributes:
        looked: Monitors that have looked, each with the service that it looked at.
        reports: What each monitor said last; one that could not see has not looked.
        started_at: Unix time since which monitors could have reported.
        changes: What was changed lately, for causes; they are events of incidents, too.
        events: What else happened lately.
        circumstances: What there is to act on, by service.
    """

    now: float
    conditions: tuple[Condition, ...] = ()
    looked: tuple[Looked, ...] = ()
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

    A condition that makes no sense stops nothing: that its monitor says such is one of its own. A
    clock that was set back stops nothing either (`clock`).
    """
    now = look.now
    desk = _until(desk, now)
    done = give_up(desk.audit, now)
    unseen = blind(duties.watches, look.reports, look.started_at, now, desk.alerts.values())
    conditions, unheard = _sound((*unseen, *given_up(done, now), *look.conditions))
    looked = _looked(desk, look, unseen, unheard)
    led = (_led(condition, duties.runbooks) for condition in conditions)
    alerts = observe(desk.alerts, led, looked, now, look.changes)
    alerts = {key: _served_out(alert, look) for key, alert in alerts.items()}
    alerts = {**_untold(desk, duties, alerts, now), **alerts}
    audit = _audit(done, alerts, duties, look)
    events = (
        *look.events,
        *(Event(one.at, one.kind, one.what, one.labels) for one in look.changes),
        *_acts(audit),
    )
    incidents = follow(desk.incidents, alerts.values(), events, now)
    heard = audible(alerts.values(), desk.silences, now)
    after = Desk(
        alerts=alerts,
        incidents=_remembered(incidents),
        told=_told(desk.told, alerts, now),
        silences=tuple(one for one in desk.silences if now - one.until < SILENCES_S),
        audit=audit,
    )
    due = messages(duties.routes, heard, after.told, now, duties.inhibitions)
    return Outcome(after, due, to_do(audit, now))


def step_alone(desk: Desk, routes: Sequence[Route], condition: Condition, now: float) -> Outcome:
    """A look that nobody could make, and what says so: all else stays as it is, and is told on."""
    desk = _until(desk, now)
    alerts = observe(desk.alerts, (condition,), (), now)
    heard = audible(alerts.values(), desk.silences, now)
    due = messages(routes, heard, desk.told, now)
    return Outcome(msgspec.structs.replace(desk, alerts=alerts), due, [])


def note_told(desk: Desk, arrived: Mapping[str, Told]) -> Desk:
    """The desk, with what has arrived."""
    return msgspec.structs.replace(desk, told={**desk.told, **arrived}) if arrived else desk


def note_done(desk: Desk, entry: ActionEntry, outcome: str, now: float) -> Desk:
    """The desk, with what came of an action."""
    return msgspec.structs.replace(desk, audit=settle(desk.audit, entry, outcome, now))


def _until(desk: Desk, now: float) -> Desk:
    """The desk, with nothing of the future; silences may be of it."""
    return msgspec.structs.replace(
        desk,
        alerts={key: clock.alert_until(alert, now) for key, alert in desk.alerts.items()},
        incidents=tuple(clock.incident_until(one, now) for one in desk.incidents),
        told={key: clock.told_until(told, now) for key, told in desk.told.items()},
        audit=tuple(clock.entry_until(entry, now) for entry in desk.audit),
    )


def _sound(conditions: Iterable[Condition]) -> tuple[list[Condition], list[Looked]]:
    """Those that can be alerts, and that others cannot; and who has said those others."""
    found: list[Condition] = []
    unheard: list[Looked] = []
    for condition in conditions:
        try:
            check_condition(condition)
        except InvalidInput as error:
            found.append(_nonsense(condition.monitor[:100] or "unknown", error.one_line[:300]))
            unheard.append(condition.seen_by)
        else:
            found.append(condition)
    if len(found) > CONDITIONS_MAX:
        many = _nonsense("all", f"{len(found)} conditions at once, of which it sees the first")
        unheard += [condition.seen_by for condition in found[CONDITIONS_MAX:]]
        found = [*found[:CONDITIONS_MAX], many]
    return found, unheard


def _led(condition: Condition, declared: Mapping[str, str]) -> Condition:
    """With where it is said what to do about it."""
    if condition.runbook:
        return condition
    monitor, service = condition.seen_by
    of_it = declared.get(service, "") if service else common(declared.values())
    runbook = runbook_of(monitor, of_it)
    return msgspec.structs.replace(condition, runbook=runbook) if runbook else condition


def _looked(
    desk: Desk, look: Look, unseen: Iterable[Condition], unheard: Iterable[Looked]
) -> set[Looked]:
    """Who can end alerts: who has looked, could see, and was heard in all that it said.

    What a monitor says of a service at which it has not looked may be meant of any; what comes
    without a monitor, from any.
    """
    looked = set(look.looked)
    astray = {monitor for monitor, service in unheard if (monitor, service) not in looked}
    seen = looked.difference(unheard, _without_sight(look.reports, unseen))
    sure = {one for one in seen if one[0] not in astray and "" not in astray}
    own = (alert.seen_by for alert in desk.alerts.values() if alert.of["monitor"] in OWN)
    return sure.union(own)


def _without_sight(reports: Iterable[Report], unseen: Iterable[Condition]) -> Iterator[Looked]:
    """Who could not see. One whose self-test is overdue can; it is only not known how well."""
    yield from ((report.monitor, report.service) for report in reports if report.error)
    for condition in unseen:
        of = dict(condition.labels)
        if of["fault"] != UNTESTED:
            yield of["watched"], of.get("service", "")


def _served_out(alert: Alert, look: Look) -> Alert:
    """One that ends since another release serves says so: nobody has seen that it is over."""
    of = alert.of
    seen = look.circumstances.get(of.get("service", ""))
    serves = "" if seen is None else dict(labels_of(release=seen.champion or "")).get("release", "")
    if not serves or of.get("release", serves) == serves or not alert.history:
        return alert
    turn = alert.history[-1]
    if turn.to is not AlertState.RESOLVED or turn.at != look.now:
        return alert
    told = msgspec.structs.replace(turn, why=f"release {of['release']} is not what serves now")
    return msgspec.structs.replace(alert, history=(*alert.history[:-1], told))


def _nonsense(monitor: str, why: str) -> Condition:
    return Condition(
        labels=labels_of(monitor=BLIND, watched=monitor, fault="nonsense"),
        severity=Severity.TICKET,
        summary=f"what monitor {monitor} says makes no sense: {why}",
    )


def _remembered(incidents: tuple[Incident, ...]) -> tuple[Incident, ...]:
    """All that are open, and the last closed ones; numbers are counted on from the last."""
    closed = [one.number for one in incidents if not one.is_open]
    room = max(1, INCIDENTS_MAX - (len(incidents) - len(closed)))
    kept = set(closed[-room:])
    return tuple(one for one in incidents if one.is_open or one.number in kept)


def _told(told: Mapping[str, Told], alerts: Mapping[str, Alert], now: float) -> dict[str, Told]:
    """What receivers know, without alerts that are gone, and groups of long ago."""
    found = {}
    for key, one in told.items():
        firing = tuple(known for known in one.firing if known.fingerprint in alerts)
        if firing or now - one.at < TOLD_S:
            found[key] = msgspec.structs.replace(one, firing=firing)
    return found


def _untold(
    desk: Desk, duties: Duties, alerts: Mapping[str, Alert], now: float
) -> dict[str, Alert]:
    """Alerts that would be forgotten, though their end has not reached those who know of them."""
    ends = tuple(f"{route.receiver}/" for route in duties.routes if route.resolved)
    known = {
        name
        for key, told in desk.told.items()
        if key.startswith(ends)
        for name, _, _ in told.firing
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
    return _newest(found, look.now)


def _newest(audit: list[ActionEntry], now: float) -> tuple[ActionEntry, ...]:
    """What there is room for: first what the limits of a day count, then the latest."""
    counted = [one.verdict in ACTED and now - one.at < DAY_S for one in audit]
    room = AUDIT_MAX - sum(counted)
    others = [index for index, is_counted in enumerate(counted) if not is_counted]
    dropped = set(others[: max(0, len(others) - max(0, room))])
    return tuple(one for index, one in enumerate(audit) if index not in dropped)


def _acts(audit: tuple[ActionEntry, ...]) -> list[Event]:
    """Decisions, and what came of them, as events: an action is what was carried out."""
    events = []
    for entry in audit:
        labels = labels_of(service=entry.service)
        events.append(Event(entry.at, "decision", entry.story, labels))
        if entry.settled_at is not None:
            words = shortened(f"{entry.kind} {entry.target}: {entry.outcome}")
            kind = "decision" if entry.outcome == GIVEN_UP else "action"
            events.append(Event(entry.settled_at, kind, words, labels))
    return events
