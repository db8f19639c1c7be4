"""The promotions of a service as the store has them, and the way back that they give."""

from __future__ import annotations

import asyncio

import msgspec

from fairlead.control.shipping.catalogue import Catalogue
from fairlead.control.shipping.documents import RolloutDocument, previous_of, way_back
from fairlead.control.shipping.running import Running
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.errors import NotFound
from fairlead.domain.release import short
from fairlead.rollout.states import State
from fairlead.store.interface import RolloutStore
from fairlead.store.rows import ServiceRow

PROMOTIONS_MAX = 1_000
"""How many of a service's last promotions are looked at to go back."""


class Promotions:
    """Reads which releases were champions."""

    def __init__(self, store: RolloutStore, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    async def way_back(self, service: ServiceRow, to: str | None) -> ServiceSpec:
        """By which spec the service goes back to this release, which is there and whole."""
        promoted = await self._of(service.name)
        spec = way_back(service.name, service.champion, promoted, to)
        try:
            await self._catalogue.know(spec.release, spec.name)
        except NotFound:
            raise NotFound(
                f"{service.name}: release {spec.name} ({short(spec.release)}), to which it would "
                "go back, is not in the registry any more",
                hint="build it again, or name another former champion with --to",
            ) from None
        return spec

    async def service_after(self, running: Running, before: ServiceRow, now: float) -> ServiceRow:
        """The service as it is once the rollout is promoted."""
        release, previous = running.spec.release, before.champion
        if running.goes_back:
            previous = previous_of(release, await self._of(before.name))
        return ServiceRow(before.name, msgspec.json.encode(running.spec), release, previous, now)

    async def _of(self, service: str) -> list[RolloutDocument]:
        """The service's promotions, oldest first; raises Damaged."""
        rows = await asyncio.to_thread(
            lambda: self._store.rollouts(service, state=State.PROMOTED.value, limit=PROMOTIONS_MAX)
        )
        return [read_rollout(row).document for row in reversed(rows)]
