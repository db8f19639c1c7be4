"""Results of cases, verdicts of gates."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select

from fairlead.domain.verdicts import GateOutcome
from fairlead.store.database import Database, as_rows
from fairlead.store.evaluation import ANSWER_BYTES_MAX, CaseResultRow, GateResultRow
from fairlead.store.schema import case_results, gate_results

_CASES_AT_ONCE = 500
_CASE = CaseResultRow.__struct_fields__
_GATE = ("rollout", "release", "gate", "outcome", "document", "at")


class SqlEvaluations:
    """Implements `EvaluationStore`."""

    _db: Database

    def put_case_results(self, results: Sequence[CaseResultRow]) -> None:
        if not results:
            return
        rows = [
            {**row, "answer": _cut(row["answer"]), "error": row["error"] and _cut(row["error"])}
            for row in as_rows(results, _CASE)
        ]
        statement = self._db.insert(case_results)
        newer = {name: statement.excluded[name] for name in _CASE[3:]}
        with self._db.writing("keeping case results") as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["release", "scorer", "case_id"], set_=newer
                ),
                rows,
            )

    def case_results(
        self, release: str, scorer: str, case_ids: Sequence[str] | None = None
    ) -> list[CaseResultRow]:
        query = select(*(case_results.c[name] for name in _CASE)).where(
            case_results.c.release == release, case_results.c.scorer == scorer
        )
        queries = [query]
        if case_ids is not None:
            wanted = sorted(set(case_ids))
            queries = [
                query.where(case_results.c.case_id.in_(wanted[at : at + _CASES_AT_ONCE]))
                for at in range(0, len(wanted), _CASES_AT_ONCE)
            ]
        with self._db.reading("reading case results") as connection:
            return [
                CaseResultRow(*row)
                for one in queries
                for row in connection.execute(one.order_by(case_results.c.case_id))
            ]

    def delete_case_results(self, releases: Sequence[str], scorer_prefix: str) -> None:
        statement = delete(case_results).where(
            case_results.c.release.in_(releases),
            case_results.c.scorer.startswith(scorer_prefix, autoescape=True),
        )
        with self._db.writing("deleting case results") as connection:
            connection.execute(statement)

    def put_gate_results(self, results: Sequence[GateResultRow]) -> None:
        if results:
            with self._db.writing("keeping gate results") as connection:
                connection.execute(insert(gate_results), as_rows(results, _GATE))

    def gate_results(
        self, *, rollout: str | None = None, release: str | None = None, limit: int = 100
    ) -> list[GateResultRow]:
        query = select(*(gate_results.c[name] for name in _GATE), gate_results.c.id)
        if rollout is not None:
            query = query.where(gate_results.c.rollout == rollout)
        if release is not None:
            query = query.where(gate_results.c.release == release)
        with self._db.reading("reading gate results") as connection:
            rows = connection.execute(query.order_by(gate_results.c.id.desc()).limit(limit)).all()
        return [
            GateResultRow(
                rollout=row.rollout,
                release=row.release,
                gate=row.gate,
                outcome=GateOutcome(row.outcome),
                document=row.document,
                at=row.at,
                id=row.id,
            )
            for row in reversed(rows)
        ]


def _cut(text: str) -> str:
    """At most `ANSWER_BYTES_MAX` bytes, whole characters only; lone surrogates become `?`."""
    return text.encode(errors="replace")[:ANSWER_BYTES_MAX].decode(errors="ignore")
