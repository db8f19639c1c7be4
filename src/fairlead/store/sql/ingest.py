"""Taking in records: the observer's side, and retention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, update

from fairlead.domain.recorded import Cursor
from fairlead.store.database import Database, as_rows
from fairlead.store.intake import Feedback, Request, Sample, Warned
from fairlead.store.rows import FeedbackRow, IngestCounts, RequestRow, SampleRow, SpoolCursor
from fairlead.store.schema import events, feedback, judgements, records, rollouts, spools
from fairlead.store.schema import samples as samples_table

_REQUEST = RequestRow.__struct_fields__
_FEEDBACK = FeedbackRow.__struct_fields__
_SAMPLE = SampleRow.__struct_fields__
_CURSOR = SpoolCursor.__struct_fields__
_request_values = attrgetter(*_REQUEST)
_feedback_values = attrgetter(*_FEEDBACK)


_BUDGET_S = 86_400.0
"""The budget of a day counts the judgements of a day."""


class SqlIngest:
    """Implements the writing half of `TelemetryStore`."""

    _db: Database

    def open_spool(self, boot: str) -> SpoolCursor:
        with self._db.writing(f"opening spool {boot}") as connection:
            return self._cursor(connection, boot)

    def open_spools(self) -> Mapping[str, SpoolCursor]:
        query = select(spools).where(spools.c.closed.is_(False))
        with self._db.reading("reading spools") as connection:
            return {row.boot: _to_cursor(row) for row in connection.execute(query)}

    def ingest(
        self,
        boot: str,
        records: Sequence[Request],
        feedback: Sequence[Feedback],
        cursor: Cursor,
        warnings: Sequence[Warned] = (),
        samples: Sequence[Sample] = (),
    ) -> IngestCounts:
        with self._db.writing(f"taking in records of spool {boot}") as connection:
            before = self._cursor(connection, boot)
            if (cursor.segment, cursor.offset) < (before.segment, before.offset):
                return IngestCounts(0, 0)  # a reader that was overtaken: all of it is in already
            counts = IngestCounts(*self._insert(connection, records, feedback))
            self._insert_new(connection, samples_table, as_rows(samples, _SAMPLE))
            connection.execute(
                update(spools)
                .where(spools.c.boot == boot)
                .values(
                    segment=cursor.segment,
                    offset=cursor.offset,
                    complete_until=max(cursor.complete_until, before.complete_until),
                    closed=cursor.closed or before.closed,
                    broken=max(cursor.broken, before.broken),
                )
            )
            if warnings:
                connection.execute(insert(events), [_event(warning) for warning in warnings])
        return counts

    def watermark(self) -> float:
        with self._db.reading("reading the watermark") as connection:
            return _watermark(connection)

    def prune(self, before: float, *, limit: int = 5_000) -> int:
        newest_closed = (
            select(spools.c.boot)
            .where(spools.c.closed.is_(True))
            .order_by(spools.c.complete_until.desc())
            .limit(1)
        )
        with self._db.writing("pruning records") as connection:
            count = _prune(connection, records, records.c.started_at, before, limit)
            count += _prune(connection, feedback, feedback.c.at, before, limit)
            count += _prune_judgements(connection, before - _BUDGET_S, limit)
            # The newest closed spool is what the watermark rests on when none is open.
            connection.execute(
                delete(spools).where(
                    spools.c.closed.is_(True),
                    spools.c.complete_until < before,
                    spools.c.boot.not_in(newest_closed),
                )
            )
        return count

    def _cursor(self, connection: Connection, boot: str) -> SpoolCursor:
        """The spool's cursor, locked until the end of the transaction; made if there is none."""
        query = select(spools).where(spools.c.boot == boot).with_for_update()
        row = connection.execute(query).first()
        if row is not None:
            return _to_cursor(row)
        cursor = SpoolCursor(complete_until=_watermark(connection))
        values = {name: getattr(cursor, name) for name in _CURSOR}
        connection.execute(insert(spools).values(boot=boot, **values))
        return cursor

    def _insert(
        self, connection: Connection, requests: Sequence[Request], given: Sequence[Feedback]
    ) -> tuple[int, int]:
        counts = []
        for table, rows in (
            (
                records,
                [dict(zip(_REQUEST, _request_values(item), strict=True)) for item in requests],
            ),
            (
                feedback,
                [dict(zip(_FEEDBACK, _feedback_values(item), strict=True)) for item in given],
            ),
        ):
            counts.append(self._insert_new(connection, table, rows))
        return counts[0], counts[1]

    def _insert_new(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> int:
        if not rows:
            return 0
        statement = self._db.insert(table).on_conflict_do_nothing(index_elements=["id"])
        return max(0, connection.execute(statement, rows).rowcount)


def _watermark(connection: Connection) -> float:
    oldest_open = func.min(spools.c.complete_until).filter(spools.c.closed.is_(False))
    newest_closed = func.max(spools.c.complete_until).filter(spools.c.closed.is_(True))
    row = connection.execute(select(oldest_open, newest_closed)).one()
    return next((value for value in row if value is not None), 0.0)


def _prune_judgements(connection: Connection, before: float, limit: int) -> int:
    active = select(rollouts.c.id).where(rollouts.c.active.is_(True))
    found = (
        select(judgements.c.request)
        .outerjoin(records, records.c.id == judgements.c.request)
        .where(judgements.c.at < before, records.c.id.is_(None))
        .where(judgements.c.rollout.not_in(active))
        .limit(limit)
    )
    chosen = list(connection.execute(found).scalars())
    for start in range(0, len(chosen), 500):
        some = judgements.c.request.in_(chosen[start : start + 500])
        connection.execute(delete(judgements).where(some))
    return len(chosen)


def _prune(
    connection: Connection, table: Table, time: ColumnElement[float], before: float, limit: int
) -> int:
    oldest = select(table.c.id).where(time < before).order_by(time).limit(limit)
    return connection.execute(delete(table).where(table.c.id.in_(oldest))).rowcount


def _to_cursor(row: Any) -> SpoolCursor:
    return SpoolCursor(row.segment, row.offset, row.complete_until, row.closed, row.broken)


def _event(warning: Warned) -> dict[str, Any]:
    return {
        "at": warning.at,
        "kind": "spool_damaged",
        "message": warning.message,
        "service": "",
        "rollout": "",
        "data": b"{}",
    }
