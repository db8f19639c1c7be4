"""Reading records: for the judge, in a fixed order; for people, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    func,
    not_,
    or_,
    select,
    tuple_,
)

from fairlead.domain.outcomes import (
    CLIENT_ERRORS,
    NO_ROOM,
    NOT_FAILED,
    SERVER_ERRORS,
    SHADOW,
    SHADOW_ID_SUFFIX,
)
from fairlead.store.database import Database
from fairlead.store.rows import (
    AssignedRequest,
    FeedbackRow,
    GivenFeedback,
    PairRow,
    RecordFilter,
    RequestRow,
)
from fairlead.store.schema import feedback, records

_ASSIGNED = tuple(name for name in AssignedRequest.__struct_fields__ if name != "feedback")


def _failed(table: FromClause) -> ColumnElement[bool]:
    c = table.c
    return or_(
        c.status >= SERVER_ERRORS,
        c.status == NO_ROOM,
        and_(c.error.not_in(NOT_FAILED), c.status < CLIENT_ERRORS),
    )


FAILED = _failed(records)
"""`fairlead.domain.outcomes.failed_by_server` in SQL."""


class SqlRecords:
    """Implements the reading half of `TelemetryStore`, figures excepted."""

    _db: Database

    def assigned_requests(
        self, rollout: str, *, after: float, until: float, after_id: str = "", limit: int = 10_000
    ) -> list[AssignedRequest]:
        # The second is literally the condition of the partial index.
        of = (records.c.rollout == rollout, records.c.rollout != "")
        return self._requests(of, (after, after_id), until, limit)

    def served_requests(
        self,
        service: str,
        release: str,
        *,
        after: float,
        until: float,
        after_id: str = "",
        limit: int = 10_000,
    ) -> list[AssignedRequest]:
        of = (records.c.service == service, records.c.release == release)
        return self._requests(of, (after, after_id), until, limit)

    def _requests(
        self,
        of: Sequence[ColumnElement[bool]],
        position: tuple[float, str],
        until: float,
        limit: int,
    ) -> list[AssignedRequest]:
        c = records.c
        wanted = (
            select(*[c[name] for name in _ASSIGNED])
            .where(
                *of,
                c.arm != SHADOW,
                tuple_(c.started_at, c.id) > tuple_(*position),
                c.started_at < until,
            )
            .order_by(c.started_at, c.id)
            .limit(limit)
            .subquery()
        )
        f = feedback.c
        query = (
            select(wanted, f.name, f.value, f.at)
            .outerjoin_from(wanted, feedback, f.request == wanted.c.id)
            .order_by(wanted.c.started_at, wanted.c.id, f.at, f.id)
        )
        found: list[AssignedRequest] = []
        with self._db.reading("reading requests for a judge") as connection:
            for row in connection.execute(query):
                if not found or found[-1].id != row.id:
                    facts = dict(zip(_ASSIGNED, row, strict=False))
                    found.append(AssignedRequest(**facts, feedback=[]))
                if row.name is not None:
                    found[-1].feedback.append(GivenFeedback(row.name, row.value, row.at))
        return found

    def units_under(
        self, rollout: str, *, phase: int, arm: str, since: float, until: float, limit: int
    ) -> list[str]:
        c = records.c
        query = (
            select(c.unit)
            .where(
                c.rollout == rollout,
                c.rollout != "",
                c.started_at >= since,
                c.started_at < until,
                c.phase == phase,
                c.arm == arm,
            )
            .group_by(c.unit)
            .order_by(func.max(c.started_at).desc(), c.unit)
            .limit(limit)
        )
        with self._db.reading(f"reading units of rollout {rollout}") as connection:
            return [row.unit for row in connection.execute(query)]

    def record(self, request_id: str) -> tuple[RequestRow, list[FeedbackRow]] | None:
        given = select(feedback).where(feedback.c.request == request_id)
        with self._db.reading(f"reading request {request_id}") as connection:
            row = connection.execute(select(records).where(records.c.id == request_id)).first()
            if row is None:
                return None
            rows = connection.execute(given.order_by(feedback.c.at, feedback.c.id)).all()
        return RequestRow(*row), [FeedbackRow(*one) for one in rows]

    def records(
        self,
        wanted: RecordFilter | None = None,
        *,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[RequestRow]:
        query = select(records).where(*_conditions(wanted or RecordFilter()))
        if before is not None:
            query = query.where(tuple_(records.c.started_at, records.c.id) < tuple_(*before))
        query = query.order_by(records.c.started_at.desc(), records.c.id.desc()).limit(limit)
        with self._db.reading("reading records") as connection:
            return [RequestRow(*row) for row in connection.execute(query)]

    def count_served(self, release: str, rollout: str | None = None) -> int:
        query = select(func.count()).where(records.c.release == release, records.c.arm != SHADOW)
        if rollout is not None:
            query = query.where(records.c.rollout == rollout, records.c.rollout != "")
        with self._db.reading("counting requests") as connection:
            return connection.execute(query).scalar_one()

    def shadow_pairs(
        self, rollout: str, *, after: tuple[float, str], until: float, limit: int = 5_000
    ) -> list[PairRow]:
        table = records.alias("live")
        live, copy = table.c, records.c
        query: Select[Any] = (
            select(
                copy.id, copy.started_at,
                live.status, live.error, live.attempts, live.duration_ms,
                copy.status, copy.error, copy.attempts, copy.duration_ms,
                live.unit,
                live.refused, live.malformed, copy.refused, copy.malformed,
                live.guardrail_hits, copy.guardrail_hits,
            )
            .join_from(records, table, live.id == func.substr(copy.id, 1, _id_length(copy.id)))
            .where(
                copy.rollout == rollout,
                copy.rollout != "",
                copy.arm == SHADOW,
                tuple_(copy.started_at, copy.id) > tuple_(*after),
                copy.started_at < until,
            )
            .order_by(copy.started_at, copy.id)
            .limit(limit)
        )  # fmt: skip
        with self._db.reading(f"reading copies of rollout {rollout}") as connection:
            return [PairRow(*row) for row in connection.execute(query)]


def _id_length(copy_id: ColumnElement[str]) -> ColumnElement[int]:
    return func.length(copy_id) - len(SHADOW_ID_SUFFIX)


def _conditions(wanted: RecordFilter) -> list[ColumnElement[bool]]:
    equal = {
        records.c.service: wanted.service,
        records.c.release: wanted.release,
        records.c.rollout: wanted.rollout,
        records.c.arm: wanted.arm,
        records.c.key: wanted.key,
    }
    conditions: list[ColumnElement[bool]] = [
        column == value for column, value in equal.items() if value is not None
    ]
    if wanted.rollout:
        conditions.append(records.c.rollout != "")
    if wanted.since is not None:
        conditions.append(records.c.started_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(records.c.started_at < wanted.until)
    if wanted.failed is not None:
        conditions.append(and_(FAILED) if wanted.failed else not_(FAILED))
    return conditions
