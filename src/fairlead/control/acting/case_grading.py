"""Asks a release the cases of a suite version, and grades what it answers.

A gate whose scorer needs no expected answer is decided on its own suite with the new cases, where
results by which the release was accepted are taken over, and on the new cases alone. The service's
judge model grades answers to the new cases, within its budget of the day. All results are kept case
by case, so that a run that was interrupted goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from fairlead.control.acting.few_cases import decide_few
from fairlead.control.acting.suite_versions import SuiteVersion, needs_no_reference
from fairlead.control.judging.asking import Asker, Reply
from fairlead.control.judging.budget import day_of, stop_of
from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.shipping.evaluations import Contender, Evaluations
from fairlead.control.shipping.spec import GateSpec, ServiceSpec
from fairlead.domain.errors import FairleadError
from fairlead.domain.verdicts import GateVerdict
from fairlead.evaluation.cases import Case, Suite
from fairlead.evaluation.gates import GateRule
from fairlead.evaluation.judge_model import Exchange, JudgeModel
from fairlead.evaluation.runner import CaseResult
from fairlead.evaluation.scorers import scorer_digest
from fairlead.registry import Registry
from fairlead.store.evaluation import CaseResultRow, EvaluationStore, GateResultRow
from fairlead.store.interface import Store
from fairlead.store.rows import JudgementRow, JudgeSpend

ON_NEW = "{} on new cases"
WITH_NEW = "{} with new cases"
JUDGE = "judge"


class Graded(NamedTuple):
    """What came of it; `suites` as the version keeps them."""

    verdicts: tuple[GateVerdict, ...]
    suites: dict[str, str]


class TakenOver:
    """Finds also what the release answered when it was accepted; keeps under the run's own name."""

    def __init__(self, results: EvaluationStore) -> None:
        self._results = results

    def put_case_results(self, results: Sequence[CaseResultRow]) -> None:
        """See `EvaluationStore`."""
        self._results.put_case_results(results)

    def case_results(
        self, release: str, scorer: str, case_ids: Sequence[str] | None = None
    ) -> list[CaseResultRow]:
        """See `EvaluationStore`; of a case that both have answered, the run's own."""
        of_release = release.partition("@")[0]
        names = dict.fromkeys((of_release, release))
        found = {
            row.case_id: row
            for name in names
            for row in self._results.case_results(name, scorer, case_ids)
        }
        return list(found.values())

    def delete_case_results(self, releases: Sequence[str], scorer_prefix: str) -> None:
        """See `EvaluationStore`."""
        self._results.delete_case_results(releases, scorer_prefix)

    def put_gate_results(self, results: Sequence[GateResultRow]) -> None:
        """See `EvaluationStore`."""
        self._results.put_gate_results(results)

    def gate_results(
        self, *, rollout: str | None = None, release: str | None = None, limit: int = 100
    ) -> list[GateResultRow]:
        """See `EvaluationStore`."""
        return self._results.gate_results(rollout=rollout, release=release, limit=limit)


class CaseGrading:
    """Asks and grades.

    Args:
        asker: Asks a judge model wherever it is.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        asker: Callable[[JudgeModel], Asker],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._asker = asker
        self._now = now
        self._evaluations = Evaluations(registry, TakenOver(store), now)
        self._spending = asyncio.Lock()

    async def grade(
        self, version: SuiteVersion, spec: ServiceSpec, client: ReplicaClient
    ) -> Graded:
        """Verdicts of all that can grade; raises FairleadError."""
        cases = [one.case for one in version.asked]
        suites = {"": Suite(tuple(cases)).digest}
        verdicts: list[GateVerdict] = []
        for gate in spec.gates:
            if needs_no_reference(gate.scorer):
                found = await self._gated(version, gate, cases, client)
                verdicts += found.verdicts
                suites |= found.suites
        if spec.judge is not None:
            verdicts.append(await self._judged(version, spec.judge, cases, client))
        return Graded(tuple(verdicts), suites)

    async def _gated(
        self, version: SuiteVersion, gate: GateSpec, fresh: Sequence[Case], client: ReplicaClient
    ) -> Graded:
        """A gate's verdict on its suite with these cases, and on them alone."""
        known = (await self._evaluations.suite(gate.suite)).sample(gate.cases)
        there, new = {case.id for case in known}, {case.id for case in fresh}
        whole = Suite((*known, *(case for case in fresh if case.id not in there)))
        kept_as, rule = scorer_digest(gate.scorer), gate.rule
        asked = whole.cases if rule.minimum is not None else tuple(fresh)
        results = await self._evaluations.answers(
            gate, asked, Contender(version.asked_as, client), kept_as=kept_as
        )
        least = version.minimum if rule.minimum is None else rule.minimum
        # With itself a release needs no comparison.
        alone = msgspec.structs.replace(rule, minimum=least, margin=None)
        mine = [result for result in results if result.case in new]
        verdicts = [decide_few(_named(alone, ON_NEW), mine)]
        if rule.minimum is not None:
            verdicts.append(decide_few(_named(alone, WITH_NEW), results))
        return Graded(tuple(verdicts), {rule.name: whole.digest})

    async def _judged(
        self,
        version: SuiteVersion,
        judge: JudgeModel,
        cases: Sequence[Case],
        client: ReplicaClient,
    ) -> GateVerdict:
        """What the judge model says of the answers to these cases: each is good or is not."""
        kept_as = judged_as(judge)
        rows = await asyncio.to_thread(
            self._store.case_results, version.asked_as, kept_as, [case.id for case in cases]
        )
        known = {row.case_id: row for row in rows if row.error is None}
        asker, room = self._asker(judge), asyncio.Semaphore(judge.concurrency)

        async def result_of(case: Case) -> CaseResult:
            row = known.get(case.id)
            if row is not None:
                return CaseResult(case.id, row.score, answer=row.answer, tags=case.tags)
            async with room:
                result = await self._judged_case(version, asker, case, client)
                row = CaseResultRow(
                    version.asked_as, case.id, kept_as, result.score, result.error,
                    result.answer, result.latency_ms, self._now(),
                )  # fmt: skip
                await self._put(row)
            return result

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(result_of(case)) for case in cases]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        rule = GateRule(ON_NEW.format(JUDGE), minimum=version.minimum)
        return decide_few(rule, [task.result() for task in tasks])

    async def _put(self, row: CaseResultRow) -> None:
        """Keep it, also when cancelled meanwhile: nothing is written after that."""
        keeping = asyncio.ensure_future(asyncio.to_thread(self._store.put_case_results, [row]))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await keeping
            raise

    async def _judged_case(
        self, version: SuiteVersion, asker: Asker, case: Case, client: ReplicaClient
    ) -> CaseResult:
        try:
            answer = await client(case)
        except (FairleadError, OSError) as error:
            why = f"no answer: {error}"
            return CaseResult(case.id, None, error=why, tags=case.tags, is_answered=False)
        exchange = Exchange((("user", str(case.input)),), answer.text)
        given = CaseResult(
            case.id, None, answer=answer.text, latency_ms=answer.latency_ms, tags=case.tags
        )
        spent, why = 0.0, ""
        for _ in range(asker.judge.attempts):
            why = await self._may_ask(version, asker, exchange, case)
            if why:
                break
            reply = await asker(exchange)
            spent, why = spent + reply.usd, reply.why
            await self._settle(version, case, reply, spent)
            if reply.verdict is not None:
                is_good = reply.verdict.score >= asker.judge.good_at_least
                return msgspec.structs.replace(
                    given, score=float(is_good), reason=reply.verdict.reason
                )
            if reply.is_outage:
                break
        return msgspec.structs.replace(given, error=f"no verdict: {why}")

    async def _may_ask(
        self, version: SuiteVersion, asker: Asker, exchange: Exchange, case: Case
    ) -> str:
        """Note that it costs what it costs at the most; why that is too much, where it is."""
        usd = asker.most_usd(exchange)
        of_day = msgspec.structs.replace(asker.judge.budget, per_rollout=None, usd_per_rollout=None)

        def begin() -> str:
            now = self._now()
            today = self._store.judge_spend(service=version.service, since=day_of(now))
            stop = stop_of(of_day, today, JudgeSpend(), usd, 1)
            if stop is not None:
                return stop.why
            row = self._row(version, case, attempts=1, usd=usd)
            self._store.begin_judgements([row])
            return ""

        async with self._spending:
            return await asyncio.to_thread(begin)

    async def _settle(self, version: SuiteVersion, case: Case, reply: Reply, usd: float) -> None:
        row = msgspec.structs.replace(
            self._row(version, case, usd=usd),
            outcome="retried" if reply.verdict is None else "judged",
            score=None if reply.verdict is None else reply.verdict.score,
        )
        await asyncio.to_thread(self._store.settle_judgements, [row], [])

    def _row(
        self, version: SuiteVersion, case: Case, *, attempts: int = 0, usd: float
    ) -> JudgementRow:
        """For the judge's budget; of no sample, so that it counts as nobody's feedback."""
        name = f"{version.id}/{case.id}"
        return JudgementRow(
            name, version.service, version.id, "asked", attempts=attempts, usd=usd, at=self._now()
        )


def kept_names(spec: ServiceSpec) -> tuple[str, ...]:
    """The names under which results are kept, one of each that can grade; none if nothing can."""
    gated = [scorer_digest(g.scorer) for g in spec.gates if needs_no_reference(g.scorer)]
    judged = [] if spec.judge is None else [judged_as(spec.judge)]
    return tuple(dict.fromkeys((*gated, *judged)))


def judged_as(judge: JudgeModel) -> str:
    """The name under which what this judge said is kept."""
    return f"judge:{hashlib.sha256(judge.identity.encode()).hexdigest()}"


def _named(rule: GateRule, form: str) -> GateRule:
    return msgspec.structs.replace(rule, name=form.format(rule.name))
