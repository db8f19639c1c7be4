"""Which monitors watch a release."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from fairlead.control.judging.asking import Seat
from fairlead.control.watching.asked_vectors import VectorsAsker
from fairlead.control.watching.sampling import unseen
from fairlead.control.watching.served import Served
from fairlead.domain.errors import FairleadError, Unavailable
from fairlead.embedding.asking_time import AskingTime
from fairlead.gateway.replicas.routing import unit_of
from fairlead.monitoring.embedding_model import EmbeddingModel
from fairlead.monitoring.monitors.interface import Monitor
from fairlead.monitoring.monitors.keys import SlowKeyMonitor
from fairlead.monitoring.monitors.requests import build
from fairlead.monitoring.monitors.segments import SegmentMonitor, alpha_of
from fairlead.monitoring.monitors.spending import CostMonitor
from fairlead.store.keys import KeyRow

if TYPE_CHECKING:
    from fairlead.embedding.asked import AskedModel
    from fairlead.embedding.interface import Embedder


class Keys(Protocol):
    """Where API keys are known."""

    def list_keys(self, *, revoked: bool = False) -> list[KeyRow]:
        """Those in force, oldest first; with `revoked`, those revoked too."""
        ...


class MonitorMaker:
    """Makes the monitors of a release, by what is declared of its service.

    Args:
        word_vectors: The table of what words mean; drift goes by spelling where it is not there.
        service_vectors: Where tables are that were fitted to what a service is asked, by its name:
            they go before the one of words.
        seat: Where a service of this installation is asked, for vectors; raises Unavailable.
        now: Unix time in seconds.
        monotonic: Seconds that never jump.
    """

    def __init__(
        self,
        keys: Keys,
        word_vectors: Path | None = None,
        seat: Callable[[str], Seat] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        service_vectors: Path | None = None,
    ) -> None:
        self._keys = keys
        self._word_vectors = word_vectors
        self._service_vectors = service_vectors
        self._fitted: dict[str, Embedder | None] = {}
        self._seat = seat or _nowhere
        self._now, self._monotonic = now, monotonic
        # One that no monitor goes by any more is gone, and what it has answered with it.
        self._asked: WeakValueDictionary[tuple[EmbeddingModel, str], AskedModel]
        self._asked = WeakValueDictionary()
        self._asking_time = AskingTime(monotonic)
        self._names: dict[str, str] = {}

    def __call__(self, served: Served, release: str) -> Sequence[Monitor]:
        """All that are not turned off."""
        declared, service = served.declared, served.name
        made = [*build(service, release, declared.monitors, served.grading)]
        monitors, names = declared.monitors, self._name_of
        rarely = monitors.requests_per_false_alarm
        made += (
            CostMonitor(service, release, name_of=names, requests_per_false_alarm=rarely),
            SlowKeyMonitor(service, release, monitors, name_of=names),
        )
        segments = {one.name: one.keys for one in served.segments}
        if segments:
            made.append(
                SegmentMonitor(
                    service,
                    release,
                    segments,
                    key_unit=_unit_of_key,
                    name_of=self._name_of,
                    feedback=dict(served.feedback),
                    alpha=alpha_of(rarely),
                )
            )
        if served.capture is not None:
            # numpy is loaded for them, where there are texts.
            from fairlead.monitoring.monitors.texts import build_texts

            texts, names, embedder = declared.texts, self._name_of, self._embedder_of(served)
            made += build_texts(service, release, texts, embedder, segments, name_of=names)
        not_made = {*declared.monitors.off, *unseen(served.capture, declared.monitors.off)}
        return [monitor for monitor in made if monitor.name not in not_made]

    def _embedder_of(self, served: Served) -> Embedder:
        """The model that is declared, one for all that declare it alike; or what is at hand."""
        model = served.declared.embeddings
        if model is None:
            return self._fitted_to(served.name) or self._embedder
        from fairlead.embedding.asked import AskedModel

        key = (model, served.embedding_release)
        made = self._asked.get(key)
        if made is None:
            made = self._asked[key] = AskedModel(
                model.identity(served.embedding_release), VectorsAsker(model, self._seat),
                model.per_day, self._now, self._monotonic, self._asking_time,
            )  # fmt: skip
        return made

    def _fitted_to(self, service: str) -> Embedder | None:
        if self._service_vectors is None:
            return None
        if service not in self._fitted:
            from fairlead.embedding.choosing import fitted

            self._fitted[service] = fitted(self._service_vectors / service)
        return self._fitted[service]

    @cached_property
    def _embedder(self) -> Embedder:
        """One for all: the table, and the words that were met, are in memory once."""
        from fairlead.embedding.choosing import chosen

        return chosen(self._word_vectors)

    def _name_of(self, key: str) -> str:
        if key not in self._names:
            try:
                rows = self._keys.list_keys(revoked=True)
            except FairleadError:
                return key  # Its id says it as well.
            self._names.update({row.id: row.name for row in rows})
            self._names.setdefault(key, key)
        return self._names[key]


def _nowhere(service: str) -> Seat:
    raise Unavailable(f"{service} is not there")


def _unit_of_key(key: str) -> str:
    """The unit of a request that names neither a session nor a user."""
    return unit_of(key, None, None)
