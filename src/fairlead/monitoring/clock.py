"""A clock that was set back: what is kept of the future is taken to be of now.

All waits are counted from stored times. One that lies ahead would stretch them by as much as the
clock was set back: a group would not be told again, an action cool down, an alert not end, for
hours and without a word. So no time of the desk is later than the look; times that were the same
stay so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from fairlead.monitoring.actions import ActionEntry
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.course import course_until
from fairlead.monitoring.incidents import Incident
from fairlead.monitoring.telling import Known, Told

_ALERT = ("first_seen", "last_seen", "entered_at", "looked_at", "away_since")
_ENTRY = ("at", "episode", "settled_at")
_MEMBER = ("first_seen", "last_seen")
_INCIDENT = ("opened_at", "quiet_since")
_S = TypeVar("_S", bound=msgspec.Struct)


def alert_until(alert: Alert, now: float) -> Alert:
    """The alert, with no time after now."""
    return msgspec.structs.replace(
        _until(alert, _ALERT, now),
        returns=tuple(min(at, now) for at in alert.returns),
        history=_all_until(alert.history, ("at",), now),
        course=course_until(alert.course, now),
    )


def told_until(told: Told, now: float) -> Told:
    """What a receiver knows, with no time after now."""
    firing = (Known(one.fingerprint, min(one.since, now), one.severity) for one in told.firing)
    return Told(min(told.at, now), tuple(sorted(firing)))


def entry_until(entry: ActionEntry, now: float) -> ActionEntry:
    """The audit entry, with no time after now."""
    return _until(entry, _ENTRY, now)


def incident_until(incident: Incident, now: float) -> Incident:
    """The incident, with no time after now; of one that is closed only when that was."""
    if incident.resolution is not None:
        resolution = _until(incident.resolution, ("at",), now)
        return msgspec.structs.replace(incident, resolution=resolution)
    return msgspec.structs.replace(
        _until(incident, _INCIDENT, now),
        members=_all_until(incident.members, _MEMBER, now),
        timeline=_all_until(incident.timeline, ("at",), now),
    )


def _all_until(many: Iterable[_S], names: Iterable[str], now: float) -> tuple[_S, ...]:
    return tuple(_until(one, names, now) for one in many)


def _until(one: _S, names: Iterable[str], now: float) -> _S:
    times = ((name, getattr(one, name)) for name in names)
    late = {name: now for name, at in times if at is not None and at > now}
    return msgspec.structs.replace(one, **late) if late else one
