"""Gates of a champion that are run again, on answers that it gives now.

What is kept is a document for each service: the run under way or the last one, and the gates that
it failed. A control that dies goes on with the run: its results are kept case by case, apart from
those by which the release was accepted. A gate that compares with the champion is asked whether the
release is still as good as those earlier results.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from fairlead.control.documents import read_all
from fairlead.control.shipping.catalogue import ASK_S
from fairlead.control.shipping.evaluations import Contender, Evaluations
from fairlead.control.shipping.overview import Overview
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.errors import FairleadError
from fairlead.domain.release import short
from fairlead.domain.verdicts import GateOutcome, GateVerdict
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Looked, labels_of
from fairlead.registry import Registry
from fairlead.store.evaluation import CaseResultRow, EvaluationStore, GateResultRow
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow

MONITOR = "gate"
ENDED = "gates_rerun"
"""Kind of the event."""
_AGAIN = "@again"
_log = logging.getLogger(__name__)

GATE_RUN = "gate_run"
"""Kind of the documents."""


class GateRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run of a service's gates that is under way, or the last one.

    Attributes:
        release: Digest of the champion.
        begun_at, ended_at: Unix times in seconds; `ended_at` is None while it is under way.
        verdicts: Of the last run that ended.
        failed: By gate that failed and has not passed since: why.
    """

    id: str
    service: str
    release: str
    begun_at: float
    ended_at: float | None = None
    verdicts: tuple[GateVerdict, ...] = ()
    failed: dict[str, str] = {}


class FreshResults:
    """Keeps what runs find under names of their own, and finds only what the present run found.

    Args:
        begun: When the run of a release under such a name began, Unix time in seconds.
    """

    def __init__(self, results: EvaluationStore) -> None:
        self._results = results
        self.begun: dict[str, float] = {}

    def put_case_results(self, results: Sequence[CaseResultRow]) -> None:
        """See `EvaluationStore`."""
        self._results.put_case_results(results)

    def case_results(
        self, release: str, scorer: str, case_ids: Sequence[str] | None = None
    ) -> list[CaseResultRow]:
        """See `EvaluationStore`."""
        found = self._results.case_results(release, scorer, case_ids)
        begun = self.begun.get(release)
        return found if begun is None else [row for row in found if row.at >= begun]

    def delete_case_results(self, releases: Sequence[str], scorer_prefix: str) -> None:
        """See `EvaluationStore`."""
        self._results.delete_case_results(releases, scorer_prefix)

    def put_gate_results(self, results: Sequence[GateResultRow]) -> None:
        """See `EvaluationStore`; under the release's own name."""
        self._results.put_gate_results(
            [
                msgspec.structs.replace(row, release=row.release.removesuffix(_AGAIN))
                for row in results
            ]
        )

    def gate_results(
        self, *, rollout: str | None = None, release: str | None = None, limit: int = 100
    ) -> list[GateResultRow]:
        """See `EvaluationStore`."""
        return self._results.gate_results(rollout=rollout, release=release, limit=limit)


class GateRuns:
    """All services' runs.

    Args:
        now: Unix time in seconds.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        overview: Overview,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._overview = overview
        self._now = now
        self._results = FreshResults(store)
        self._evaluations = Evaluations(registry, self._results, now)
        self._kept: dict[str, GateRun] = {}

    async def load(self) -> None:
        """Read what is stored."""
        self._kept = await asyncio.to_thread(read_all, self._store, GATE_RUN, GateRun)

    async def close(self) -> None:
        """Stop asking; what was answered stays kept."""
        await self._evaluations.close()

    def last(self, service: str) -> GateRun | None:
        """The run that is under way, or the last one."""
        return self._kept.get(service)

    async def begin(self, run_id: str, spec: ServiceSpec) -> GateRun:
        """Begin a run of the champion's gates, unless this one or another one is there."""
        kept = self._kept.get(spec.service)
        is_same = kept is not None and kept.release == spec.release
        if kept is not None and is_same and (kept.id == run_id or kept.ended_at is None):
            return kept
        run = GateRun(run_id, spec.service, spec.release, self._now())
        if kept is not None and is_same:
            run = msgspec.structs.replace(run, verdicts=kept.verdicts, failed=kept.failed)
        elif kept is not None:
            await self._evaluations.forget(kept.id)
        await self._keep(run)
        return run

    async def advance(self, champions: Iterable[ServiceSpec]) -> None:
        """Ask what is to be asked, and take in what has ended.

        Raises the first FairleadError after the last service.
        """
        specs = {spec.service: spec for spec in champions}
        troubles = []
        for kept in list(self._kept.values()):
            try:
                await self._advance(kept, specs.get(kept.service))
            except FairleadError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    async def _advance(self, run: GateRun, spec: ServiceSpec | None) -> None:
        if spec is None or spec.release != run.release:
            # What another release answered is of no interest any more.
            await self._evaluations.forget(run.id)
            await asyncio.to_thread(self._store.commit_documents, {}, [(GATE_RUN, run.service)])
            del self._kept[run.service]
            return
        if run.ended_at is not None:
            return
        verdicts = self._evaluations.verdicts(run.id)
        if verdicts is None:
            client = self._overview.client(run.release, ASK_S)
            self._results.begun[run.release + _AGAIN] = run.begun_at
            self._evaluations.start(
                run.id,
                spec.gates,
                Contender(run.release + _AGAIN, client),
                Contender(run.release, client),
            )
            return
        await self._end(run, spec, verdicts)

    async def _end(
        self, run: GateRun, spec: ServiceSpec, verdicts: tuple[GateVerdict, ...]
    ) -> None:
        failed = dict(run.failed)
        for verdict in verdicts:
            if verdict.outcome is GateOutcome.FAIL:
                failed[verdict.gate] = verdict.reason
            elif verdict.outcome is GateOutcome.PASS:
                failed.pop(verdict.gate, None)
        gates = {gate.rule.name for gate in spec.gates}
        failed = {name: why for name, why in failed.items() if name in gates}
        ended = msgspec.structs.replace(run, ended_at=self._now(), verdicts=verdicts, failed=failed)
        told = "; ".join(f"{v.gate} {v.outcome.value}: {v.reason}" for v in verdicts)
        event = EventRow(
            self._now(),
            ENDED,
            f"gates of release {spec.name} again: {told or 'it has none any more'}"[:1_000],
            service=run.service,
            data=msgspec.json.encode({"release": run.release, "run": run.id}),
        )
        await asyncio.to_thread(self._store.add_events, [event])
        await self._keep(ended)
        await self._evaluations.forget(run.id)

    async def _keep(self, run: GateRun) -> None:
        data = {(GATE_RUN, run.service): msgspec.json.encode(run)}
        await asyncio.to_thread(self._store.commit_documents, data)
        self._kept[run.service] = run

    def conditions(self) -> list[Condition]:
        """One for each gate that failed when it was run again, and has not passed since."""
        return [
            Condition(
                labels=labels_of(
                    monitor=MONITOR, service=run.service, release=run.release, gate=gate
                ),
                severity=Severity.TICKET,
                summary=f"{run.service}: release {short(run.release)} fails its gate {gate} now: "
                f"{why}"[:1_000],
            )
            for run in self._kept.values()
            for gate, why in sorted(run.failed.items())
        ]

    def looked(self, services: Iterable[str]) -> list[Looked]:
        """A gate is looked at for as long as what it said last is known."""
        return [(MONITOR, service) for service in services]
