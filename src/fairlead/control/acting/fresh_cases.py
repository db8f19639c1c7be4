"""What people ask now becomes cases, and the release that serves is asked them.

An action makes a suite version of what drift has found, and begins to ask; `advance` goes on with
it, also after a crash: the version is a document, and results are kept case by case. The verdict is
an event, what failed is a condition, and a person can refuse cases at any time. A case's text goes
when the sample that it came from is deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from fairlead.control.acting.case_grading import CaseGrading, Graded, kept_names
from fairlead.control.acting.suite_versions import (
    REFUSALS_MAX,
    REFUSED_MAX,
    UNGRADED,
    VERSIONS_MAX,
    SuiteVersion,
    chosen,
    conditions_of,
    refused_ids,
)
from fairlead.control.documents import read_all
from fairlead.control.shipping.catalogue import ASK_S
from fairlead.control.shipping.overview import Overview
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.errors import FairleadError, InvalidInput, NotFound
from fairlead.domain.release import short
from fairlead.domain.verdicts import GateOutcome, GateVerdict
from fairlead.monitoring.actions import ActionEntry, ActionPolicy
from fairlead.monitoring.conditions import Condition
from fairlead.store.evaluation import CaseResultRow
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow

if TYPE_CHECKING:
    from fairlead.control.watching.interface import Watched

ENDED, REFUSED = "suite_verdict", "suite_refused"
"""Kinds of events."""

VERSION = "suite_version"
"""Kind of the documents."""
REFUSED_CASES = "refused_cases"
"""Kind of the documents of what was refused, one of each service: ids alone, the last one last."""
NONE_LEFT = (
    "the verdict rested on cases that are refused, and the prompts of the others are deleted"
)
FORGET_EVERY_S = 300.0
WORDS_MAX = 1_000
_log = logging.getLogger(__name__)


class FreshCases:
    """All suite versions that actions have made.

    Args:
        now: Unix time in seconds.

    Attributes:
        watched: What has found prompts that stand out, and what they are part of.
    """

    def __init__(
        self, store: Store, overview: Overview, grading: CaseGrading, now: Callable[[], float]
    ) -> None:
        self.watched: Watched | None = None
        self._store = store
        self._overview = overview
        self._grading = grading
        self._now = now
        self._kept: dict[str, SuiteVersion] = {}
        self._refused: dict[str, list[str]] = {}
        self._tasks: dict[str, asyncio.Task[Graded]] = {}
        self._forgot_at = now()

    async def load(self) -> None:
        """Read what is stored."""
        self._kept = await asyncio.to_thread(read_all, self._store, VERSION, SuiteVersion)
        self._refused = await asyncio.to_thread(read_all, self._store, REFUSED_CASES, list[str])

    async def close(self) -> None:
        """Stop asking; what was answered stays kept."""
        for version in list(self._tasks):
            await self._stop(version)

    def all(self, service: str | None = None) -> list[SuiteVersion]:
        """The newest first."""
        found = [one for one in self._kept.values() if service in (None, one.service)]
        return sorted(found, key=lambda one: (-one.at, one.id))

    def version(self, name: str) -> SuiteVersion:
        """One of them; raises NotFound."""
        if name not in self._kept:
            raise NotFound(
                f"there is no suite version {name!r}",
                hint="`fairlead suite list` shows them; of each service the last "
                f"{VERSIONS_MAX} are kept",
            )
        return self._kept[name]

    async def read(self, name: str) -> SuiteVersion:
        """The same, to be shown with its texts: that these were read is noted."""
        found = self.version(name)
        if found.asked:
            said = f"{len(found.asked):,} prompts of samples were read: cases of {name}"
            await self._event("samples_read", found, said)
        return found

    async def carry_out(
        self, name: str, entry: ActionEntry, spec: ServiceSpec, policy: ActionPolicy
    ) -> str:
        """Make this version and have it asked, once; what came of it, in words."""
        if name in self._kept:
            return self._kept[name].words
        found = [] if self.watched is None else await self.watched.suggested_cases(entry.service)
        known = refused_ids(self._kept.values(), entry.service)
        known.update(self._refused.get(entry.service, ()))
        cases = chosen(found, known, policy.cases_max)
        if not cases:
            why = "all that it shows was refused before" if found else "drift shows no prompts"
            return f"no cases: {why}"
        made = SuiteVersion(
            name, entry.service, spec.release, self._now(), entry.alert, entry.policy,
            entry.reason, cases, policy.minimum, incident=self._incident_of(entry),
            kept_as=kept_names(spec),
        )  # fmt: skip
        if not made.kept_as:
            made = msgspec.structs.replace(made, ended_at=self._now(), said=UNGRADED)
        await self._keep(made)
        return made.words

    def is_asked(self, name: str) -> bool:
        """Whether its verdict is still to come."""
        return name in self._kept and self._kept[name].ended_at is None

    def _incident_of(self, entry: ActionEntry) -> int | None:
        """The open incident that its alert is part of."""
        if self.watched is None:
            return None
        for incident in reversed(self.watched.desk.incidents):
            members = {member.fingerprint for member in incident.members}
            if incident.is_open and entry.alert in members:
                return incident.number
        return None

    async def advance(self, champions: Iterable[ServiceSpec]) -> None:
        """Ask what is to be asked, take in what has ended, and forget what was deleted.

        Raises the first FairleadError after the last version.
        """
        specs = {spec.service: spec for spec in champions}
        troubles = []
        for version in [one for one in self._kept.values() if one.ended_at is None]:
            try:
                await self._advance(version, specs.get(version.service))
            except FairleadError as error:
                troubles.append(error)
        if not 0.0 <= self._now() - self._forgot_at < FORGET_EVERY_S:
            self._forgot_at = self._now()
            await self.forget_deleted()
        if troubles:
            raise troubles[0]

    async def _advance(self, version: SuiteVersion, spec: ServiceSpec | None) -> None:
        task = self._tasks.get(version.id)
        if spec is None or spec.release != version.release:
            await self._stop(version.id)
            await self._end(version, said="the release does not serve any more")
        elif not version.asked:
            await self._end(version, said="its prompts were deleted before they were asked")
        elif task is None:
            client = self._overview.client(version.release, ASK_S)
            grading = self._grading.grade(version, spec, client)
            self._tasks[version.id] = asyncio.create_task(grading)
        elif task.done():
            await self._end(version, _graded(version, task))
            self._tasks.pop(version.id, None)

    async def _end(
        self, version: SuiteVersion, graded: Graded | None = None, said: str = ""
    ) -> None:
        ended = msgspec.structs.replace(version, ended_at=self._now(), said=said)
        if graded is not None:
            ended = msgspec.structs.replace(ended, verdicts=graded.verdicts, suites=graded.suites)
        await self._event(ENDED, ended, ended.words)
        await self._keep(ended)

    async def refuse(self, name: str, cases: Collection[str], by: str, why: str) -> SuiteVersion:
        """A person says that these are no cases of the service; all of them if none is named.

        They are not asked again, in no later version either, and what the others say is decided
        anew. Raises NotFound, InvalidInput.
        """
        version = self.version(name)
        ids = {case.id for case in version.cases}
        if unknown := sorted(set(cases) - ids):
            raise NotFound(f"{name} has no case {unknown[0][:80]!r}")
        if not why.strip() or not by.strip():
            raise InvalidInput("who refuses a case, and why, has to be said")
        gone = set(cases) or ids
        await self._stop(name)
        left = version.without(gone, is_refused=True)
        note = f"{len(gone)} of {len(ids)} cases, by {by}: {why}"[:WORDS_MAX]
        refusals = (*left.refused, note)[-REFUSALS_MAX:]
        left = msgspec.structs.replace(left, refused=refusals)
        if left.verdicts and left.asked:
            left = msgspec.structs.replace(left, ended_at=None, verdicts=())
        elif left.verdicts:
            left = msgspec.structs.replace(left, verdicts=(), said=NONE_LEFT)
        elif not left.holds and left.ended_at is None:
            left = msgspec.structs.replace(left, ended_at=self._now())
        await self._forget_answers(version, gone)
        earlier = [one for one in self._refused.get(version.service, ()) if one not in gone]
        refused = [*earlier, *sorted(gone)][-REFUSED_MAX:]
        await self._keep(left, {(REFUSED_CASES, version.service): msgspec.json.encode(refused)})
        self._refused[version.service] = refused
        await self._event(REFUSED, left, f"suite version {name}: refused are {note}")
        return left

    async def forget_deleted(self) -> None:
        """Let go of the texts whose samples are deleted by now, and of what was answered to them.

        A verdict stays.
        """
        requests = {case.request for one in self._kept.values() for case in one.asked}
        if not requests:
            return
        there = await asyncio.to_thread(self._store.kept_samples, requests)
        for version in list(self._kept.values()):
            gone = {case.id for case in version.asked if case.request not in there}
            if gone:
                # What is asked now goes on without them.
                await self._stop(version.id)
                await self._forget_answers(version, gone)
                await self._keep(version.without(gone))

    async def _forget_answers(self, version: SuiteVersion, gone: Collection[str]) -> None:
        """What was answered to these cases is blank from now on."""

        def blank() -> None:
            for kept_as in version.kept_as:
                rows = self._store.case_results(version.asked_as, kept_as, list(gone))
                self._store.put_case_results([_blank(row) for row in rows])

        await asyncio.to_thread(blank)

    async def _stop(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(
        self, version: SuiteVersion, also: Mapping[tuple[str, str], bytes] | None = None
    ) -> None:
        """Keep it, and let go of the oldest where there are too many."""
        others = [one for one in self.all(version.service) if one.id != version.id]
        old = others[VERSIONS_MAX - 1 :]
        puts = {(VERSION, version.id): msgspec.json.encode(version), **(also or {})}
        deletes = [(VERSION, one.id) for one in old]
        await asyncio.to_thread(self._store.commit_documents, puts, deletes)
        self._kept[version.id] = version
        for one in old:
            await self._stop(one.id)
            del self._kept[one.id]
            await asyncio.to_thread(self._store.delete_case_results, [one.asked_as], "")

    async def _event(self, kind: str, version: SuiteVersion, message: str) -> None:
        data = msgspec.json.encode(
            {"release": version.release, "version": version.id, "alert": version.alert}
        )
        event = EventRow(self._now(), kind, message[:WORDS_MAX], service=version.service, data=data)
        await asyncio.to_thread(self._store.add_events, [event])

    def conditions(self, monitor: str) -> list[Condition]:
        """One for each gate that failed on new cases, and has not passed since."""
        serve = {spec.service: spec.release for spec in self._overview.champions()}
        return conditions_of(list(reversed(self.all())), serve, monitor)


def _blank(row: CaseResultRow) -> CaseResultRow:
    """Its score alone."""
    error = None if row.error is None else "forgotten"
    return msgspec.structs.replace(row, answer="", error=error)


def _graded(version: SuiteVersion, task: asyncio.Task[Graded]) -> Graded:
    """What came of it, also where it failed."""
    error = task.exception() if not task.cancelled() else asyncio.CancelledError()
    if error is None:
        return task.result()
    why = error.one_line if isinstance(error, FairleadError) else type(error).__name__
    _log.error("suite version %s of release %s: %r", version.id, short(version.release), error)
    return Graded((GateVerdict("new cases", GateOutcome.ERROR, why),), version.suites)
