"""Runs a release's gates in the background and keeps each case's result as it comes.

Interrupted at any moment, a later run goes on with the cases that have no result yet: results are
kept by (release, case, scorer), for the champion's side of a comparison too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.shipping.spec import GateSpec
from fairlead.control.views import GateProgress
from fairlead.domain.errors import FairleadError
from fairlead.domain.verdicts import GateOutcome, GateVerdict
from fairlead.evaluation.cases import Case, Suite
from fairlead.evaluation.gates import decide_gate
from fairlead.evaluation.runner import CaseResult, run_cases
from fairlead.evaluation.scorers import scorer_digest
from fairlead.registry import Registry
from fairlead.store.evaluation import CaseResultRow, EvaluationStore, GateResultRow

BATCH = 25
_log = logging.getLogger(__name__)


class Contender(msgspec.Struct, frozen=True):
    """A release to ask: the candidate, or the champion it is compared with."""

    release: str
    client: ReplicaClient


class _Run:
    def __init__(self, gates: Sequence[GateSpec]) -> None:
        self.gates = tuple(gate.rule.name for gate in gates)
        self.progress = {name: GateProgress(name, 0, 0, 0.0) for name in self.gates}
        self.task: asyncio.Task[tuple[GateVerdict, ...]] | None = None


class Evaluations:
    """All evaluations that run now, by the id of the rollout they belong to."""

    def __init__(
        self, registry: Registry, results: EvaluationStore, now: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._results = results
        self._now = now
        self._runs: dict[str, _Run] = {}

    def start(
        self,
        key: str,
        gates: Sequence[GateSpec],
        candidate: Contender,
        champion: Contender | None,
    ) -> None:
        """Begin, unless this evaluation is under way already."""
        if key in self._runs:
            return
        run = _Run(gates)
        run.task = asyncio.create_task(self._all(key, run, gates, candidate, champion))
        self._runs[key] = run

    def verdicts(self, key: str) -> tuple[GateVerdict, ...] | None:
        """The verdicts of all gates, or None while it is not finished."""
        run = self._runs.get(key)
        if run is None or run.task is None or not run.task.done() or run.task.cancelled():
            return None
        error = run.task.exception()
        if error is None:
            return run.task.result()
        reason = str(error) if isinstance(error, FairleadError) else type(error).__name__
        _log.error("evaluation %s failed: %r", key, error)
        # One for each gate: fewer verdicts than gates say that it is not finished.
        return tuple(GateVerdict(name, GateOutcome.ERROR, reason) for name in run.gates)

    def progress(self, key: str) -> list[GateProgress]:
        """How far each gate is."""
        run = self._runs.get(key)
        return [] if run is None else list(run.progress.values())

    async def forget(self, key: str) -> None:
        """Stop it if it still runs; what was answered stays kept."""
        run = self._runs.pop(key, None)
        if run is not None and run.task is not None:
            run.task.cancel()
            await asyncio.gather(run.task, return_exceptions=True)

    async def close(self) -> None:
        """Stop all."""
        for key in list(self._runs):
            await self.forget(key)

    async def _all(
        self,
        key: str,
        run: _Run,
        gates: Sequence[GateSpec],
        candidate: Contender,
        champion: Contender | None,
    ) -> tuple[GateVerdict, ...]:
        verdicts: list[GateVerdict] = []
        for gate in gates:
            suite = await self.suite(gate.suite)
            cases = suite.sample(gate.cases) if gate.cases else suite.cases
            compared = champion if gate.rule.compares_with_champion else None
            run.progress[gate.rule.name] = GateProgress(
                gate.rule.name, 0, len(cases) * (2 if compared else 1), 0.0
            )
            mine = await self._results_of(run, gate, cases, candidate, counts=True)
            theirs = (
                await self._results_of(run, gate, cases, compared, counts=False)
                if compared
                else None
            )
            verdicts.append(decide_gate(gate.rule, mine, theirs))
        rows = [
            GateResultRow(
                key, candidate.release, v.gate, v.outcome, msgspec.json.encode(v), self._now()
            )
            for v in verdicts
        ]
        await asyncio.to_thread(self._results.put_gate_results, rows)
        return tuple(verdicts)

    async def _results_of(
        self,
        run: _Run,
        gate: GateSpec,
        cases: Sequence[Case],
        contender: Contender,
        *,
        counts: bool,
    ) -> list[CaseResult]:
        tally = _Tally(run, gate.rule.name, counts=counts)
        scorer = scorer_digest(gate.scorer)
        return await self.answers(gate, cases, contender, kept_as=scorer, told=tally.add)

    async def suite(self, digest: str) -> Suite:
        """A suite of the registry; raises NotFound or Damaged."""
        return Suite.from_bytes(await asyncio.to_thread(self._registry.read_blob, digest))

    async def answers(
        self,
        gate: GateSpec,
        cases: Sequence[Case],
        contender: Contender,
        *,
        kept_as: str,
        told: Callable[[CaseResult, bool], None] = lambda _result, _is_reused: None,
    ) -> list[CaseResult]:
        """Results of the cases, in their order; what is kept already is not asked again.

        Args:
            kept_as: The name under which the release's results are kept and looked for.
            told: Is told of each result, and whether it was kept before.
        """
        kept = await asyncio.to_thread(
            self._results.case_results, contender.release, kept_as, [case.id for case in cases]
        )
        known = {
            row.case_id: CaseResult(
                row.case_id, row.score, answer=row.answer, latency_ms=row.latency_ms
            )
            for row in kept
            if row.error is None
        }
        for result in known.values():
            told(result, True)
        batch: list[CaseResult] = []

        async def keep(result: CaseResult) -> None:
            told(result, False)
            batch.append(result)
            if len(batch) >= BATCH:
                await flush()

        async def flush() -> None:
            rows = [self._row(contender.release, kept_as, result) for result in batch]
            batch.clear()
            if rows:
                await asyncio.to_thread(self._results.put_case_results, rows)

        try:
            return await run_cases(
                cases,
                gate.scorer,
                ask=contender.client,
                known=known,
                on_result=keep,
                concurrency=gate.concurrency,
            )
        finally:
            await asyncio.shield(flush())

    async def forget_answers(self, releases: Sequence[str], kept_as: str) -> None:
        """Delete the results of these releases that are kept under names that begin so."""
        await asyncio.to_thread(self._results.delete_case_results, releases, kept_as)

    def _row(self, release: str, scorer: str, result: CaseResult) -> CaseResultRow:
        return CaseResultRow(
            release=release,
            case_id=result.case,
            scorer=scorer,
            score=result.score,
            error=result.error,
            answer=result.answer,
            latency_ms=result.latency_ms,
            at=self._now(),
        )


class _Tally:
    """Counts results into a gate's progress; the mean is the candidate's."""

    def __init__(self, run: _Run, gate: str, *, counts: bool) -> None:
        self._run = run
        self._gate = gate
        self._counts = counts
        self._sum = 0.0
        self._n = 0

    def add(self, result: CaseResult, is_reused: bool) -> None:
        before = self._run.progress[self._gate]
        mean = before.mean
        if self._counts and result.score is not None:
            self._sum += result.score
            self._n += 1
            mean = self._sum / self._n
        self._run.progress[self._gate] = msgspec.structs.replace(
            before, done=before.done + 1, reused=before.reused + is_reused, mean=mean
        )
