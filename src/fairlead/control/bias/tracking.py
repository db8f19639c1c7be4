"""Scores champions on published bias benchmarks on a schedule, and keeps the course of it.

What is stored is the truth: answers are kept, with the evidence they make, before the next ones are
asked for. A control that dies asks at most the last few items again. Items go to the release's
replicas directly, as pairs do: no user's record, quota or figure has them; what they cost is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from fairlead.control.bias.item_batches import Batch, ask_items, values_of
from fairlead.control.bias.self_test import DailySelfTest, tracking_self_test
from fairlead.control.bias.tracking_views import (
    MONITOR,
    TrackedView,
    blindness_of,
    conditions_of,
    tracked_view,
)
from fairlead.control.documents import read_all
from fairlead.control.errands import Errand, Work
from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.errors import NotFound
from fairlead.evaluation.cases import Case, Suite
from fairlead.evaluation.stereotypes import worse_of
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.watchers import Report
from fairlead.monitoring.watchers import Watch as Expected
from fairlead.probing.bias_model import BiasSpec
from fairlead.probing.bounds import RETRY_S
from fairlead.probing.tracked import (
    Asked,
    accept,
    begin,
    due,
    failed,
    gives_up,
    held_by,
    is_over,
    is_readable,
    judged_by,
    lacking,
    level_of,
    of_release,
    over,
    sized,
    taken_in,
)
from fairlead.probing.tracked_model import UNREAD, Published, ScoresSpec, Tracked
from fairlead.store.watching import DocumentStore

KIND = "bias_tracked"
"""Of the documents that are kept; their key is `service/benchmark`."""
BATCH = 8
_log = logging.getLogger(__name__)


class _Watch:
    """The scores of one champion on one benchmark, and the task that asks its items."""

    def __init__(
        self,
        spec: ServiceSpec,
        bias: BiasSpec,
        scores: ScoresSpec,
        published: Published,
        errand: Errand,
    ) -> None:
        self.set(spec, bias, scores, published)
        self.cases: tuple[Case, ...] = ()
        self.lock = asyncio.Lock()
        self.errand = errand
        self.tracked = begin(spec.service, published, spec.release, spec.name, 0.0)

    def set(
        self, spec: ServiceSpec, bias: BiasSpec, scores: ScoresSpec, published: Published
    ) -> None:
        """What is declared now."""
        self.spec, self.bias, self.scores, self.published = spec, bias, scores, published
        self.level = level_of(scores, bias.alpha)

    @property
    def key(self) -> str:
        return f"{self.spec.service}/{self.published.benchmark}"


class ScoreTracking:
    """All champions that are scored on a schedule.

    Args:
        read_blob: What the registry holds under a digest.
        client_of: How a release is asked, with the seconds that one answer may take.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        store: DocumentStore,
        read_blob: Callable[[str], bytes],
        client_of: Callable[[str, float], ReplicaClient],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._read_blob = read_blob
        self._client_of = client_of
        self._now = now
        self._watches: dict[str, _Watch] = {}
        self._kept: dict[str, Tracked] = {}
        self._self_test = DailySelfTest(tracking_self_test, now)

    async def load(self) -> None:
        """Read what is stored; what is damaged begins anew."""
        kept = await asyncio.to_thread(read_all, self._store, KIND, Tracked)
        self._kept = {}
        for key, tracked in kept.items():
            if is_readable(tracked):
                self._kept[key] = tracked
            else:
                _log.error("bias scores %s: what was kept does not add up; begun anew", key)

    async def close(self) -> None:
        """End all asking; what was answered stays kept."""
        for key in list(self._watches):
            await self._forget(key)

    async def advance(self, specs: Sequence[ServiceSpec]) -> None:
        """Begin what is due, and let go of services that are scored no more.

        Args:
            specs: Of the services that have a champion.
        """
        wanted = {
            f"{spec.service}/{published.benchmark}": (spec, spec.bias, spec.bias.scores, published)
            for spec in specs
            if spec.bias is not None and spec.bias.scores is not None
            if MONITOR not in spec.monitoring.monitors.off
            for published in spec.bias.scores.benchmarks
        }
        for key in [key for key in self._watches if key not in wanted]:
            await self._forget(key)
        if wanted:
            await self._self_test.run_if_due()
        for key, declared in wanted.items():
            self._go_on(await self._watch(key, *declared))

    def conditions(self, now: float) -> list[Condition]:
        """The scores that are worse; none ends because nothing is asked now."""
        return [
            condition
            for watch in self._watches.values()
            for condition in conditions_of(watch.tracked, watch.scores, watch.level)
        ]

    def looked(self) -> list[tuple[str, str]]:
        """Of whom `conditions` says all that is known: monitor and service."""
        return [(MONITOR, service) for service in self._services()]

    def reports(self, now: float) -> list[Report]:
        """What became of the items, for those who watch the watchers."""
        return [self._report(service) for service in self._services()]

    def expected(self) -> list[Expected]:
        """What is expected of each, for those who watch the watchers."""
        return [
            Expected(MONITOR, service, every_s=max(60.0, self._of(service)[0].bias.timeout_s))
            for service in self._services()
        ]

    def views(self) -> list[TrackedView]:
        """All of them, by service."""
        return [self._view(self._watches[key]) for key in sorted(self._watches)]

    async def accept(self, service: str) -> list[TrackedView]:
        """A person has seen the scores: the champion's own are accepted. Raises NotFound."""
        watches = self._of(service)
        if not watches:
            raise NotFound(
                f"the champion of {service!r} is not scored on a schedule",
                hint="declare `bias.scores` in its manifest, and `fairlead ship` or `apply` it",
            )
        for watch in watches:
            async with watch.lock:
                await self._keep(watch, accept(watch.tracked, self._now()))
        return [self._view(watch) for watch in watches]

    def _services(self) -> list[str]:
        return sorted({watch.spec.service for watch in self._watches.values()})

    def _of(self, service: str) -> list[_Watch]:
        return [watch for watch in self._watches.values() if watch.spec.service == service]

    def _view(self, watch: _Watch) -> TrackedView:
        return tracked_view(
            watch.tracked, watch.published, watch.scores, watch.level,
            held=held_by(watch.tracked, watch.scores, self._now()), trouble=watch.errand.trouble,
        )  # fmt: skip

    def _report(self, service: str) -> Report:
        watches = self._of(service)
        errors = [
            each.errand.trouble or blindness_of(each.tracked, each.published) for each in watches
        ]
        asked = sum(each.tracked.sent_in_all for each in watches)
        return Report(
            MONITOR,
            service,
            at=min(each.errand.alive_at for each in watches),
            requests=asked,
            looked_at=asked,
            error="; ".join(error for error in errors if error),
            self_tested_at=self._self_test.tested_at,
            self_test_error=self._self_test.error,
        )

    def _go_on(self, watch: _Watch) -> None:
        rest_s = min(RETRY_S, watch.scores.interval_s)
        watch.errand.go_on(lambda now: self._due(watch, now), rest_s=rest_s)

    def _due(self, watch: _Watch, now: float) -> Work | None:
        is_due = not watch.published.missing and now >= watch.tracked.due_at
        if not is_due or held_by(watch.tracked, watch.scores, now):
            return None
        return self._run(watch)

    async def _watch(
        self,
        key: str,
        spec: ServiceSpec,
        bias: BiasSpec,
        scores: ScoresSpec,
        published: Published,
    ) -> _Watch:
        found = self._watches.get(key)
        if found is not None:
            if found.spec.release == spec.release and found.published == published:
                found.set(spec, bias, scores, published)
                found.tracked = judged_by(found.tracked, scores)
                return found
            await self._forget(key)
        now, errand = self._now(), Errand(f"bias scores of {key}", self._now)
        made = _Watch(spec, bias, scores, published, errand)
        kept = self._kept.get(key)
        new = begin(spec.service, published, spec.release, spec.name, now)
        if kept is None:
            made.tracked = new
        elif published.suite and kept.suite != published.suite:
            # Other items: what was known of the old ones is no measure for them.
            made.tracked = msgspec.structs.replace(new, runs=kept.runs)
        else:
            after = of_release(kept, spec.release, spec.name, now)
            # A clock that was set back must not keep the items from being asked.
            due_at = min(after.due_at, now + scores.interval_s)
            made.tracked = msgspec.structs.replace(after, due_at=due_at)
        made.tracked = judged_by(made.tracked, scores)
        self._watches[key] = made
        return made

    async def _forget(self, key: str) -> None:
        await self._watches.pop(key).errand.cancel()

    async def _run(self, watch: _Watch) -> None:
        """Ask what the run still lacks."""
        if not watch.cases:
            data = await asyncio.to_thread(self._read_blob, watch.published.suite)
            watch.cases = Suite.from_bytes(data).cases
        client = self._client_of(watch.spec.release, watch.bias.timeout_s)
        async with watch.lock:
            watch.tracked = due(self._sized(watch), watch.scores)
        while True:
            if held_by(watch.tracked, watch.scores, self._now()):
                return
            got = await ask_items(
                client, watch.published.benchmark, watch.cases, lacking(watch.tracked, BATCH),
                watch.spec.price, gives_up=gives_up(watch.tracked),
            )  # fmt: skip
            async with watch.lock:
                now = self._now()
                after = self._taken_in(watch, got, now)
                is_done = not got.why and is_over(after)
                if is_done:
                    values = await asyncio.to_thread(values_of, watch.cases, after)
                    after = over(after, watch.scores, values, now)
                await self._keep(watch, after)
            watch.errand.alive_at = now
            if is_done or got.why:
                return

    def _sized(self, watch: _Watch) -> Tracked:
        try:
            return sized(watch.tracked, len(watch.cases))
        except ValueError as error:
            _log.error("bias scores of %s: %s; begun anew", watch.key, error)
            spec = watch.spec
            new = begin(spec.service, watch.published, spec.release, spec.name, self._now())
            return sized(new, len(watch.cases))

    def _taken_in(self, watch: _Watch, got: Batch, now: float) -> Tracked:
        accepted = watch.tracked.accepted
        batch = []
        for item, value, usd in got.answers:
            worse: dict[str, float] = {}
            if accepted is not None and UNREAD not in (value, accepted.answers[item]):
                case = watch.cases[item]
                worse = worse_of(watch.published.benchmark, case, value, accepted.answers[item])
            batch.append(Asked(item, value, usd, worse))
        after = judged_by(watch.tracked, watch.scores)
        if batch:
            after = taken_in(after, watch.scores, batch, watch.level, now)
        if got.why:
            after = failed(
                after,
                watch.scores,
                got.why,
                now,
                ever=got.is_forever,
                usd=got.lost_usd,
                others=got.others,
            )
        return after

    async def _keep(self, watch: _Watch, after: Tracked) -> None:
        """Store it; in memory it is the same only after that."""
        document = msgspec.json.encode(after)
        await asyncio.to_thread(self._store.commit_documents, {(KIND, watch.key): document})
        watch.tracked = after
        self._kept[watch.key] = after
