"""What becomes of the observer, as events: changes of what the monitor of records looks at.

The observer answers nobody; about once a second it writes down how far it is. Who says nothing for
a while hangs or has ended, and another life of it says that the one before has ended. How long it
has been silent is counted in looks: neither a clock that is set nor a control that hung accuses it.
"""

from __future__ import annotations

import msgspec

from fairlead.control.acting.beginnings import Beginnings
from fairlead.control.acting.records_watch import BEHIND, RECORDS
from fairlead.control.metrics.observer_families import SILENT_S
from fairlead.store.rows import EventRow
from fairlead.wire.observing import ObserverStanding

SILENT, RESTARTED = "observer_silent", "observer_restarted"
"""Kinds of events."""

LOOK_S_MAX = SILENT_S / 2
"""More time between two looks is none of the observer's: this process did not run."""


class ObserverWatch:
    """Remembers what the observer said last, and which life of it that was."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._life: float | None = None
        self._looked_at = 0.0
        self._silent_s = 0.0
        self._silences = Beginnings()
        self._ends = Beginnings()

    def look(self, standing: ObserverStanding | None, now: float) -> list[EventRow]:
        """Take in what it has written down, if that can be read; what has happened since."""
        if standing is None and self._at is None:
            return []
        is_heard = standing is not None and self._is_heard(standing, now)
        seconds = 0.0 if self._at is None else min(max(0.0, now - self._looked_at), LOOK_S_MAX)
        self._looked_at = now
        self._silent_s = 0.0 if is_heard else self._silent_s + seconds
        events = []
        if standing is not None:
            self._at = standing.at
        before = self._life
        if standing is not None and is_heard:
            self._life = standing.started_at
        if self._ends.among([RESTARTED] if before not in (None, self._life) else [], now):
            events.append(_told(now, RESTARTED, "the observer ended, and another one was started"))
        if self._silences.among([SILENT] if self._silent_s >= SILENT_S else [], now):
            what = f"the observer has not said anything for {self._silent_s:.0f} s"
            events.append(_told(now, SILENT, what))
        return events

    def _is_heard(self, standing: ObserverStanding, now: float) -> bool:
        """What was left by an installation that was stopped is of no observer that runs."""
        if self._at is None:
            return abs(now - standing.at) <= SILENT_S
        return standing.at != self._at


def _told(now: float, kind: str, what: str) -> EventRow:
    about = {"monitor": RECORDS, "fault": BEHIND}
    return EventRow(now, kind, what, data=msgspec.json.encode(about))
