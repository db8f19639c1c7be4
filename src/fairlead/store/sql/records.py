"""Reading records: for the judge, in a fixed order; for people, newest first."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, not_, or_, select, tuple_

from fairlead.domain.outcomes import ANSWERED_WELL, CLIENT_ERRORS, NO_ROOM, SERVER_ERRORS
from fairlead.store.database import Database
from fairlead.store.rows import (
    AssignedRequest,
    FeedbackRow,
    GivenFeedback,
    RecordFilter,
    RequestRow,
)
from fairlead.store.schema import feedback, records

FAILED = or_(
    records.c.status >= SERVER_ERRORS,
    records.c.status == NO_ROOM,
    and_(records.c.error.not_in(ANSWERED_WELL), records.c.status < CLIENT_ERRORS),
)
"""`fairlead.domain.outcomes.failed_by_server` in SQL."""


class SqlRecords:
    """Implements the reading half of `TelemetryStore`, figures excepted."""

    _db: Database

    def assigned_requests(
        self, rollout: str, *, after: float, until: float, after_id: str = "", limit: int = 10_000
    ) -> list[AssignedRequest]:
        c = records.c
        wanted = (
            select(c.id, c.unit, c.arm, c.rho, c.phase, c.status, c.error, c.attempts, c.started_at)
            .where(
                c.rollout == rollout,
                c.rollout != "",  # literally the condition of the partial index
                tuple_(c.started_at, c.id) > tuple_(after, after_id),
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
        with self._db.reading(f"reading requests of rollout {rollout}") as connection:
            for row in connection.execute(query):
                if not found or found[-1].id != row.id:
                    found.append(
                        AssignedRequest(
                            id=row.id,
                            unit=row.unit,
                            arm=row.arm,
                            rho=row.rho,
                            phase=row.phase,
                            status=row.status,
                            error=row.error,
                            attempts=row.attempts,
                            started_at=row.started_at,
                            feedback=[],
                        )
                    )
                if row.name is not None:
                    found[-1].feedback.append(GivenFeedback(row.name, row.value, row.at))
        return found

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
        query = select(func.count()).where(records.c.release == release)
        if rollout is not None:
            query = query.where(records.c.rollout == rollout, records.c.rollout != "")
        with self._db.reading("counting requests") as connection:
            return connection.execute(query).scalar_one()


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
