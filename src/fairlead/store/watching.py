"""What watching reads and keeps: the interface."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from fairlead.store.rows import GivenRow, MinuteRow, RequestRow, TextRow

Position = tuple[float, str]
"""Where a reader is, in the order (time, id): everything up to there is read."""


class DocumentStore(Protocol):
    """Small JSON documents, each under a kind and a key; each call is one transaction."""

    def documents(self, kind: str) -> dict[str, bytes]:
        """All documents of a kind, by key, in the order of the keys."""
        ...

    def commit_documents(
        self,
        puts: Mapping[tuple[str, str], bytes],
        deletes: Collection[tuple[str, str]] = (),
        *,
        minutes: Sequence[MinuteRow] = (),
    ) -> None:
        """Keep and delete documents, by (kind, key), and add to what was counted: all or nothing.

        What is given of a minute comes on top of what is kept of it.
        """
        ...


class WatchStore(DocumentStore, Protocol):
    """Counts of watching besides, and records in the order in which monitors see them."""

    def documents_under(self, kind: str, beginning: str) -> dict[str, bytes]:
        """Documents of a kind whose key begins so, by key, in the order of the keys."""
        ...

    def keys_under(self, kind: str, beginning: str) -> list[str]:
        """Keys of a kind that begin so, in their order."""
        ...

    def minutes(self, service: str, since: float) -> list[MinuteRow]:
        """Counts of minutes that begin at `since` or later, in the order of time."""
        ...

    def prune_minutes(self, before: float, *, limit: int = 5_000) -> int:
        """Delete at most about `limit` counts of minutes that began before; says how many."""
        ...

    def requests_after(
        self, service: str, after: Position, *, until: float, limit: int = 1_000
    ) -> list[RequestRow]:
        """Clients' requests of a service in the order (started_at, id), copies left out.

        Those beyond `after` that began before `until`.
        """
        ...

    def feedback_after(
        self, service: str, after: Position, *, until: float, limit: int = 1_000
    ) -> list[GivenRow]:
        """What clients said of requests of a service, in the order (at, id), before `until`."""
        ...

    def judged_after(
        self, service: str, after: Position, *, until: float, limit: int = 1_000
    ) -> list[GivenRow]:
        """What a judge model said, in the order (when it was asked, request); `at` is that time.

        Only up to where all that was asked is settled, so that none is missed. Who has been asked
        for ten minutes before `until` is not waited for any more.
        """
        ...

    def texts_after(
        self, service: str, after: Position, *, until: float, limit: int = 200
    ) -> list[TextRow]:
        """Samples of clients' requests of a service in the order (at, id)."""
        ...

    def kept_samples(self, ids: Collection[str]) -> set[str]:
        """Which of these samples are kept still."""
        ...
