"""Figures of releases: counts, sums, and exact quantiles, computed inside the database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, case, func, not_, or_, select

from fairlead.domain.outcomes import SHADOW
from fairlead.store.database import Database
from fairlead.store.rows import FeedbackFigures, Quantiles, ReleaseFigures
from fairlead.store.schema import feedback, records
from fairlead.store.sql.records import FAILED

_PERCENTS = (50, 95, 99)
_Key = tuple[str, str]
_Where = Sequence[ColumnElement[bool]]


class SqlFigures:
    """Implements `TelemetryStore.release_figures`."""

    _db: Database

    def release_figures(
        self, service: str | None = None, *, since: float, until: float
    ) -> list[ReleaseFigures]:
        where = [
            records.c.started_at >= since,
            records.c.started_at < until,
            records.c.arm != SHADOW,
        ]
        if service is not None:
            where.append(records.c.service == service)
        with self._db.reading("reading figures") as connection:
            sums = _sums(connection, where)
            ttft = _quantiles(connection, where, records.c.ttft_ms)
            itl = _quantiles(connection, where, records.c.itl_ms)
            duration = _quantiles(connection, where, records.c.duration_ms)
            given = _feedback(connection, where)
        totals: dict[str, int] = {}
        for (name, _), (requests, *_) in sums.items():
            totals[name] = totals.get(name, 0) + requests
        return [
            ReleaseFigures(
                service=key[0],
                release=key[1],
                requests=requests,
                errors=errors,
                share=requests / totals[key[0]],
                ttft_ms=ttft.get(key),
                itl_ms=itl.get(key),
                duration_ms=duration.get(key),
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                feedback=given.get(key, {}),
            )
            for key, (requests, errors, prompt_tokens, completion_tokens) in sums.items()
        ]

    def arm_requests(self, rollout: str, *, after: float, until: float) -> dict[str, int]:
        c = records.c
        query = (
            select(c.release, func.count())
            .where(
                c.rollout == rollout,
                c.rollout != "",  # literally the condition of the partial index
                c.arm != SHADOW,
                c.started_at > after,
                c.started_at <= until,
            )
            .group_by(c.release)
        )
        with self._db.reading(f"counting requests of rollout {rollout}") as connection:
            return {release: int(count) for release, count in connection.execute(query)}


def _sums(connection: Connection, where: _Where) -> dict[_Key, tuple[int, int, int, int]]:
    c = records.c

    def reported(column: ColumnElement[int]) -> ColumnElement[int]:
        return func.sum(case((column > 0, column), else_=0))

    query = (
        select(
            c.service,
            c.release,
            func.count(),
            func.sum(case((FAILED, 1), else_=0)),
            reported(c.prompt_tokens),
            reported(c.completion_tokens),
        )
        .where(*where)
        .group_by(c.service, c.release)
        .order_by(c.service, c.release)
    )
    return {
        (service, release): (int(n), int(errors), int(prompt), int(completion))
        for service, release, n, errors, prompt, completion in connection.execute(query)
    }


def _quantiles(
    connection: Connection, where: _Where, column: ColumnElement[float]
) -> dict[_Key, Quantiles]:
    """Nearest rank: the p-th percentile of n values is the one of rank ceil(n p / 100)."""
    group = [records.c.service, records.c.release]
    ranked = (
        select(
            *group,
            column.label("measured"),
            func.row_number().over(partition_by=group, order_by=column).label("rank"),
            func.count().over(partition_by=group).label("n"),
        )
        .where(*where, column >= 0, not_(FAILED), records.c.status < 400)
        .subquery()
    )
    ranks = [(ranked.c.n * percent + 99) // 100 for percent in _PERCENTS]
    query = select(ranked).where(or_(*(ranked.c.rank == rank for rank in ranks)))
    found: dict[_Key, dict[int, float]] = {}
    counts: dict[_Key, int] = {}
    for service, release, value, rank, n in connection.execute(query):
        found.setdefault((service, release), {})[rank] = value
        counts[service, release] = n
    return {
        key: Quantiles(n, *(found[key][(n * percent + 99) // 100] for percent in _PERCENTS))
        for key, n in counts.items()
    }


def _feedback(connection: Connection, where: _Where) -> dict[_Key, dict[str, FeedbackFigures]]:
    c = records.c
    group = (c.service, c.release, feedback.c.name)
    query = (
        select(*group, func.count(), func.avg(feedback.c.value))
        .join_from(records, feedback, feedback.c.request == c.id)
        .where(*where)
        .group_by(*group)
        .order_by(*group)
    )
    found: dict[_Key, dict[str, FeedbackFigures]] = {}
    for service, release, name, count, mean in connection.execute(query):
        found.setdefault((service, release), {})[name] = FeedbackFigures(count, mean)
    return found
