"""Leases of limits: the ledger, with the store behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from fairlead.control.limits.ledger import Ledger
from fairlead.domain.quota import UseRow
from fairlead.wire.quota import Grant
from fairlead.wire.snapshot import Snapshot, SyncRequest, declared_limits

SAVE_EVERY_S = 1.0


class UseStore(Protocol):
    """Where it is kept what was used of limits; see `fairlead.store.interface.KeyStore`."""

    def quota_use(self, now: float) -> list[UseRow]: ...

    def put_quota_use(self, rows: Sequence[UseRow], now: float) -> None: ...


class Leases:
    """What the hub asks about limits.

    Args:
        now: Unix time in seconds.
        monotonic: Seconds that never jump.
    """

    def __init__(
        self,
        store: UseStore,
        workers: int,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._now = now
        self._monotonic = monotonic
        self._ledger = Ledger(workers)
        self._saved_at = float("-inf")

    async def load(self) -> None:
        """Recall what was used before this process."""
        self._ledger.recall(await asyncio.to_thread(self._store.quota_use, self._now()))

    def use(self, snapshot: Snapshot) -> None:
        """The limits are those of this snapshot."""
        self._ledger.declare(declared_limits(snapshot))

    def report(self, request: SyncRequest, boots: Collection[str]) -> None:
        """Take in a worker's report; `boots` are those that run."""
        self._ledger.retain(boots)
        if request.quota is not None:
            self._ledger.report(request.quota, request.boot, self._monotonic(), self._now())
            self._ledger.tidy(self._now())

    def grants(self, request: SyncRequest, *, all_known: bool) -> tuple[Grant, ...]:
        """What to answer it."""
        if request.quota is None:
            return ()
        return self._ledger.grants(request.quota.seat, all_known=all_known)

    @property
    def is_asked_for(self) -> bool:
        """Whether a worker lacks something."""
        return self._ledger.is_asked_for

    async def save(self, *, at_once: bool = False) -> None:
        """Keep what was used, once a second; raises what the store raises, and tries again."""
        now = self._monotonic()
        if now - self._saved_at < SAVE_EVERY_S and not at_once:
            return
        self._saved_at = now
        rows = self._ledger.unsaved()
        if rows:
            await asyncio.to_thread(self._store.put_quota_use, rows, self._now())
            self._ledger.saved(rows)
