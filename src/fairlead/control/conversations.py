"""Which conversations may finish on a release that is left: read once, from what was recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from fairlead.control.wants import ServiceWant
from fairlead.domain.errors import FairleadError
from fairlead.rollout.model import Finish
from fairlead.store.interface import TelemetryStore

UNITS_MAX = 20_000
"""Conversations of one service that stay; those that were silent for longest move at once."""
_log = logging.getLogger(__name__)


class Conversations:
    """Remembers the units of each rollout for as long as they may finish.

    A store that cannot be read keeps nobody's traffic from moving: all conversations move then.
    """

    def __init__(self, store: TelemetryStore) -> None:
        self._store = store
        self._known: dict[tuple[str, Finish], tuple[str, ...]] = {}

    async def fill(self, wants: Sequence[ServiceWant]) -> list[ServiceWant]:
        """The wants with the units that may finish."""
        filled, known = [], {}
        for want in wants:
            finish = want.desired.finish
            if finish is None or want.rollout is None:
                filled.append(want)
                continue
            key = want.rollout, finish
            units = self._known.get(key)
            if units is None:
                units = await asyncio.to_thread(self._read, *key)
            known[key] = units
            filled.append(msgspec.structs.replace(want, finishing=units))
        self._known = known
        return filled

    def _read(self, rollout: str, finish: Finish) -> tuple[str, ...]:
        try:
            units = self._store.units_under(
                rollout,
                phase=finish.phase,
                arm=finish.arm,
                since=finish.since,
                until=finish.before,
                limit=UNITS_MAX,
            )
        except FairleadError as error:
            _log.error("rollout %s: no conversation finishes: %s", rollout, error.one_line)
            return ()
        return tuple(sorted(units))
