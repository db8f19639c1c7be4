"""Samples of prompts and answers, and what judge models say of them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    select,
    tuple_,
    update,
)

from fairlead.domain.outcomes import SHADOW
from fairlead.store.database import Database, as_rows
from fairlead.store.intake import Feedback
from fairlead.store.rows import (
    FeedbackRow,
    JudgementRow,
    JudgeSpend,
    SampleFilter,
    SampleRow,
    SampleToJudge,
)
from fairlead.store.schema import feedback, judgements, records, samples

_FEEDBACK = FeedbackRow.__struct_fields__
_JUDGEMENT = JudgementRow.__struct_fields__
_UNSETTLED = and_(judgements.c.outcome != "judged", judgements.c.outcome != "none")


class SqlSamples:
    """Implements `SampleStore`."""

    _db: Database

    def samples(
        self,
        wanted: SampleFilter,
        *,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[SampleRow]:
        query = select(samples).where(*_conditions(wanted))
        if before is not None:
            query = query.where(tuple_(samples.c.at, samples.c.id) < tuple_(*before))
        query = query.order_by(samples.c.at.desc(), samples.c.id.desc()).limit(limit)
        with self._db.reading("reading samples") as connection:
            return [SampleRow(*row) for row in connection.execute(query)]

    def count_samples(self) -> dict[str, int]:
        query = select(samples.c.service, func.count()).group_by(samples.c.service)
        with self._db.reading("counting samples") as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def delete_samples(self, wanted: SampleFilter, *, limit: int = 1_000) -> int:
        with self._db.writing("deleting samples") as connection:
            return self._delete(connection, _conditions(wanted), limit)

    def prune_samples(self, now: float, *, limit: int = 1_000) -> int:
        with self._db.writing("deleting old samples") as connection:
            return self._delete(connection, [samples.c.keep_until <= now], limit)

    def samples_of_rollout(
        self, rollout: str, *, after: float, after_id: str = "", until: float, limit: int
    ) -> list[SampleToJudge]:
        c = records.c
        # The second is literally the condition of the partial index.
        chosen = (c.rollout == rollout, c.rollout != "")
        with self._db.reading(f"reading samples of rollout {rollout}") as connection:
            position = (c.started_at, c.id)
            return _to_judge(connection, chosen, position, (after, after_id), until, limit)

    def samples_to_judge(
        self,
        service: str,
        release: str,
        *,
        after: tuple[float, str],
        until: float,
        limit: int,
    ) -> list[SampleToJudge]:
        s = samples.c
        # By the samples' own index: they are few among the records.
        chosen = (s.service == service, records.c.release == release)
        with self._db.reading(f"reading samples of {service}") as connection:
            return _to_judge(connection, chosen, (s.at, s.id), after, until, limit)

    def begin_judgements(self, given_judgements: Sequence[JudgementRow]) -> None:
        if not given_judgements:
            return
        made = self._db.insert(judgements)
        statement = made.on_conflict_do_update(
            index_elements=["request"],
            set_={
                "outcome": "asked",
                "attempts": judgements.c.attempts + made.excluded.attempts,
                "usd": judgements.c.usd + made.excluded.usd,
                "at": made.excluded.at,
            },
            where=_UNSETTLED,
        )
        with self._db.writing("beginning to judge") as connection:
            connection.execute(statement, as_rows(given_judgements, _JUDGEMENT))

    def settle_judgements(
        self, given_judgements: Sequence[JudgementRow], given: Sequence[Feedback]
    ) -> None:
        with self._db.writing("keeping judgements") as connection:
            for row in given_judgements:
                # A sample that was deleted meanwhile takes the judge's words on it along.
                is_kept = exists().where(samples.c.id == row.request)
                reason = case((is_kept, row.reason), else_="")
                connection.execute(
                    update(judgements)
                    .where(
                        judgements.c.request == row.request,
                        _UNSETTLED,
                    )
                    .values(outcome=row.outcome, score=row.score, reason=reason, usd=row.usd)
                )
            if given:
                statement = self._db.insert(feedback).on_conflict_do_nothing(index_elements=["id"])
                connection.execute(statement, as_rows(given, _FEEDBACK))

    def judge_spend(
        self, *, service: str | None = None, rollout: str | None = None, since: float = 0.0
    ) -> JudgeSpend:
        c = judgements.c
        query = select(
            func.coalesce(func.sum(c.usd), 0.0),
            func.coalesce(func.sum(c.attempts), 0),
            func.coalesce(func.sum(case((c.outcome == "judged", 1), else_=0)), 0),
            func.coalesce(func.sum(case((c.outcome == "none", 1), else_=0)), 0),
        ).where(c.at >= since)
        if service is not None:
            query = query.where(c.service == service)
        if rollout is not None:
            query = query.where(c.rollout == rollout)
        with self._db.reading("reading the cost of judging") as connection:
            usd, asked, judged, unjudged = connection.execute(query).one()
        return JudgeSpend(float(usd), int(asked), int(judged), int(unjudged))

    def _delete(
        self, connection: Connection, conditions: list[ColumnElement[bool]], limit: int
    ) -> int:
        """Delete, overwrite what was there, and forget the judge's words on it."""
        query = select(samples.c.id).where(*conditions).order_by(samples.c.at).limit(limit)
        found = list(connection.execute(query).scalars())
        if not found:
            return 0
        is_sqlite = connection.dialect.name == "sqlite"
        if is_sqlite:
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
        for start in range(0, len(found), 500):
            some = found[start : start + 500]
            words = judgements.c.request.in_(some)
            connection.execute(update(judgements).where(words).values(reason=""))
            connection.execute(delete(samples).where(samples.c.id.in_(some)))
        if is_sqlite:
            connection.exec_driver_sql("PRAGMA secure_delete=OFF")
        return len(found)


def _to_judge(
    connection: Connection,
    chosen: Sequence[ColumnElement[bool]],
    position: tuple[ColumnElement[float], ColumnElement[str]],
    after: tuple[float, str],
    until: float,
    limit: int,
) -> list[SampleToJudge]:
    """In the order of `position`, the columns of when it was asked and of its id."""
    c, j = records.c, judgements.c
    query = (
        select(
            c.id, c.unit, c.rho, c.status, c.error, position[0], c.phase,
            *(j[name] for name in _JUDGEMENT),
        )
        .join_from(records, samples, samples.c.id == c.id)
        .outerjoin(judgements, j.request == c.id)
        .where(
            *chosen,
            c.arm != SHADOW,
            tuple_(*position) > tuple_(*after),
            position[0] < until,
        )
        .order_by(*position)
        .limit(limit)
    )  # fmt: skip
    found = []
    for request, unit, rho, status, error, at, phase, *judged in connection.execute(query):
        judgement = None if judged[0] is None else JudgementRow(*judged)
        found.append(SampleToJudge(request, unit, rho, status, error, at, judgement, phase))
    return found


def _conditions(wanted: SampleFilter) -> list[ColumnElement[bool]]:
    equal = {
        samples.c.id: wanted.request,
        samples.c.service: wanted.service,
        samples.c.key: wanted.key,
        samples.c.unit: wanted.unit,
    }
    conditions: list[ColumnElement[bool]] = [
        column == value for column, value in equal.items() if value is not None
    ]
    if wanted.rollout is not None:
        of_rollout = select(records.c.id).where(
            records.c.rollout == wanted.rollout, records.c.rollout != ""
        )
        conditions.append(samples.c.id.in_(of_rollout))
    return conditions
