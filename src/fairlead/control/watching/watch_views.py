"""What the REST API takes and gives of alerts, incidents, silences, actions and monitors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fairlead.control.watching.interface import MonitorStanding
from fairlead.domain.release import short
from fairlead.monitoring.actions import ActionEntry
from fairlead.monitoring.alerts import Alert, Turn
from fairlead.monitoring.burning import RANK
from fairlead.monitoring.causes import Cause
from fairlead.monitoring.conditions import Figure
from fairlead.monitoring.desk import Desk
from fairlead.monitoring.impact import Impact
from fairlead.monitoring.incidents import Event, Incident, Member
from fairlead.monitoring.postmortem import ended_at, postmortem
from fairlead.monitoring.silences import Silence, silenced_by


class SilenceView(msgspec.Struct, frozen=True):
    """A silence.

    Attributes:
        matchers: As they are written, such as `service="bank"`.
        since, until: Unix times in seconds between which it holds.
        state: `pending`, `active` or `over`.
        alerts: Firing alerts of which nobody is told now because of it.
    """

    id: str
    matchers: list[str]
    since: float
    until: float
    by: str
    why: str
    state: str
    alerts: int


class AlertView(msgspec.Struct, frozen=True):
    """An alert as people see it.

    Attributes:
        state: `pending`, `firing` or `resolved`, since `entered_at`.
        course: How the first figure of the evidence went: Unix times and values.
        away_since: Unix time since which its condition is away, while it still fires.
        keep_s: Seconds for which that has to last until it ends.
        returns: How often it came back soon after its end.
        history: Its last transitions.
        silence: Why nobody is told of it now; None where somebody is.
        incident: Number of the newest incident that it is part of; None for none.
        quotes: What was asked and answered, where that tells what it is about; in lists none.
    """

    fingerprint: str
    service: str
    monitor: str
    labels: dict[str, str]
    severity: str
    state: str
    summary: str
    evidence: list[Figure]
    causes: list[Cause]
    history: list[Turn]
    course: list[tuple[float, float]]
    first_seen: float
    last_seen: float
    entered_at: float
    looked_at: float
    away_since: float | None
    keep_s: float
    returns: int
    silence: Silence | None
    incident: int | None
    runbook: str
    quotes: list[str] = []


class IncidentSummary(msgspec.Struct, frozen=True):
    """An incident in a list.

    Attributes:
        state: `open`, `quiet` (no page or ticket of it fires any more) or `closed`.
        ended_at: Unix time of the end of the trouble; None while it goes on.
        alerts, firing: How many alerts it has, and how many of them fire.
        by, resolution: Who closed it (empty: it closed by itself), in which words.
    """

    number: int
    services: list[str]
    title: str
    severity: str
    state: str
    opened_at: float
    ended_at: float | None
    alerts: int
    firing: int
    merged_into: int | None
    by: str
    resolution: str


class IncidentView(msgspec.Struct, frozen=True):
    """An incident as a whole.

    Attributes:
        timeline: What happened, the oldest first.
        impact: What was counted of its services meanwhile.
        page: The same as Markdown, as a post-mortem.
    """

    summary: IncidentSummary
    alerts: list[Member]
    timeline: list[Event]
    impact: list[Impact]
    page: str


class ActionView(msgspec.Struct, frozen=True):
    """A decision on an action, as the audit keeps it.

    Attributes:
        at: Unix time of the decision; `settled_at` of what came of it, None while nothing has.
        verdict: `act`, `dry_run`, or why nothing is done.
        alert: Fingerprint of the alert that it is about.
        words: The decision as one line.
    """

    at: float
    service: str
    kind: str
    verdict: str
    target: str
    reason: str
    alert: str
    policy: str
    settled_at: float | None
    outcome: str
    words: str


class MonitorView(msgspec.Struct, frozen=True):
    """A monitor of a release, and how many alerts of it fire; see `MonitorStanding`."""

    service: str
    release: str
    monitor: str
    standing: str
    requests: int
    seen_until: float
    self_tested_at: float
    trouble: str
    alerts: int
    vectors: str = ""


class SilenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks that nobody is told of some alerts for a time.

    Attributes:
        matchers: Such as `service=bank`, `slo!=cost`, `replica=~"r[12]"`; all must match.
        for_s: Seconds for which it holds.
        since: Unix time at which it begins; None for now.
    """

    matchers: list[str]
    by: str
    why: str
    for_s: float
    since: float | None = None


class CloseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Closes an incident; `by_force` also while its alerts fire."""

    by: str
    words: str
    by_force: bool = False


class NoteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Puts a person's words into an incident's timeline."""

    by: str
    words: str


class MergeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Makes the younger of two incidents part of the older one."""

    numbers: tuple[int, int]
    by: str


def gravest(alerts: Iterable[Alert]) -> list[Alert]:
    """Firing ones first, of these the gravest, then the earliest."""

    def order(one: Alert) -> tuple[bool, str, int, float, str]:
        return not one.is_firing, one.state, RANK[one.severity], one.first_seen, one.fingerprint

    return sorted(alerts, key=order)


def alert_views(alerts: Iterable[Alert], desk: Desk, now: float) -> list[AlertView]:
    """These alerts of the desk, in their order."""
    numbers = {
        member.fingerprint: incident.number
        for incident in desk.incidents
        if incident.merged_into is None
        for member in incident.members
    }
    return [_alert_view(one, desk, numbers.get(one.fingerprint), now) for one in alerts]


def _alert_view(alert: Alert, desk: Desk, incident: int | None, now: float) -> AlertView:
    of = alert.of
    return AlertView(
        fingerprint=alert.fingerprint,
        service=of.get("service", ""),
        monitor=of.get("monitor", ""),
        labels=of,
        severity=alert.severity.value,
        state=alert.state.value,
        summary=alert.summary,
        evidence=list(alert.evidence),
        causes=list(alert.causes),
        history=list(alert.history),
        course=list(alert.course),
        first_seen=alert.first_seen,
        last_seen=alert.last_seen,
        entered_at=alert.entered_at,
        looked_at=alert.looked_at,
        away_since=alert.away_since,
        keep_s=alert.keep_s,
        returns=len(alert.returns),
        silence=silenced_by(alert, desk.silences, now) if alert.is_firing else None,
        incident=incident,
        runbook=alert.runbook,
    )


def silence_view(silence: Silence, desk: Desk, now: float) -> SilenceView:
    """One silence of the desk, with what it mutes now."""
    muted = [
        alert
        for alert in desk.alerts.values()
        if alert.is_firing and silenced_by(alert, (silence,), now) is not None
    ]
    return SilenceView(
        id=silence.id,
        matchers=[str(matcher) for matcher in silence.matchers],
        since=silence.since,
        until=silence.until,
        by=silence.by,
        why=silence.why,
        state=_state(silence, now),
        alerts=len(muted),
    )


def _state(silence: Silence, now: float) -> str:
    # One that was ended before it began ends as it begins.
    if now >= silence.until or silence.until <= silence.since:
        return "over"
    return "active" if silence.holds(now) else "pending"


def incident_summary(incident: Incident) -> IncidentSummary:
    """One line of a list."""
    resolution = incident.resolution
    return IncidentSummary(
        number=incident.number,
        services=list(incident.services),
        title=incident.title,
        severity=incident.severity.value,
        state=incident.state.value,
        opened_at=incident.opened_at,
        ended_at=ended_at(incident),
        alerts=len(incident.members),
        firing=sum(member.is_firing for member in incident.members),
        merged_into=incident.merged_into,
        by="" if resolution is None else resolution.by,
        resolution="" if resolution is None else resolution.words,
    )


def incident_view(incident: Incident, now: float, impact: Sequence[Impact] = ()) -> IncidentView:
    """The whole of it."""
    return IncidentView(
        summary=incident_summary(incident),
        alerts=list(incident.members),
        timeline=list(incident.timeline),
        impact=list(impact),
        page=postmortem(incident, now, impact),
    )


def action_view(entry: ActionEntry) -> ActionView:
    """One entry of the audit."""
    return ActionView(
        at=entry.at,
        service=entry.service,
        kind=entry.kind.value,
        verdict=entry.verdict.value,
        target=entry.target,
        reason=entry.reason,
        alert=entry.alert,
        policy=entry.policy,
        settled_at=entry.settled_at,
        outcome=entry.outcome,
        words=entry.words,
    )


def monitor_view(standing: MonitorStanding, desk: Desk) -> MonitorView:
    """A monitor, with the alerts of it that fire; those of other releases are not its own."""
    release = short(standing.release)
    firing = [
        alert.of
        for alert in desk.alerts.values()
        if alert.is_firing and alert.seen_by == (standing.monitor, standing.service)
    ]
    return MonitorView(
        **msgspec.structs.asdict(standing),
        alerts=sum(of.get("release", release) == release for of in firing),
    )
