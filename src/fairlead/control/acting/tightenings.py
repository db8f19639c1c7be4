"""Guardrails that block although their release only flags by them, because of an alert.

What is kept is a document for each: of which release, since when, and why. The release stays what
it is; the snapshot says how its guardrail holds now, and a canary's of that name likewise. It goes
over to the next champion that flags by a guardrail of that name; it ends with the promotion of one
that does not, and by a person's word. It is written before anything acts on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from fairlead.control.documents import read_all
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.errors import NotFound
from fairlead.domain.release import short
from fairlead.store.interface import Store
from fairlead.store.rows import EventRow

BEGUN, ENDED = "guardrail_tightened", "guardrail_loosened"
"""Kinds of events."""

TIGHTENED = "tightened"
"""Kind of the documents."""


class Tightening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That a guardrail blocks.

    Attributes:
        release: Digest of the release whose guardrail it is.
        since: Unix time in seconds.
        by: The policy by which.
        why: In words.
    """

    service: str
    release: str
    guardrail: str
    since: float
    by: str
    why: str

    @property
    def key(self) -> str:
        """Of its document; neither name can hold a slash."""
        return f"{self.service}/{self.guardrail}"


class Tightenings:
    """All guardrails that are tightened.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._kept: dict[str, Tightening] = {}

    async def load(self) -> None:
        """Read what is stored."""
        self._kept = await asyncio.to_thread(read_all, self._store, TIGHTENED, Tightening)

    def names(self, service: str) -> tuple[str, ...]:
        """Those of a service, also while it moves from one champion to the next."""
        return tuple(kept.guardrail for kept in self.all() if kept.service == service)

    def all(self) -> list[Tightening]:
        """By service and name."""
        return [self._kept[key] for key in sorted(self._kept)]

    async def begin(self, several: Sequence[Tightening]) -> None:
        """From now on these block."""
        await self._commit({one.key: one for one in several}, ())
        for one in several:
            await self._event(BEGUN, one, f"guardrail {one.guardrail} blocks: {one.why}")

    async def end(self, service: str, guardrail: str, why: str) -> Tightening:
        """It is as its release declares again; raises NotFound if it is already."""
        kept = self._kept.get(f"{service}/{guardrail}")
        if kept is None:
            there = [one.guardrail for one in self.all() if one.service == service]
            raise NotFound(
                f"no action has tightened a guardrail {guardrail!r} of {service!r}",
                hint=f"tightened are: {', '.join(there) or 'none'}; what a release declares as "
                "block is changed by shipping another release",
            )
        await self._commit({}, [kept.key])
        await self._event(ENDED, kept, f"guardrail {guardrail} is as declared again: {why}")
        return kept

    async def tidy(
        self,
        champions: Iterable[ServiceSpec],
        flagging: Callable[[str], Collection[str] | None],
    ) -> None:
        """Hand those whose release serves no more over to the one that does, or end them.

        Args:
            flagging: Guardrails by which a release only flags; None while it cannot be read.
        """
        serve = {spec.service: spec.release for spec in champions}
        for kept in self.all():
            serves = serve.get(kept.service)
            if serves == kept.release:
                continue
            if serves is None:
                await self.end(kept.service, kept.guardrail, "no release serves")
                continue
            flags = flagging(serves)
            if flags is None:
                continue
            if kept.guardrail in flags:
                handed = msgspec.structs.replace(kept, release=serves)
                await self._commit({kept.key: handed}, ())
            else:
                by = f"release {short(serves)} serves, which does not flag by it"
                await self.end(kept.service, kept.guardrail, by)

    async def _commit(self, puts: dict[str, Tightening], deletes: Iterable[str]) -> None:
        gone = tuple(deletes)
        data = {(TIGHTENED, key): msgspec.json.encode(one) for key, one in puts.items()}
        keys = [(TIGHTENED, key) for key in gone]
        await asyncio.to_thread(self._store.commit_documents, data, keys)
        self._kept = {k: v for k, v in (self._kept | puts).items() if k not in gone}

    async def _event(self, kind: str, of: Tightening, message: str) -> None:
        data = msgspec.json.encode({"release": of.release, "by": of.by, "guardrail": of.guardrail})
        event = EventRow(self._now(), kind, message, service=of.service, data=data)
        await asyncio.to_thread(self._store.add_events, [event])
