"""Services whose fallbacks answer for their champion, because of an alert.

What is kept is a document for each: the release that is diverted from, since when, and why. It
holds for that release only, so it ends with the promotion of another one, and by a person's word.
It is written before anything acts on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from fairlead.control.documents import read_all
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.errors import Conflict, NotFound
from fairlead.domain.release import short
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow

BEGUN, ENDED = "diverted", "undiverted"
"""Kinds of events."""

DIVERTED = "diverted"
"""Kind of the documents."""


class Diversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That a service's fallbacks answer.

    Attributes:
        release: Digest of the release that is left out.
        since: Unix time in seconds.
        by: The policy by which, or who.
        why: In words.
        fallbacks: Those that were there to answer, the first one first.
    """

    service: str
    release: str
    since: float
    by: str
    why: str
    fallbacks: tuple[str, ...] = ()


class Diversions:
    """All services that are diverted.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._kept: dict[str, Diversion] = {}

    async def load(self) -> None:
        """Read what is stored."""
        self._kept = await asyncio.to_thread(read_all, self._store, DIVERTED, Diversion)

    def is_diverted(self, service: str, release: str | None) -> bool:
        """Whether the fallbacks are to answer for this champion."""
        kept = self._kept.get(service)
        return kept is not None and kept.release == release

    def all(self) -> list[Diversion]:
        """By service."""
        return [self._kept[name] for name in sorted(self._kept)]

    def check_ship(self, spec: ServiceSpec) -> None:
        """Raises Conflict for a rollout that compares with a champion that gets no requests."""
        kept = self._kept.get(spec.service)
        if kept is None or kept.release == spec.release:
            return
        if spec.plan.steps or spec.plan.shadow or spec.plan.chooses_steps:
            raise Conflict(
                f"{spec.service}: its fallbacks answer ({kept.why}): there are no requests of the "
                "champion to compare a release with",
                hint=f"`fairlead monitor undivert {spec.service}` lets the champion serve again; "
                "or ship with rollout.strategy immediate or blue_green and no shadow",
            )

    async def begin(self, diversion: Diversion) -> None:
        """From now on the fallbacks answer."""
        await self._commit({diversion.service: diversion}, ())
        await self._event(BEGUN, diversion, f"its fallbacks answer: {diversion.why}")

    async def end(self, service: str, why: str) -> Diversion:
        """The champion serves again; raises NotFound if it does already."""
        kept = self._kept.get(service)
        if kept is None:
            raise NotFound(
                f"no fallbacks answer for {service!r}",
                hint="only what an action has diverted can be undone so; see `fairlead status`",
            )
        await self._commit({}, [service])
        await self._event(ENDED, kept, why)
        return kept

    async def tidy(self, champions: Iterable[ServiceSpec]) -> None:
        """End those whose release serves no more."""
        serve = {spec.service: spec.release for spec in champions}
        for kept in self.all():
            serves = serve.get(kept.service)
            if serves != kept.release:
                by = "no release serves" if serves is None else f"release {short(serves)} serves"
                await self.end(kept.service, f"the fallbacks are not needed any more: {by}")

    async def _commit(self, puts: dict[str, Diversion], deletes: Iterable[str]) -> None:
        gone = tuple(deletes)
        data = {(DIVERTED, key): msgspec.json.encode(one) for key, one in puts.items()}
        keys = [(DIVERTED, key) for key in gone]
        await asyncio.to_thread(self._store.commit_documents, data, keys)
        self._kept = {k: v for k, v in (self._kept | puts).items() if k not in gone}

    async def _event(self, kind: str, of: Diversion, message: str) -> None:
        data = msgspec.json.encode({"release": of.release, "by": of.by})
        event = EventRow(self._now(), kind, message, service=of.service, data=data)
        await asyncio.to_thread(self._store.add_events, [event])
