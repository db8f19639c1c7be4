"""Asks champions pairs of requests that differ in one trait, and keeps what that shows.

What is stored is the truth: answers are kept, with the evidence they make, before the next ones are
asked for. A control that dies asks at most the last batch again; no pair counts twice. Pairs go to
the release's replicas directly, through the guardrails that a user's request meets: no user's
record, quota or figure has them; what they cost is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

import msgspec

from fairlead.control.bias.asking import ask_pair
from fairlead.control.bias.self_test import DailySelfTest, pairs_self_test
from fairlead.control.bias.telling import MONITOR, BiasView, bias_view, conditions_of
from fairlead.control.errands import Errand, Work
from fairlead.control.outside.ask import ReplicaClient
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import FairleadError, NotFound
from fairlead.domain.guardrail import tightened
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.watchers import Report
from fairlead.monitoring.watchers import Watch as Expected
from fairlead.probing.bias import (
    accepted,
    begin,
    due,
    failed,
    held_by,
    is_complete,
    is_readable,
    lacking,
    taken_in,
    wants_round,
)
from fairlead.probing.bias_model import Biasing, BiasSpec
from fairlead.probing.bias_pairs import plan_of
from fairlead.probing.bounds import RETRY_S
from fairlead.store.watching import DocumentStore

KIND = "bias"
"""Of the documents that are kept; their key is `service/release`."""
PAIRS_AT_ONCE = 2
RELEASES_MAX = 5
"""Releases of a service whose pairs are remembered: who comes back goes on."""
_log = logging.getLogger(__name__)


class Watch:
    """The pairs of one release, as they are stored, and the task that asks them."""

    def __init__(self, spec: ServiceSpec, bias: BiasSpec, biasing: Biasing, errand: Errand) -> None:
        self.spec = spec
        self.bias = bias
        self.plan = plan_of(bias)
        self.biasing = biasing
        self.lock = asyncio.Lock()
        self.errand = errand


class BiasProbes:
    """All champions that are asked pairs.

    Args:
        client_of: How a release is asked, with the seconds that one answer may take.
        now: Unix time in seconds.
        tightened: Names of a service's guardrails that block though its release only flags by them.
    """

    def __init__(
        self,
        store: DocumentStore,
        client_of: Callable[[str, float], ReplicaClient],
        now: Callable[[], float],
        tightened: Callable[[str], Collection[str]] = lambda _service: (),
    ) -> None:
        self._store = store
        self._client_of = client_of
        self._now = now
        self._tightened = tightened
        self._watches: dict[str, Watch] = {}
        self._kept: dict[str, bytes] = {}
        self._self_test = DailySelfTest(pairs_self_test, now)

    async def load(self) -> None:
        """Read what is stored."""
        kept = await asyncio.to_thread(self._store.documents, KIND)
        self._kept = dict(sorted(kept.items(), key=lambda each: _asked_until(each[1])))

    async def close(self) -> None:
        """End all asking; what was answered stays kept."""
        for service in list(self._watches):
            await self._forget(service)

    async def advance(self, specs: Sequence[ServiceSpec]) -> None:
        """Begin what is due, and let go of services that are asked no pairs any more.

        Args:
            specs: Of the services that have a champion.
        """
        await self._self_test.run_if_due()
        wanted = {spec.service: spec for spec in specs if spec.bias is not None and spec.bias.pairs}
        for service in [name for name in self._watches if name not in wanted]:
            await self._forget(service)
        troubles: list[FairleadError] = []
        for spec in wanted.values():
            try:
                self._go_on(await self._watch(spec))
            except FairleadError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def conditions(self, now: float) -> list[Condition]:
        """The gaps that are shown, of all champions; none ends because nothing is asked now."""
        return [
            condition
            for watch in self._watches.values()
            for condition in conditions_of(watch.biasing, watch.bias, watch.plan)
        ]

    def looked(self) -> list[tuple[str, str]]:
        """Of whom `conditions` says all that is known: monitor and service."""
        return [(MONITOR, service) for service in self._watches]

    def reports(self, now: float) -> list[Report]:
        """What became of the pairs, for those who watch the watchers."""
        return [self._report(watch) for watch in self._watches.values()]

    def expected(self) -> list[Expected]:
        """What is expected of each, for those who watch the watchers."""
        return [
            Expected(MONITOR, service, every_s=_every_s(watch.bias))
            for service, watch in self._watches.items()
        ]

    def views(self) -> list[BiasView]:
        """All of them, by service."""
        return [self._view(self._watches[name]) for name in sorted(self._watches)]

    async def accept(self, service: str) -> BiasView:
        """A person has seen the gaps: the evidence begins anew. Raises NotFound."""
        watch = self._watches.get(service)
        if watch is None:
            raise NotFound(
                f"the champion of {service!r} is not asked pairs",
                hint="declare `bias` in its manifest, and `fairlead ship` or `apply` it",
            )
        async with watch.lock:
            await self._keep(watch, accepted(watch.biasing, self._now()))
        return self._view(watch)

    def _view(self, watch: Watch) -> BiasView:
        held = held_by(watch.biasing, watch.bias, self._now())
        return bias_view(
            watch.spec.name, watch.biasing, watch.bias, watch.plan, held, watch.errand.trouble
        )

    def _report(self, watch: Watch) -> Report:
        biasing = watch.biasing
        return Report(
            MONITOR,
            watch.spec.service,
            at=watch.errand.alive_at,
            requests=biasing.pairs + biasing.unanswered,
            looked_at=biasing.pairs,
            error=watch.errand.trouble or biasing.failure,
            self_tested_at=self._self_test.tested_at,
            self_test_error=self._self_test.error,
        )

    def _go_on(self, watch: Watch) -> None:
        rest_s = min(RETRY_S, watch.bias.interval_s)
        watch.errand.go_on(lambda now: self._due(watch, now), rest_s=rest_s)

    def _due(self, watch: Watch, now: float) -> Work | None:
        is_due = wants_round(watch.biasing, watch.plan, now)
        if not is_due or held_by(watch.biasing, watch.bias, now):
            return None
        return self._round(watch)

    async def _watch(self, spec: ServiceSpec) -> Watch:
        assert spec.bias is not None
        found = self._watches.get(spec.service)
        if found is not None:
            # What is asked is looked up where another spec was applied, not in each turn.
            plan = found.plan if found.bias is spec.bias else plan_of(spec.bias)
            if found.spec.release == spec.release and plan.asked == found.biasing.asked:
                found.spec, found.bias, found.plan = spec, spec.bias, plan
                return found
            await self._forget(spec.service)
        errand = Errand(f"bias of {spec.service}", self._now)
        made = Watch(spec, spec.bias, self._read(spec, spec.bias), errand)
        self._watches[spec.service] = made
        return made

    def _read(self, spec: ServiceSpec, bias: BiasSpec) -> Biasing:
        """What is stored of the release's pairs; else begun anew."""
        plan, now = plan_of(bias), self._now()
        new = begin(spec.service, spec.release, plan, now)
        document = self._kept.get(_key(spec))
        if document is None:
            return new
        try:
            kept = decode_json(document, Biasing)
        except msgspec.DecodeError:
            _log.error("bias of %s: what was kept cannot be read; begun anew", spec.service)
            return new
        if kept.asked != new.asked:
            return new
        if not is_readable(kept, plan):
            _log.error("bias of %s: what was kept does not add up; begun anew", spec.service)
            return new
        # A clock that was set back must not keep the pairs from being asked.
        return msgspec.structs.replace(kept, due_at=min(kept.due_at, now + bias.interval_s))

    async def _forget(self, service: str) -> None:
        await self._watches.pop(service).errand.cancel()

    async def _round(self, watch: Watch) -> None:
        """Ask what the round still lacks."""
        bias, plan = watch.bias, watch.plan
        client = self._client_of(watch.spec.release, bias.timeout_s)
        async with watch.lock:
            watch.biasing = due(watch.biasing, bias)
        while watch.biasing.left and not is_complete(watch.biasing, plan):
            if held_by(watch.biasing, bias, self._now()):
                return
            pairs = lacking(watch.biasing, plan, min(PAIRS_AT_ONCE, watch.biasing.left))
            guardrails = tightened(client.guardrails, self._tightened(watch.spec.service))
            price = watch.spec.price
            asked = [ask_pair(client, pair, bias.max_tokens, price, guardrails) for pair in pairs]
            answers = await asyncio.gather(*asked)
            batch = [answered for answered, _ in answers]
            is_answered = any(each.first and each.other for each in batch)
            async with watch.lock:
                now = self._now()
                if is_answered:
                    after = taken_in(watch.biasing, bias, plan, batch, now)
                else:
                    why = next((why for _, why in answers if why), "")
                    after = failed(watch.biasing, bias, batch, why, now)
                await self._keep(watch, after)
            watch.errand.alive_at = now
            if not is_answered:
                return

    async def _keep(self, watch: Watch, after: Biasing) -> None:
        """Store it; in memory it is the same only after that."""
        key, document = _key(watch.spec), msgspec.json.encode(after)
        own = [name for name in self._kept if name.startswith(f"{watch.spec.service}/")]
        old = [name for name in own if name != key][: max(0, len(own) - RELEASES_MAX)]
        await asyncio.to_thread(
            self._store.commit_documents,
            {(KIND, key): document},
            [(KIND, name) for name in old],
        )
        watch.biasing = after
        for name in [*old, key]:
            self._kept.pop(name, None)
        self._kept[key] = document  # The latest stands last.


def _key(spec: ServiceSpec) -> str:
    return f"{spec.service}/{spec.release}"


def _asked_until(document: bytes) -> float:
    """When pairs were last asked, about; 0 for a document that cannot be read."""
    try:
        return decode_json(document, Biasing).due_at
    except msgspec.DecodeError:
        return 0.0


def _every_s(bias: BiasSpec) -> float:
    """A batch may take as long as its answers; a report is due within three times as much."""
    return max(60.0, bias.timeout_s)
