"""What watching reads and keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Select, delete, func, select, tuple_

from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.domain.outcomes import SHADOW
from fairlead.store.database import Database, as_rows
from fairlead.store.rows import GivenRow, MinuteRow, RequestRow, TextRow
from fairlead.store.schema import documents, feedback, judgements, minutes, records, samples
from fairlead.store.watching import Position

T = TypeVar("T")
_MINUTE = MinuteRow.__struct_fields__
_REQUEST = [records.c[name] for name in RequestRow.__struct_fields__]
WAITED_FOR_S = 600.0
_AT_ONCE = 500
"""Keys in one statement: SQLite takes some thousand parameters at most."""


class SqlWatching:
    """Implements `WatchStore`."""

    _db: Database

    def documents(self, kind: str) -> dict[str, bytes]:
        return self.documents_under(kind, "")

    def documents_under(self, kind: str, beginning: str) -> dict[str, bytes]:
        query = _under(select(documents.c.key, documents.c.document), kind, beginning)
        with self._db.reading(f"reading documents of kind {kind}") as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def keys_under(self, kind: str, beginning: str) -> list[str]:
        query = _under(select(documents.c.key), kind, beginning)
        with self._db.reading(f"reading documents of kind {kind}") as connection:
            return list(connection.scalars(query))

    def commit_documents(
        self,
        puts: Mapping[tuple[str, str], bytes],
        deletes: Collection[tuple[str, str]] = (),
        *,
        minutes: Sequence[MinuteRow] = (),
    ) -> None:
        if not puts and not deletes and not minutes:
            return
        with self._db.writing("keeping documents") as connection:
            for names in _portions(list(deletes)):
                named = tuple_(documents.c.kind, documents.c.key).in_(names)
                connection.execute(delete(documents).where(named))
            if puts:
                self._put(connection, puts)
            if minutes:
                self._add(connection, minutes)

    def minutes(self, service: str, since: float) -> list[MinuteRow]:
        c = minutes.c
        query = (
            select(*[c[name] for name in _MINUTE])
            .where(c.service == service, c.minute >= since)
            .order_by(c.minute, c.promise)
        )
        with self._db.reading(f"reading counts of {service}") as connection:
            return [MinuteRow(*row) for row in connection.execute(query)]

    def prune_minutes(self, before: float, *, limit: int = 5_000) -> int:
        oldest = select(minutes.c.minute).where(minutes.c.minute < before)
        oldest = oldest.order_by(minutes.c.minute).limit(limit)
        with self._db.writing("deleting old counts") as connection:
            last = connection.execute(select(func.max(oldest.subquery().c.minute))).scalar()
            if last is None:
                return 0
            return connection.execute(delete(minutes).where(minutes.c.minute <= last)).rowcount

    def requests_after(
        self, service: str, after: Position, *, until: float, limit: int = 1_000
    ) -> list[RequestRow]:
        c = records.c
        query = _beyond(select(*_REQUEST), (c.started_at, c.id), after, until).limit(limit)
        query = query.where(c.service == service)
        with self._db.reading(f"reading requests of {service}") as connection:
            return [RequestRow(*row) for row in connection.execute(query)]

    def feedback_after(
        self, service: str, after: Position, *, until: float, limit: int = 1_000
    ) -> list[GivenRow]:
        f = feedback.c
        query = (
            select(f.id, f.name, f.value, f.at, *_REQUEST)
            .join_from(feedback, records, records.c.id == f.request)
            .where(
                # Not by the index of services: it would go through all of its requests, each time.
                records.c.service.concat("") == service,
                f.name.not_in((JUDGED, UNJUDGED)),
            )
        )
        query = _beyond(query, (f.at, f.id), after, until).limit(limit)
        with self._db.reading(f"reading feedback on {service}") as connection:
            return [
                GivenRow(row[0], row[1], row[2], row[3], RequestRow(*row[4:]))
                for row in connection.execute(query)
            ]

    def judged_after(
        self, service: str, after: Position, *, until: float, limit: int = 1_000
    ) -> list[GivenRow]:
        j = judgements.c
        asked = select(func.min(j.at)).where(
            j.service == service, j.outcome == "asked", j.at > until - WAITED_FOR_S
        )
        with self._db.reading(f"reading judgements of {service}") as connection:
            oldest = connection.execute(asked).scalar()
            query = (
                select(j.request, j.score, j.at, j.rollout, *_REQUEST)
                .join_from(judgements, records, records.c.id == j.request)
                .where(j.service == service, j.outcome == "judged")
            )
            until = until if oldest is None else min(until, oldest)
            query = _beyond(query, (j.at, j.request), after, until).limit(limit)
            return [
                GivenRow(row[0], JUDGED, row[1], row[2], RequestRow(*row[4:]), row[3])
                for row in connection.execute(query)
            ]

    def texts_after(
        self, service: str, after: Position, *, until: float, limit: int = 200
    ) -> list[TextRow]:
        s = samples.c
        query = (
            select(s.at, s.prompt, s.answer, s.is_cut, *_REQUEST)
            .join_from(samples, records, records.c.id == s.id)
            .where(s.service == service)
        )
        query = _beyond(query, (s.at, s.id), after, until).limit(limit)
        with self._db.reading(f"reading samples of {service}") as connection:
            return [
                TextRow(row[0], row[1], row[2], row[3], RequestRow(*row[4:]))
                for row in connection.execute(query)
            ]

    def kept_samples(self, ids: Collection[str]) -> set[str]:
        found: set[str] = set()
        with self._db.reading("looking for samples") as connection:
            for names in _portions(list(ids)):
                query = select(samples.c.id).where(samples.c.id.in_(names))
                found.update(connection.scalars(query))
        return found

    def _put(self, connection: Connection, puts: Mapping[tuple[str, str], bytes]) -> None:
        statement = self._db.insert(documents)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["kind", "key"], set_={"document": statement.excluded.document}
            ),
            [
                {"kind": kind, "key": key, "document": document}
                for (kind, key), document in puts.items()
            ],
        )

    def _add(self, connection: Connection, rows: Sequence[MinuteRow]) -> None:
        statement = self._db.insert(minutes)
        c, given = minutes.c, statement.excluded
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["service", "minute", "promise"],
                set_={"total": c.total + given.total, "bad": c.bad + given.bad},
            ),
            as_rows(rows, _MINUTE),
        )


def _beyond(
    query: Select[Any], place: tuple[Column[Any], Column[Any]], after: Position, until: float
) -> Select[Any]:
    """In the order of `place` (time, id), from `after` on until that time; of clients' requests."""
    return query.where(
        records.c.arm != SHADOW, tuple_(*place) > tuple_(*after), place[0] < until
    ).order_by(*place)


def _under(query: Select[Any], kind: str, beginning: str) -> Select[Any]:
    """Of the keys that begin so; by the index, and by the letter."""
    c = documents.c
    query = query.where(c.kind == kind).order_by(c.key)
    if not beginning:
        return query
    beyond = beginning[:-1] + chr(ord(beginning[-1]) + 1)
    return query.where(c.key >= beginning, c.key < beyond)


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
