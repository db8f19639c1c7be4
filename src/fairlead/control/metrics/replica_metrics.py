"""The replicas' own metrics, asked for in the background and shown by release.

Engines know no releases, and a Prometheus knows no replicas that come and go. Control knows both.
Each round asks all replicas, a few at a time; one that does not answer in time, or not as an
engine that is known, costs only its own figures.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from fairlead.control.metrics.arms import used_by
from fairlead.control.metrics.engine_text import (
    FIGURES,
    NotUnderstood,
    Reading,
    read_engine_text,
)
from fairlead.control.metrics.families import Families
from fairlead.control.world.wants import ServiceWant
from fairlead.domain.outbound import DIRECT, Outbound
from fairlead.domain.release import RemoteModel, short
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.gateway.records.metric_families import FamilyState
from fairlead.targets.http import HttpFailed, request

ROUND_EVERY_S = 10.0
ASK_TIMEOUT_S = 3.0
AT_ONCE = 8
STALE_S = 60.0
"""What a replica said longer ago is not shown any more."""

STRANGE_S = 600.0
"""One that answers, but not as an engine that is known, is asked again only after so long."""

ASKED = (ReplicaState.READY, ReplicaState.UNHEALTHY, ReplicaState.SURPLUS)
_log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where one replica's metrics are."""

    url: str
    outbound: Outbound


class _Said(NamedTuple):
    reading: Reading | None
    at: float


class Ask(Protocol):
    """Gets the text."""

    def __call__(self, place: Place) -> Awaitable[bytes]:
        """Raises HttpFailed when there is none."""
        ...


async def ask(place: Place) -> bytes:
    """One GET, without any key."""
    answer = await request(
        place.url, body=None, headers={}, timeout_s=ASK_TIMEOUT_S, outbound=place.outbound
    )
    if answer.status != 200:
        raise HttpFailed(f"status {answer.status}")
    return answer.body


class ReplicaMetrics:
    """See the head of this file.

    Args:
        monotonic: Seconds that never jump.
    """

    def __init__(
        self,
        wants: Callable[[], Sequence[ServiceWant]],
        replicas: Callable[[], Sequence[ReplicaStatus]],
        monotonic: Callable[[], float],
        ask: Ask = ask,
    ) -> None:
        self._wants = wants
        self._replicas = replicas
        self._monotonic = monotonic
        self._ask = ask
        self._said: dict[str, _Said] = {}
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ask from now on."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ask nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def round(self) -> None:
        """Ask each replica once."""
        places = self._places()
        self._said = {key: said for key, said in self._said.items() if key in places}
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(key: str, place: Place) -> None:
            async with gate:
                await self._ask_one(key, place)

        now = self._monotonic()
        due = [(key, place) for key, place in places.items() if self._is_due(key, now)]
        await asyncio.gather(*(one(key, place) for key, place in due))

    def states(self) -> list[FamilyState]:
        """What replicas said of themselves lately, for each release that they serve."""
        families = Families()
        labels = ("service", "release", "replica", "engine")
        made = {
            figure.suffix: (families.gauge if figure.kind == "gauge" else families.counter)(
                f"fairlead_replica_{figure.suffix}", figure.help, labels
            )
            for figure in FIGURES
        }
        families.counter(
            "fairlead_replica_scrape_failures_total",
            "Times that a replica did not give its metrics, or not as they should be.",
        ).inc((), self._failures)
        now = self._monotonic()
        for want in self._wants():
            for digest, known in used_by(want).items():
                for replica in self._replicas():
                    said = self._said.get(replica.id)
                    if replica.engine_digest != known.release.engine_digest or said is None:
                        continue
                    if said.reading is None or now - said.at > STALE_S:
                        continue
                    where = (want.spec.service, short(digest), replica.id, said.reading.engine)
                    for suffix, value in said.reading.values.items():
                        made[suffix].set(where, value)
        return families.states()

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except Exception:  # noqa: BLE001 - metrics of replicas end nothing else
                _log.exception("the metrics of replicas could not be asked for")
            await asyncio.sleep(ROUND_EVERY_S)

    def _is_due(self, key: str, now: float) -> bool:
        said = self._said.get(key)
        return said is None or said.reading is not None or now - said.at >= STRANGE_S

    async def _ask_one(self, key: str, place: Place) -> None:
        try:
            reading = read_engine_text(await self._ask(place))
        except (HttpFailed, NotUnderstood) as trouble:
            self._failures += 1
            _log.debug("metrics of replica %s: %s", key, trouble)
            return
        self._said[key] = _Said(reading, self._monotonic())

    def _places(self) -> dict[str, Place]:
        models = {
            known.release.engine_digest: known.release.model
            for want in self._wants()
            for known in used_by(want).values()
        }
        found = {}
        for replica in self._replicas():
            model = models.get(replica.engine_digest)
            if model is None or replica.state not in ASKED or not replica.base_url:
                continue
            outbound = (model.outbound or DIRECT) if isinstance(model, RemoteModel) else DIRECT
            parts = urlsplit(replica.base_url)
            # Over https there is a provider, and whoever asked it for metrics would be a nuisance.
            if parts.scheme == "http":
                found[replica.id] = Place(f"http://{parts.netloc}/metrics", outbound)
        return found
