"""What the store keeps of the monitors of one service: read, written where it changed, let go of.

A monitor has a document and parts of it (`parts`). A document and all its parts change in one
transaction, so that what is read is of one moment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fairlead.control.watching.release_monitors import MONITOR, PART, Key, last_seen
from fairlead.domain.release import short
from fairlead.store.rows import MinuteRow
from fairlead.store.watching import WatchStore

SWEEP_S = 300.0
UNASKED_S = 86_400.0
"""What is kept of a release is deleted when nobody has asked it for so long."""


class KeptDocuments:
    """For one thread at a time. Nothing has changed when the store raises."""

    def __init__(self, store: WatchStore, service: str) -> None:
        self._store = store
        self._service = service
        self._written: dict[Key, int] = {}
        self._swept_at = 0.0

    def of_release(self, release: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Documents of a release's monitors, and parts of them, by key."""
        own = f"{self._service}/{short(release)}/"
        parts = self._store.documents_under(PART, own)
        found = self._store.documents_under(MONITOR, own)
        self._written.update(dict.fromkeys(((PART, key) for key in parts), 0))
        return found, parts

    def commit(
        self,
        puts: Mapping[Key, bytes],
        named: Mapping[str, Collection[Key]],
        now: float,
        minutes: Sequence[MinuteRow],
    ) -> None:
        """Keep what has changed since the last time.

        Args:
            puts: All that is to be kept; what is not among it stays as it was.
            named: By release that is watched, all that there may be of it.
        """
        fresh = {key: 0 if key[0] == PART else hash(puts[key]) for key in puts}
        changed = {key: puts[key] for key in puts if self._written.get(key) != fresh[key]}
        is_due = not 0.0 <= now - self._swept_at < SWEEP_S
        gone = {*self._unused(fresh), *(self._stale(named, now) if is_due else ())}
        self._store.commit_documents(changed, gone, minutes=minutes)
        written = {**self._written, **fresh}
        self._written = {key: each for key, each in written.items() if key not in gone}
        self._swept_at = now if is_due else self._swept_at

    def sweep_soon(self) -> None:
        """Look with the next commit for what is not needed any more."""
        self._swept_at = 0.0

    def drop(self, *also: Key) -> None:
        """Keep nothing of the service's monitors."""
        keys = [(kind, key) for kind in (MONITOR, PART) for key in self._keys(kind)]
        self._store.commit_documents({}, [*keys, *also])
        self._written.clear()

    def _unused(self, fresh: Mapping[Key, int]) -> list[Key]:
        """Parts that a document which is kept anew has no more."""
        return [
            (kind, key)
            for kind, key in self._written
            if kind == PART and (kind, key) not in fresh and (MONITOR, _whose(key)) in fresh
        ]

    def _stale(self, named: Mapping[str, Collection[Key]], now: float) -> list[Key]:
        """Documents of monitors that are turned off, and of releases that nobody asks any more."""
        wanted = {key for keys in named.values() for _, key in keys}
        watched = tuple(f"{self._service}/{short(release)}/" for release in named)
        stored = self._store.documents_under(MONITOR, f"{self._service}/")
        stale = {
            key
            for key, document in stored.items()
            if key not in wanted
            and (key.startswith(watched) or now - last_seen(document) > UNASKED_S)
        }
        left = (wanted | stored.keys()) - stale
        parts = [(PART, key) for key in self._keys(PART) if _whose(key) not in left]
        return [*((MONITOR, key) for key in stale), *parts]

    def _keys(self, kind: str) -> list[str]:
        return self._store.keys_under(kind, f"{self._service}/")


def _whose(part: str) -> str:
    """Key of the document that a part is of."""
    return part.rpartition("/")[0]
