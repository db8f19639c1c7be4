"""Which conversations may finish on a release that is left: chosen once, from what was recorded.

They are stored before they are published. Records are written when a request ends: chosen again,
after a restart, there would be others among them, who would go back to the release that they left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from fairlead.control.world.wants import ServiceWant
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import FairleadError
from fairlead.rollout.model import Finish
from fairlead.store.interface import TelemetryStore
from fairlead.store.keys import KeyStore

UNITS_MAX = 20_000
"""Conversations of one service that stay; those that were silent for longest move at once."""
_log = logging.getLogger(__name__)


class _Store(TelemetryStore, KeyStore, Protocol):
    """Records, and settings."""


class _Chosen(msgspec.Struct, frozen=True):
    """What is stored for a service while conversations of its rollout may finish."""

    rollout: str
    finish: Finish
    units: tuple[str, ...]


class Conversations:
    """Remembers the units of each rollout for as long as they may finish.

    A store that fails keeps nobody's traffic from moving: all conversations move then.
    """

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._known: dict[str, _Chosen | None] = {}

    async def fill(self, wants: Sequence[ServiceWant]) -> list[ServiceWant]:
        """The wants with the units that may finish."""
        known: dict[str, _Chosen | None] = {}
        filled = []
        for want in wants:
            service, finish = want.spec.service, want.desired.finish
            before = self._known.get(service)
            if finish is None or want.rollout is None:
                if before is not None or service not in self._known:
                    await asyncio.to_thread(self._clear, service)
                known[service] = None
                filled.append(want)
                continue
            if before is None or (before.rollout, before.finish) != (want.rollout, finish):
                before = await asyncio.to_thread(self._chosen, service, want.rollout, finish)
            known[service] = before
            filled.append(msgspec.structs.replace(want, finishing=before.units))
        self._known = known
        return filled

    def _chosen(self, service: str, rollout: str, finish: Finish) -> _Chosen:
        try:
            stored = _decoded(self._store.get_setting(_key(service)))
            if stored is not None and (stored.rollout, stored.finish) == (rollout, finish):
                return stored
            units = self._store.units_under(
                rollout,
                phase=finish.phase,
                arm=finish.arm,
                since=finish.since,
                until=finish.before,
                limit=UNITS_MAX,
            )
            chosen = _Chosen(rollout, finish, tuple(sorted(units)))
            self._store.set_setting(_key(service), msgspec.json.encode(chosen).decode())
        except FairleadError as error:
            _log.error("rollout %s: no conversation finishes: %s", rollout, error.one_line)
            return _Chosen(rollout, finish, ())
        return chosen

    def _clear(self, service: str) -> None:
        """Their time is over: what was stored of them is not kept."""
        try:
            if self._store.get_setting(_key(service)):
                self._store.set_setting(_key(service), "")
        except FairleadError as error:
            _log.error("service %s: its conversations stay stored: %s", service, error.one_line)


def _key(service: str) -> str:
    return f"conversations/{service}"


def _decoded(text: str | None) -> _Chosen | None:
    """None for nothing, and for what is damaged or of another build: then they are chosen anew."""
    try:
        return decode_json(text.encode(), _Chosen) if text else None
    except msgspec.DecodeError:
        return None
