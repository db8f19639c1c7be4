"""What one look puts before the desk: what was seen and by whom, and what is declared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fairlead.control.acting.platform import PAGING
from fairlead.control.notify.courier import MONITOR as COURIER
from fairlead.control.watching.around import Said
from fairlead.control.watching.interface import MonitorStanding
from fairlead.control.watching.served import Served
from fairlead.domain.receivers import Receiver
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Looked, labels_of
from fairlead.monitoring.desk import Desk, Duties, Look
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.promising import MONITOR as SLO
from fairlead.monitoring.telling import Route
from fairlead.monitoring.watchers import Report, Watch, graver

WATCH_EVERY_S = 60.0
LAG_S = 120.0
BLIND_PAGE_S = 900.0
"""As long as records may not be taken in: whether promises hold, or the platform does, is not known
for so long."""
BY_VECTORS = ("drift", "answer_drift")
"""Monitors that need the service that makes the vectors, where one is declared."""
UNREAD_S = 60.0
"""What the store refuses for less is not told as such."""


class Seen(NamedTuple):
    """What all monitors of all services have said.

    Attributes:
        unread: Why no records could be read; empty where they could.
        is_whole: Whether all that was recorded was read.
    """

    conditions: list[Condition]
    looked: list[Looked]
    reports: list[Report]
    unread: str
    is_whole: bool


def look_of(seen: Seen, said: Said, desk: Desk, duties: Duties, now: float, since: float) -> Look:
    """What is the case now, with what the platform says.

    Args:
        since: Unix time since which there was somebody to look.
    """
    alerts = desk.alerts.values()
    of_platform = graver(said.conditions, PAGING, BLIND_PAGE_S, alerts, now)
    conditions = [*seen.conditions, *of_platform]
    if seen.unread:
        why = f"nothing of the traffic is seen: the records cannot be read: {seen.unread}"
        conditions.append(blind("store", "unread", why, pending_s=UNREAD_S))
    looked = {*seen.looked, *said.looked, (COURIER, "")}
    reports = [*seen.reports, *said.reports]
    if said.looked:
        looked |= _gone(desk, looked, reports, duties.watches)
    return Look(
        now=now,
        conditions=tuple(conditions),
        looked=tuple(looked),
        reports=tuple(reports),
        started_at=since,
        changes=tuple(said.changes),
        events=tuple(said.events),
        circumstances=said.circumstances,
    )


def blind(watched: str, fault: str, said: str, pending_s: float = 0.0) -> Condition:
    """The page that a part of the watching itself does not work."""
    labels = labels_of(monitor=BLIND, watched=watched, fault=fault)
    return Condition(labels, Severity.PAGE, said[:500], pending_s=pending_s)


def _gone(
    desk: Desk, looked: Collection[Looked], reports: Sequence[Report], watches: Iterable[Watch]
) -> set[Looked]:
    """What nobody watches any more, and so ends: its monitor is off, or its service is gone."""
    known = {*looked, *((one.monitor, one.service) for one in reports)}
    known |= {(one.monitor, one.service) for one in watches}
    troubled = {one.service for one in reports if one.error}
    return {
        alert.seen_by
        for alert in desk.alerts.values()
        if alert.seen_by not in known and alert.seen_by[1] not in troubled
    }


def duties_of(
    services: Sequence[Served],
    standings: Iterable[MonitorStanding],
    champions: Mapping[str, str],
    watches: Iterable[Watch],
) -> Duties:
    """What is declared.

    Args:
        champions: Digests of the releases that are watched, by service.
        watches: What is expected of the platform's monitors.
    """
    # Who is behind by as long as a request may take is not blind: it waits for that one.
    lag_s = {served.name: LAG_S + served.request_timeout_s for served in services}
    vectors = {
        served.name: served.declared.embeddings.service or ""
        for served in services
        if served.declared.embeddings is not None
    }
    own = [
        Watch(
            one.monitor, one.service, WATCH_EVERY_S, lag_s[one.service],
            needs=vectors.get(one.service, "") if one.monitor in BY_VECTORS else "",
        )
        for one in standings
        if one.service in lag_s and champions.get(one.service) == one.release
    ]  # fmt: skip
    own += [
        Watch(SLO, name, WATCH_EVERY_S, lag_s[name], page_after_s=BLIND_PAGE_S) for name in lag_s
    ]
    return Duties(
        routes=routes_of(services),
        actions={
            served.name: served.declared.actions for served in services if served.declared.actions
        },
        watches=(*own, *watches),
        runbooks={served.name: served.declared.runbook for served in services},
    )


def routes_of(services: Sequence[Served]) -> tuple[Route, ...]:
    """Who is told of what."""
    return tuple(route for served in services for route in served.declared.routes)


def receivers_of(services: Sequence[Served]) -> dict[str, Receiver]:
    """Where alerts go, by the name of the route's receiver."""
    return {
        name: receiver
        for served in services
        for name, receiver in served.declared.receivers.items()
    }
