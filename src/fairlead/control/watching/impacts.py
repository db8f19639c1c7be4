"""What an incident has cost, from what was counted for the promises of its services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fairlead.monitoring.burning import MINUTE_S, Bucket
from fairlead.monitoring.impact import BEFORE_S, Impact, impact_of
from fairlead.monitoring.incidents import Incident
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.postmortem import ended_at
from fairlead.store.watching import WatchStore

AVAILABILITY = ObjectiveKind.AVAILABILITY
COUNTS_S = 100 * 86_400.0
"""For so long counts are kept."""


def impacts(
    store: WatchStore, incident: Incident, promises: Mapping[str, Sequence[Objective]], now: float
) -> list[Impact]:
    """Of each of its services whose promises are given; raises what the store raises.

    Of none whose counts are deleted by now: that is not the same as no requests.
    """
    if incident.opened_at < now - COUNTS_S:
        return []
    over = ended_at(incident)
    ended = now if over is None else over
    found = []
    for service in incident.services:
        for objective in promises.get(service, ()):
            if objective.kind is AVAILABILITY:
                since = min(ended - objective.period_s, incident.opened_at - BEFORE_S)
                minutes = _minutes(store, service, since, ended)
                found.append(impact_of(service, objective, minutes, incident.opened_at, ended))
    return found


def _minutes(store: WatchStore, service: str, since: float, until: float) -> list[Bucket]:
    return [
        Bucket(float(row.minute + MINUTE_S), row.total, row.bad)
        for row in store.minutes(service, since)
        if row.promise == AVAILABILITY.value and row.minute <= until
    ]
