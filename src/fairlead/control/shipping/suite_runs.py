"""Runs suites again while releases get their traffic, in the background, on both' replicas.

Each answer is kept under the names of the rollout and of the suite until the rollout ends, so that
a control that dies asks only what is missing; what a run has found counts once it is stored with
the rollout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from fairlead.control.shipping.catalogue import Catalogue
from fairlead.control.shipping.evaluations import Evaluations
from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import GateSpec
from fairlead.domain.errors import FairleadError, NotFound
from fairlead.evaluation.cases import Case, order_of_runs
from fairlead.evaluation.runner import CaseResult
from fairlead.evaluation.scorers import scorer_digest
from fairlead.rollout.model import Rollout
from fairlead.rollout.suite_standing import suite_state, suites_due
from fairlead.rollout.suites import SuiteMetric, SuiteReading

GRACE_S = 0.05
"""How long a turn waits for a run: replicas that answer at once are heard in the same turn."""

ARMS = ("champion", "canary")


class SuiteRuns:
    """The runs under way, by rollout.

    Args:
        now: Unix time in seconds.
    """

    def __init__(
        self, evaluations: Evaluations, catalogue: Catalogue, now: Callable[[], float]
    ) -> None:
        self._evaluations = evaluations
        self._catalogue = catalogue
        self._now = now
        self._tasks: dict[str, asyncio.Task[tuple[SuiteReading, ...]]] = {}

    async def readings(self, running: Running) -> tuple[SuiteReading, ...]:
        """What the last runs have found, once; begins those that are due."""
        rollout = running.rollout
        if rollout.id not in self._tasks:
            due = suites_due(rollout, self._now())
            if not due:
                return ()
            runs = self._run(rollout, running.spec.gates, due)
            self._tasks[rollout.id] = asyncio.create_task(runs)
        task = self._tasks[rollout.id]
        await asyncio.wait({task}, timeout=GRACE_S)
        if not task.done():
            return ()
        del self._tasks[rollout.id]
        return task.result()

    async def forget(self, rollout: str) -> None:
        """Let go of a rollout; what was answered stays kept."""
        task = self._tasks.pop(rollout, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def drop(self, rollout: Rollout) -> None:
        """Let go of a rollout that ends, and of what was answered.

        Before its end is stored: a control that dies in between asks some cases again.
        """
        await self.forget(rollout.id)
        if rollout.plan.suites:
            releases = (rollout.champion or "", rollout.release)
            await self._evaluations.forget_answers(releases, _kept(rollout.id))

    async def close(self) -> None:
        """End all runs."""
        for rollout in list(self._tasks):
            await self.forget(rollout)

    async def _run(
        self, rollout: Rollout, gates: Sequence[GateSpec], due: Sequence[SuiteMetric]
    ) -> tuple[SuiteReading, ...]:
        began = self._now()
        found = [await self._reading(rollout, gates, metric) for metric in due]
        ended = self._now()
        return tuple(msgspec.structs.replace(one, began=began, at=ended) for one in found)

    async def _reading(
        self, rollout: Rollout, gates: Sequence[GateSpec], metric: SuiteMetric
    ) -> SuiteReading:
        state = suite_state(rollout, metric)
        total, problem, now = state.total, "", self._now()
        pairs: tuple[tuple[float, float], ...] = ()
        try:
            gate = _gate_of(gates, metric)
            cases = order_of_runs(await self._evaluations.suite(gate.suite))
            total = len(cases)
            batch = batch_of(cases, state.pairs, metric.cases)
            champion, canary = await self._both(rollout, gate, metric, batch)
            problem = _problem(ARMS[0], champion) or _problem(ARMS[1], canary)
            if not problem:
                pairs = tuple(
                    (_bad(old), _bad(new)) for old, new in zip(champion, canary, strict=True)
                )
        except FairleadError as error:
            problem = error.one_line
        return SuiteReading(
            metric.name, state.pairs, rollout.phase, pairs, total, now, now, problem
        )

    async def _both(
        self, rollout: Rollout, gate: GateSpec, metric: SuiteMetric, cases: Sequence[Case]
    ) -> tuple[list[CaseResult], list[CaseResult]]:
        """The champion's results, and the candidate's."""
        kept_as = f"{_kept(rollout.id)}{metric.name} {scorer_digest(gate.scorer)}"
        champion, canary = await asyncio.gather(
            *(
                self._evaluations.answers(
                    gate, cases, self._catalogue.contender(release), kept_as=kept_as
                )
                for release in (rollout.champion or "", rollout.release)
            )
        )
        return champion, canary


def batch_of(cases: Sequence[Case], asked: int, size: int) -> Sequence[Case]:
    """The cases that a run asks: so many, and a rest that is shorter than that with the last ones.

    A run of one case that neither release can answer would look like replicas that answer nothing.
    """
    end = asked + size
    return cases[asked:] if len(cases) - end < size else cases[asked:end]


def _gate_of(gates: Sequence[GateSpec], metric: SuiteMetric) -> GateSpec:
    for gate in gates:
        if gate.rule.name == metric.gate:
            return gate
    raise NotFound(f"suite {metric.name}: there is no gate {metric.gate!r}")


def _kept(rollout: str) -> str:
    """What the names begin with under which a rollout's answers are kept."""
    return f"suite {rollout} "


def _bad(result: CaseResult) -> float:
    """How bad an answer is; none at all, where others were answered, is as bad as can be."""
    return 1.0 if result.score is None else 1.0 - result.score


def _problem(arm: str, results: Sequence[CaseResult]) -> str:
    """That nothing was answered, if that is so; what cannot be scored was answered."""
    if not results or any(result.is_answered for result in results):
        return ""
    return f"the {arm} answered none of {len(results)} cases: {results[0].error}"[:300]
