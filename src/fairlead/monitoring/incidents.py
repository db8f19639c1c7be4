"""Incidents: the story from the first alert of a service to the resolution.

Rules
- A firing alert belongs to the open incident of its service. The first page or ticket opens it;
  what is only for information does not.
- `follow` is level-triggered: the same alerts and events again change nothing. Events are told
  apart by time, kind and words.
- When no page or ticket of it fires any more it is quiet. After `QUIET_S` without one it closes by
  itself, saying after which action, if there was one. A person can close it before, in their own
  words; while its alerts fire only by force. These go on, and belong to no incident any more until
  they have ended and begin anew.
- What begins after it is closed opens another one.
- Two, of several services with one cause, can be merged: the older one gets services, alerts and
  timeline, the other one closes and says where to.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from fairlead.domain.errors import Conflict, FairleadError, InvalidInput
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import RANK, Severity
from fairlead.monitoring.causes import Cause, causes_of, nearest
from fairlead.monitoring.conditions import Labels
from fairlead.monitoring.plain import brief

QUIET_S = 900.0
BEFORE_S = 3_600.0
"""Events so long before the first alert belong to the story."""

TIMELINE_MAX = 500
ALERTS_MAX = 200
WORDS_MAX = 2_000


class IncidentState(enum.StrEnum):
    """Where an incident is."""

    OPEN = "open"
    QUIET = "quiet"
    CLOSED = "closed"


TRANSITIONS: dict[IncidentState, tuple[IncidentState, ...]] = {
    IncidentState.OPEN: (IncidentState.QUIET, IncidentState.CLOSED),
    IncidentState.QUIET: (IncidentState.OPEN, IncidentState.CLOSED),
    IncidentState.CLOSED: (),
}


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that happened.

    Attributes:
        kind: `alert`, `rollout`, `release`, `replica`, `action` (something that was carried out),
            `decision`, `person` or another noun.
        by: Who did it; empty for nobody.
    """

    at: float
    kind: str
    what: str
    labels: Labels = ()
    by: str = ""


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alert as part of an incident."""

    fingerprint: str
    severity: Severity
    summary: str
    first_seen: float
    last_seen: float
    is_firing: bool
    evidence: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the incident goes on because of it."""
        return self.is_firing and self.severity is not Severity.INFO


class Resolution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How it ended: by whom (empty: by itself), and in which words."""

    at: float
    by: str
    words: str


class Incident(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One incident.

    Attributes:
        number: Its id, counted up.
        services: Its service first, then those of incidents that were merged into it.
        title: The summary of its gravest alert, cut.
        severity: Of the gravest alert that it ever had.
        quiet_since: Unix time since which no alert of it fires.
        merged_into: Number of the incident that took it over.
        is_cut: Whether the timeline had no room for all events.
        is_forced: Whether it was closed though alerts of it fired.
    """

    number: int
    services: tuple[str, ...]
    title: str
    severity: Severity
    state: IncidentState
    opened_at: float
    members: tuple[Member, ...]
    timeline: tuple[Event, ...] = ()
    quiet_since: float | None = None
    resolution: Resolution | None = None
    merged_into: int | None = None
    is_cut: bool = False
    is_forced: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.state is not IncidentState.CLOSED


def follow(
    incidents: Sequence[Incident], alerts: Iterable[Alert], events: Iterable[Event], now: float
) -> tuple[Incident, ...]:
    """The incidents after these alerts and events, in the order of their numbers.

    Args:
        events: What happened lately, of all services; again and again is no harm.
    """
    every = sorted(incidents, key=lambda one: one.number)
    by_service: dict[str, list[Alert]] = {}
    for alert in _without_closed(alerts, every):
        by_service.setdefault(alert.of.get("service", ""), []).append(alert)
    heard = tuple(events)
    after = [
        _followed(one, [a for name in one.services for a in by_service.get(name, [])], heard, now)
        if one.is_open
        else one
        for one in every
    ]
    served = {name for one in after if one.is_open for name in one.services}
    number = every[-1].number if every else 0
    for service, members in sorted(by_service.items()):
        opening = [a for a in members if a.is_firing and a.severity is not Severity.INFO]
        if opening and service not in served:
            number += 1
            after.append(_followed(_opened(number, service, opening), members, heard, now))
    return tuple(after)


def _without_closed(alerts: Iterable[Alert], incidents: Iterable[Incident]) -> Iterator[Alert]:
    """Those that were not put aside by closing their incident while they fired."""
    until: dict[str, float] = {}
    for incident in incidents:
        if incident.is_forced and incident.resolution is not None:
            for member in incident.members:
                before = until.get(member.fingerprint, incident.resolution.at)
                until[member.fingerprint] = max(before, incident.resolution.at)
    for alert in alerts:
        at = until.get(alert.fingerprint)
        if at is None or alert.first_seen > at:
            yield alert


def close(
    incident: Incident, by: str, words: str, now: float, *, by_force: bool = False
) -> Incident:
    """Close it by a person's word.

    Args:
        by_force: Also while its alerts fire; the words say why.

    Raises:
        Conflict: it is closed, or its alerts still fire and it is not by force.
        InvalidInput: there are no words.
    """
    if not incident.is_open:
        raise Conflict(f"incident {incident.number} is closed already")
    holds = any(member.holds for member in incident.members)
    if holds and not by_force:
        raise Conflict(
            f"alerts of incident {incident.number} still fire",
            hint="silence them if nobody should be told, or close it by force and say why",
        )
    if not 0 < len(words.strip()) <= WORDS_MAX:
        raise InvalidInput(
            f"a resolution needs 1 to {WORDS_MAX} characters",
            hint="say what it was, and what helped",
        )
    closed = _closed(incident, Resolution(now, by, words), Event(now, "person", words, by=by))
    return msgspec.structs.replace(closed, is_forced=holds)


def note(incident: Incident, by: str, words: str, now: float) -> Incident:
    """With a person's words in the timeline; also after it was closed, where they are often found.

    Raises:
        Conflict: it is part of another incident, or its timeline has no room.
        InvalidInput: there are no words.
    """
    if incident.merged_into is not None:
        raise Conflict(
            f"incident {incident.number} is part of incident {incident.merged_into}",
            hint="note it there",
        )
    if not 0 < len(words.strip()) <= WORDS_MAX:
        raise InvalidInput(f"a note needs 1 to {WORDS_MAX} characters")
    event = Event(now, "person", words, by=by)
    noted = _timed(incident, (event,))
    if event not in noted.timeline:
        raise Conflict(f"the timeline of incident {incident.number} has no room for more events")
    return noted


def merge(older: Incident, younger: Incident, by: str, now: float) -> tuple[Incident, Incident]:
    """Both after the younger one has become part of the older one; raises Conflict."""
    if older.number >= younger.number:
        raise Conflict("the younger incident becomes part of the older one")
    for one in (older, younger):
        if not one.is_open:
            raise Conflict(f"incident {one.number} is closed already")
    note = Event(now, "person", f"incident {younger.number} is part of this one", by=by)
    members = {member.fingerprint: member for member in (*older.members, *younger.members)}
    both = _timed(older, (*younger.timeline, note))
    both = _with_members(both, members)
    services = tuple(dict.fromkeys((*older.services, *younger.services)))
    both = _settled(msgspec.structs.replace(both, services=services), now)
    told = Event(now, "person", f"part of incident {older.number}", by=by)
    gone = _closed(younger, Resolution(now, by, f"part of incident {older.number}"), told)
    return both, msgspec.structs.replace(gone, merged_into=older.number)


def _opened(number: int, service: str, alerts: Sequence[Alert]) -> Incident:
    first = min(alert.first_seen for alert in alerts)
    gravest = min(alerts, key=lambda alert: (RANK[alert.severity], alert.first_seen))
    return Incident(
        number, (service,), brief(gravest.summary), gravest.severity, IncidentState.OPEN, first, ()
    )


def _followed(
    incident: Incident, alerts: Sequence[Alert], events: Sequence[Event], now: float
) -> Incident:
    members = {member.fingerprint: member for member in incident.members}
    notes = []
    for alert in alerts:
        known = members.get(alert.fingerprint)
        if known is None and (not alert.is_firing or len(members) >= ALERTS_MAX):
            continue
        members[alert.fingerprint] = _member(alert, known)
        notes += _turns(alert, incident.opened_at)
    about = [event for event in events if _belongs(event, incident)]
    told = _timed(_with_members(incident, members), (*about, *notes))
    return _settled(told, now)


def _settled(incident: Incident, now: float) -> Incident:
    """Open, quiet or closed, by whether anything fires."""
    if any(member.holds for member in incident.members):
        if incident.state is IncidentState.OPEN:
            return incident
        return _go(msgspec.structs.replace(incident, quiet_since=None), IncidentState.OPEN)
    if incident.state is IncidentState.OPEN:
        incident = _go(msgspec.structs.replace(incident, quiet_since=now), IncidentState.QUIET)
    since = now if incident.quiet_since is None else incident.quiet_since
    if now - since < QUIET_S:
        return incident
    helped = _last_act(incident, since)
    words = f"no alert for {QUIET_S / 60:.0f} minutes" + (
        f", after: {helped}" if helped else "; nothing was done that is known here"
    )
    return _closed(incident, Resolution(now, "", words), Event(now, "incident", f"closed: {words}"))


MOVES = ("rollout", "release")
"""Kinds of events by which releases get and lose traffic."""


def _last_act(incident: Incident, until: float) -> str:
    """The last action; without one the last move of a rollout while its alerts fired."""
    moves = ""
    for event in reversed(incident.timeline):
        if event.kind == "action":
            return event.what
        if event.kind in MOVES and incident.opened_at <= event.at <= until:
            moves = moves or event.what
    return moves


def _closed(incident: Incident, resolution: Resolution, note: Event) -> Incident:
    ended = msgspec.structs.replace(_timed(incident, (note,)), resolution=resolution)
    return _go(ended, IncidentState.CLOSED)


def _go(incident: Incident, to: IncidentState) -> Incident:
    if to not in TRANSITIONS[incident.state]:
        raise FairleadError(f"incident {incident.number} cannot go from {incident.state} to {to}")
    return msgspec.structs.replace(incident, state=to)


def _with_members(incident: Incident, members: Mapping[str, Member]) -> Incident:
    ordered = tuple(
        sorted(members.values(), key=lambda m: (RANK[m.severity], m.first_seen, m.fingerprint))
    )
    if not ordered:
        return incident
    gravest = ordered[0]
    is_graver = RANK[gravest.severity] < RANK[incident.severity]
    return msgspec.structs.replace(
        incident,
        members=ordered,
        title=brief(gravest.summary) if is_graver else incident.title,
        severity=gravest.severity if is_graver else incident.severity,
        opened_at=min(incident.opened_at, *(member.first_seen for member in ordered)),
    )


def _member(alert: Alert, known: Member | None) -> Member:
    """An alert as it is now; its first time and its worst severity stay."""
    severity = alert.severity
    if known is not None and RANK[known.severity] < RANK[severity]:
        severity = known.severity
    causes = alert.causes
    if known is not None and known.causes and (not causes or alert.first_seen > known.first_seen):
        # What it began with tells more than what it came back with; of that, more may be found.
        causes = nearest((*known.causes, *_found_since(known, alert)))
    return Member(
        fingerprint=alert.fingerprint,
        severity=severity,
        summary=alert.summary,
        first_seen=alert.first_seen if known is None else min(known.first_seen, alert.first_seen),
        last_seen=alert.last_seen,
        is_firing=alert.is_firing,
        evidence=tuple(figure.words for figure in alert.evidence),
        causes=causes,
    )


def _found_since(known: Member, alert: Alert) -> tuple[Cause, ...]:
    """Causes of the first time of an alert that is back, as far as they were found only then."""
    before = {cause.change for cause in known.causes}
    late = [cause.change for cause in alert.causes if cause.change.since is not None]
    fresh = [change for change in late if change not in before]
    return causes_of(alert.labels, known.first_seen, fresh)


def _turns(alert: Alert, since: float) -> list[Event]:
    """Its transitions, in words that stay the same however the alert goes on."""
    about = " ".join(value for name, value in alert.labels if name not in ("service", "monitor"))
    name = f"{alert.of.get('monitor', '')} {about}".strip()
    return [
        Event(turn.at, "alert", f"{name} {turn.to}: {brief(turn.why)}", alert.labels)
        for turn in alert.history
        if turn.at >= since
    ]


def _belongs(event: Event, incident: Incident) -> bool:
    service = dict(event.labels).get("service")
    is_of_it = service is None or service in incident.services
    return is_of_it and event.at >= incident.opened_at - BEFORE_S


def _timed(incident: Incident, events: Iterable[Event]) -> Incident:
    """With these events in their places, each once, the latest left out when there is no room."""
    known = {_same(event) for event in incident.timeline}
    fresh = {_same(event): event for event in events if _same(event) not in known}
    if not fresh:
        return incident
    timeline = sorted((*incident.timeline, *fresh.values()), key=lambda e: (e.at, e.kind, e.what))
    room = timeline[:TIMELINE_MAX]
    return msgspec.structs.replace(
        incident, timeline=tuple(room), is_cut=incident.is_cut or len(timeline) > len(room)
    )


def _same(event: Event) -> tuple[float, str, str]:
    return (event.at, event.kind, event.what)
