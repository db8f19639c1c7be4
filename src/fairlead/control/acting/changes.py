"""What happened lately, as causes of alerts and as the timelines of incidents, from events.

A change is what can be the cause of something: traffic moved, a replica ended, a provider answers
otherwise. The rest is told in timelines only. Actions are in neither: the desk has them by itself.
That a release takes over is the change by which it serves, whatever is left for the old one to
finish; that it is promoted is noted once the old one need not be kept, and changes nothing for
users.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable

from fairlead.control.acting.clock_watch import OFF as CLOCK_OFF
from fairlead.control.acting.clock_watch import RIGHT as CLOCK_RIGHT
from fairlead.control.acting.files_watch import DAMAGED
from fairlead.control.acting.judge_watch import OUT as JUDGE_OUT
from fairlead.control.acting.observer_watch import RESTARTED as OBSERVER_RESTARTED
from fairlead.control.acting.observer_watch import SILENT as OBSERVER_SILENT
from fairlead.control.acting.records_watch import UNWRITABLE
from fairlead.control.acting.replica_watch import READY, STARTED
from fairlead.control.probing.probe_events import ACCEPTED
from fairlead.domain.release import short, shortened
from fairlead.monitoring.causes import WITHIN_S, Change
from fairlead.monitoring.conditions import labels_of
from fairlead.monitoring.incidents import Event
from fairlead.store.interface import RolloutStore
from fairlead.store.rows import EventRow

KEPT_MAX = 5_000
KEEP_S = WITHIN_S + 3_600.0
FIRST_READ = 1_000
PAGE = 1_000
WORDS_MAX = 300
_SWITCHING, _WATCHING = "rollout_switching", "rollout_watching"
_MOVES = frozenset({"shadowing", "shifting", "rolling_back"})
"""States of a rollout in which traffic moves, or replicas get more of it."""
_PROVIDER = frozenset({"unrequested_release", "provider_named_otherwise"})
_REPLICA, _FALLBACK = "replica_", frozenset({"diverted", "undiverted"})
_GUARDRAIL = frozenset({"guardrail_tightened", "guardrail_loosened"})
_PARTS = {
    CLOCK_OFF: "clock", OBSERVER_SILENT: "observer", OBSERVER_RESTARTED: "observer",
    UNWRITABLE: "records", JUDGE_OUT: "provider",
}  # fmt: skip
"""What becomes of the parts that a monitor of the platform looks at: it says of which."""
_OTHERS = {
    "champion_over_limit": "limit",
    "gates_rerun": "gate", "suite_verdict": "gate", "suite_refused": "gate",
    "spool_damaged": "records", CLOCK_RIGHT: "clock",
}  # fmt: skip
_ROOMS = {"rollout_": "rollout", "drill_": "drill", "probes_": "provider"}


class EventLog:
    """The last events of the store in memory, read on from look to look."""

    def __init__(self, store: RolloutStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._rows: deque[EventRow] = deque(maxlen=KEPT_MAX)
        self._last_id: int | None = None

    async def read(self) -> list[EventRow]:
        """Take in what is new, and say it; raises what the store raises."""
        fresh = await asyncio.to_thread(self._read)
        self._rows.extend(fresh)
        if fresh:
            self._last_id = fresh[-1].id
        elif self._last_id is None:
            self._last_id = 0
        oldest = self._now() - KEEP_S
        while self._rows and self._rows[0].at < oldest:
            self._rows.popleft()
        return fresh

    def _read(self) -> list[EventRow]:
        if self._last_id is None:
            return self._store.events(limit=FIRST_READ, newest=True)
        found, last = list[EventRow](), self._last_id
        while len(found) < KEPT_MAX:
            page = self._store.events(after_id=last, limit=PAGE)
            found += page
            if len(page) < PAGE:
                break
            last = page[-1].id
        return found

    def rows(self, since: float) -> list[EventRow]:
        """What happened since then, in the order in which it was kept."""
        return [row for row in self._rows if row.at >= since]

    def changes(self, since: float) -> list[Change]:
        """What was changed since then, or changed by itself."""
        found = (change_of(row) for row in self.rows(since))
        return [change for change in found if change is not None]

    def events(self, since: float) -> list[Event]:
        """What else happened since then."""
        found = (event_of(row) for row in self.rows(since))
        return [event for event in found if event is not None]


def change_of(row: EventRow) -> Change | None:
    """What an event says was changed; None where that is nothing."""
    kind = _change_kind(row)
    return None if kind is None else Change(row.at, kind, _words(row), _labels(row), _since(row))


def event_of(row: EventRow) -> Event | None:
    """What an event tells that was no change; None for what is told elsewhere or of no interest."""
    if _change_kind(row) is not None:
        return None
    kind = _OTHERS.get(row.kind)
    for prefix, room in _ROOMS.items():
        if kind is None and row.kind.startswith(prefix):
            kind = room
    return None if kind is None else Event(row.at, kind, _words(row), _labels(row))


def _change_kind(row: EventRow) -> str | None:
    if _takes_over(row):
        return "release"
    if row.kind in (_SWITCHING, _WATCHING):
        # The last of those who were to finish on the old release move, too; else nothing does.
        return "rollout" if _data(row).get("origin") == "watching" else None
    if row.kind == DAMAGED:
        return "files"
    if row.kind in _PARTS:
        return _PARTS[row.kind]
    if row.kind.startswith("rollout_"):
        return "rollout" if row.kind.removeprefix("rollout_") in _MOVES else None
    if row.kind.startswith(_REPLICA):
        return "replica"
    if row.kind == "settings_changed":
        return "price" if "price" in _changed(row) else "settings"
    if row.kind in _PROVIDER:
        return "provider"
    if row.kind in _GUARDRAIL:
        return "settings"
    serves_again = row.kind == ACCEPTED and _data(row).get("serves_again") is True
    return "fallback" if serves_again or row.kind in _FALLBACK else None


def _takes_over(row: EventRow) -> bool:
    """Whether this is the switch of all traffic that is to move now, and not of the rest later."""
    return row.kind == _SWITCHING and _data(row).get("origin", "promoting") == "promoting"


def _words(row: EventRow) -> str:
    """In the order in which a person looks for it: what it is, and why."""
    if not row.kind.startswith("rollout_"):
        return shortened(row.message)[:WORDS_MAX]
    data = _data(row)
    release = data.get("name") or short(str(data.get("release", ""))) or "a release"
    state = row.kind.removeprefix("rollout_").replace("_", " ")
    state = "takes over" if _takes_over(row) else state
    return shortened(f"release {release} {state} ({row.rollout}): {row.message}")[:WORDS_MAX]


def _labels(row: EventRow) -> tuple[tuple[str, str], ...]:
    data = _data(row)
    # That one more replica is there is noted a little late, and no change of its release.
    names = ("replica",) if row.kind in (STARTED, READY) else ("release", "replica")
    names = ("monitor", "fault") if row.kind in _PARTS else names
    named = {name: data.get(name) for name in names}
    of = {name: text[:256] for name, text in named.items() if isinstance(text, str)}
    return labels_of(service=row.service, **of)


def _since(row: EventRow) -> float | None:
    """After when it happened, where it was found by looking."""
    found = _data(row).get("since") if row.kind in _PROVIDER else None
    return float(found) if isinstance(found, int | float) else None


def _changed(row: EventRow) -> list[object]:
    found = _data(row).get("changed")
    return found if isinstance(found, list) else []


def _data(row: EventRow) -> dict[str, object]:
    try:
        found = json.loads(row.data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
