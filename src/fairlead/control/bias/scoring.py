"""Asks releases the items of published bias benchmarks, and keeps the scores with the release.

Answers are kept item by item, so a control that dies goes on with those that are left, and a
release is asked an item once. They go to the release's replicas directly: no user's record, quota
or figure has them; what they cost is kept. A release can be asked while it runs: as champion or as
canary.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from fairlead.control.bias.items import ItemAnswer, ask_patiently, value_of
from fairlead.control.bias.likelihood import NoLikelihoods
from fairlead.control.bias.scoring_model import KIND, Differences, ScoreRequest, Scoring
from fairlead.control.documents import read_all
from fairlead.control.shipping.overview import Overview
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.defects import defect, trail
from fairlead.domain.errors import FairleadError, InvalidInput, NotFound
from fairlead.domain.release import short
from fairlead.evaluation.cases import Case, Suite
from fairlead.evaluation.stereotypes import Benchmark, differences_of, scores_of
from fairlead.registry import Registry
from fairlead.store.evaluation import CaseResultRow
from fairlead.store.interface import Store

KEPT_MAX = 500
CONCURRENCY = 4
BATCH = 25
ANSWER_S = 60.0
REST_S = 30.0
"""After the store has refused what was asked."""
DIGITS_MIN = 6
"""So many digits of a digest name a release."""
_VERSION = 1
"""Raised when an item comes to be asked otherwise: what was answered before is no answer to it."""
_log = logging.getLogger(__name__)


class BiasScores:
    """All scores that are kept, and those that are being asked for.

    Args:
        now: Unix time in seconds.
    """

    def __init__(
        self, store: Store, registry: Registry, overview: Overview, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._registry = registry
        self._overview = overview
        self._now = now
        self._kept: dict[str, Scoring] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}

    async def load(self) -> None:
        """Read what is stored."""
        self._kept = await asyncio.to_thread(read_all, self._store, KIND, Scoring)

    async def close(self) -> None:
        """End all asking; what was answered stays kept."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def advance(self) -> None:
        """Go on with what is under way."""
        self._tasks = {key: task for key, task in self._tasks.items() if not task.done()}
        for key, scoring in self._kept.items():
            is_due = not 0.0 < self._not_before.get(key, 0.0) - self._now() <= REST_S
            if scoring.ended_at is None and key not in self._tasks and is_due:
                self._tasks[key] = asyncio.create_task(self._run(scoring))

    def all(self, service: str) -> list[Scoring]:
        """Those of a service, the newest first."""
        found = [one for one in self._kept.values() if one.service == service]
        return sorted(found, key=lambda one: (-one.begun_at, one.key))

    async def begin(self, service: str, request: ScoreRequest) -> Scoring:
        """Begin to ask, or go on where it failed; the same items are not asked twice.

        Raises NotFound for a release that does not run, or items that are not there.
        """
        spec = self._spec_of(service, request.release)
        suite = await asyncio.to_thread(self._suite, request.suite)
        made = Scoring(
            service=service, release=spec.release, name=spec.name, benchmark=request.benchmark,
            suite=request.suite, begun_at=self._now(), of=len(suite.cases),
        )  # fmt: skip
        known = self._kept.get(made.key)
        if known is not None and known.state != "failed":
            return known
        if known is not None:  # It goes on, with what it has cost.
            made = msgspec.structs.replace(made, asked=known.asked, usd=known.usd)
        await self._keep(made)
        return made

    async def differences(self, service: str, first: str, other: str) -> list[Differences]:
        """Two releases on the items that both were asked; raises NotFound without any."""
        found: list[Differences] = []
        for one in self._of_release(service, first):
            for two in self._of_release(service, other):
                if one.benchmark == two.benchmark and one.release != two.release:
                    found.append(await asyncio.to_thread(self._differences, one, two))
        found = [each for each in found if each.scores]
        if not found:
            raise NotFound(
                f"{first} and {other} were not asked the same items",
                hint="score both: fairlead bias score",
            )
        return found

    def _differences(self, one: Scoring, two: Scoring) -> Differences:
        first, other = (self._answers(each, self._suite(each.suite).cases) for each in (one, two))
        scores = differences_of(one.benchmark, first, other)
        return Differences(one.service, one.benchmark, one.release, two.release, tuple(scores))

    def _of_release(self, service: str, release: str) -> list[Scoring]:
        """What is kept of a release by its name or the beginning of its digest."""
        found = [one for one in self.all(service) if _is_named(one.name, one.release, release)]
        if not found:
            raise NotFound(f"{service}: no scores of a release {ascii(release)[:80]} are kept")
        if len({one.release for one in found}) > 1:
            raise InvalidInput(f"{ascii(release)[:80]} stands for several releases; give a digest")
        return [one for one in found if one.state == "done"]

    def _spec_of(self, service: str, release: str | None) -> ServiceSpec:
        """The champion, or what is named of champion and canary."""
        specs = [spec for spec in self._overview.champions() if spec.service == service]
        running = self._overview.running(service)
        if running is not None:
            specs.append(running.spec)
        for spec in specs:
            if release is None or _is_named(spec.name, spec.release, release):
                return spec
        names = ", ".join(f"{spec.name} ({short(spec.release)})" for spec in specs)
        raise NotFound(
            f"{service}: no release {'' if release is None else ascii(release)[:80] + ' '}runs",
            hint=f"a release is asked where it runs: {names or 'ship it first'}",
        )

    def _suite(self, digest: str) -> Suite:
        return Suite.from_bytes(self._registry.read_blob(digest))

    async def _run(self, scoring: Scoring) -> None:
        try:
            ended = await self._asked(scoring)
        except NoLikelihoods as error:
            ended = self._failed(scoring, str(error))
        except FairleadError as error:
            ended = self._failed(scoring, error.one_line)
        except Exception as error:  # noqa: BLE001 - logged, and told
            _log.error("bias scores of %s: a defect: %s", scoring.service, trail(error))
            ended = self._failed(scoring, defect(error))
        try:
            await self._keep(ended)
        except FairleadError as error:  # It is asked for the rest again.
            self._not_before[scoring.key] = self._now() + REST_S
            _log.error("bias scores of %s: %s", scoring.service, error.one_line)

    def _failed(self, scoring: Scoring, why: str) -> Scoring:
        latest = self._kept.get(scoring.key, scoring)
        return msgspec.structs.replace(latest, ended_at=self._now(), failure=why[:300])

    async def _asked(self, scoring: Scoring) -> Scoring:
        """Ask what is left, and score all of it."""
        suite = await asyncio.to_thread(self._suite, scoring.suite)
        cases = suite.cases
        known = await asyncio.to_thread(self._rows, scoring, cases)
        left = [case for case in cases if case.id not in known]
        scoring = msgspec.structs.replace(scoring, asked=len(cases) - len(left))
        for start in range(0, len(left), BATCH):
            scoring = await self._batch(scoring, left[start : start + BATCH])
        answers = await asyncio.to_thread(self._answers, scoring, cases)
        return msgspec.structs.replace(
            scoring,
            ended_at=self._now(),
            unread=len(cases) - len(answers),
            scores=tuple(await asyncio.to_thread(scores_of, scoring.benchmark, answers)),
        )

    async def _batch(self, scoring: Scoring, cases: Sequence[Case]) -> Scoring:
        """Ask a few, and keep the answers; raises Unavailable when one gets none."""
        spec = self._spec_of(scoring.service, scoring.release)
        client = self._overview.client(scoring.release, ANSWER_S)
        turns = asyncio.Semaphore(CONCURRENCY)

        async def one(case: Case) -> ItemAnswer:
            async with turns:
                return await ask_patiently(client, scoring.benchmark, case, spec.price)

        found = await asyncio.gather(*(one(case) for case in cases), return_exceptions=True)
        rows = [
            CaseResultRow(
                scoring.release, case.id, _scorer(scoring.benchmark), asked.score, None,
                asked.answer, 0.0, self._now(),
            )
            for case, asked in zip(cases, found, strict=True)
            if isinstance(asked, ItemAnswer)
        ]  # fmt: skip
        if rows:
            await asyncio.to_thread(self._store.put_case_results, rows)
        usd = sum(asked.usd for asked in found if isinstance(asked, ItemAnswer))
        after = msgspec.structs.replace(
            scoring, asked=scoring.asked + len(rows), usd=scoring.usd + usd
        )
        await self._keep(after)
        for asked in found:
            if isinstance(asked, BaseException):
                raise asked
        return after

    def _rows(self, scoring: Scoring, cases: Iterable[Case]) -> dict[str, CaseResultRow]:
        """What is kept of these items, by id."""
        ids = [case.id for case in cases]
        kept = self._store.case_results(scoring.release, _scorer(scoring.benchmark), ids)
        return {row.case_id: row for row in kept if row.error is None}

    def _answers(self, scoring: Scoring, cases: Sequence[Case]) -> list[tuple[Case, int]]:
        """Which option was chosen, or whether the stereotype is likelier; unread ones left out."""
        rows = self._rows(scoring, cases)
        found = []
        for case in cases:
            row = rows.get(case.id)
            if row is None:
                continue
            value = value_of(scoring.benchmark, case, row.score, row.answer)
            if value is not None:
                found.append((case, value))
        return found

    async def _keep(self, scoring: Scoring) -> None:
        """Store it; in memory it is the same only after that."""
        ended = [one for one in self._kept.values() if one.ended_at is not None]
        ended.sort(key=lambda one: one.begun_at)
        gone = [one.key for one in ended[: max(0, len(self._kept) + 1 - KEPT_MAX)]]
        put = {(KIND, scoring.key): msgspec.json.encode(scoring)}
        deletes = [(KIND, key) for key in gone if key != scoring.key]
        await asyncio.to_thread(self._store.commit_documents, put, deletes)
        for _, key in deletes:
            self._kept.pop(key, None)
        self._kept[scoring.key] = scoring


def _scorer(benchmark: Benchmark) -> str:
    """Under what answers are kept: how an item is asked and read is part of it."""
    return f"{benchmark}@{_VERSION}"


def _is_named(name: str, release: str, given: str) -> bool:
    digest = given.removeprefix("sha256:")
    is_digest = len(digest) >= DIGITS_MIN and release.removeprefix("sha256:").startswith(digest)
    return given == name or is_digest
