"""The desk in the store: a document for each alert, incident, silence and audit entry.

Only what has changed is written. What cannot be read any more is left where it is and is missing
here: an alert begins anew, since its condition still holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from fairlead.control.documents import read_all
from fairlead.monitoring.actions import ActionEntry
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.desk import Desk
from fairlead.monitoring.incidents import Incident
from fairlead.monitoring.silences import Silence
from fairlead.monitoring.telling import Told
from fairlead.store.watching import DocumentStore

ALERT, INCIDENT, TOLD, SILENCE, ACTION = "alert", "incident", "told", "silence", "action"
KINDS: dict[str, type] = {
    ALERT: Alert,
    INCIDENT: Incident,
    TOLD: Told,
    SILENCE: Silence,
    ACTION: ActionEntry,
}
Key = tuple[str, str]
T = TypeVar("T")


class DeskDocuments:
    """Reads the desk and keeps it. For one thread at a time."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self._kept: dict[Key, Any] = {}

    def load(self) -> Desk:
        """What is kept; raises FairleadError when the store does."""
        found: dict[str, dict[str, Any]] = {
            kind: read_all(self._store, kind, of) for kind, of in KINDS.items()
        }
        self._kept = {
            (kind, key): each
            for kind, documents in found.items()
            for key, each in documents.items()
        }
        return Desk(
            alerts=found[ALERT],
            incidents=tuple(found[INCIDENT].values()),
            told=found[TOLD],
            silences=tuple(found[SILENCE].values()),
            audit=tuple(found[ACTION].values()),
        )

    def save(self, desk: Desk) -> None:
        """Keep what is new, and let go of what is gone; all of it or nothing."""
        now = dict(_documents(desk))
        puts = {
            key: msgspec.json.encode(each)
            for key, each in now.items()
            if self._kept.get(key) != each
        }
        self._store.commit_documents(puts, [key for key in self._kept if key not in now])
        self._kept = now


def _documents(desk: Desk) -> Iterator[tuple[Key, Any]]:
    """Each with its key; keys of incidents and actions are in the order in which they came."""
    yield from _of(ALERT, desk.alerts)
    yield from _of(TOLD, desk.told)
    yield from ((((INCIDENT, f"{one.number:09d}")), one) for one in desk.incidents)
    yield from (((SILENCE, one.id), one) for one in desk.silences)
    yield from (((ACTION, _name(entry)), entry) for entry in desk.audit)


def _of(kind: str, given: Mapping[str, T]) -> Iterator[tuple[Key, T]]:
    return (((kind, key), each) for key, each in given.items())


def _name(entry: ActionEntry) -> str:
    """Its time first, so that the audit is read in order; then what tells it from all others."""
    told = hashlib.sha256(msgspec.json.encode(entry.key)).hexdigest()[:16]
    return f"{entry.at:017.6f}-{told}"
