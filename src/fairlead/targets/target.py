"""What control asks of a place where replicas run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fairlead.domain.replica import ReplicaStatus, Wanted


class Target(Protocol):
    """Keeps as many replicas as are wanted. One control process at a time uses a target."""

    async def adopt(self) -> None:
        """Take over the replicas that run already; called once, before the first `reconcile`."""

    async def reconcile(self, wanted: Sequence[Wanted], may_stop: Callable[[str], bool]) -> None:
        """Bring what runs one step nearer to what is wanted; called several times a second.

        Returns soon; starting, probing and stopping go on behind it. Replicas that are wanted no
        more become SURPLUS, and are stopped when `may_stop(replica id)` says that nobody uses
        them. What ended is started again in such a call only, and only for a wish with `start`.
        """

    def replicas(self) -> list[ReplicaStatus]:
        """All replicas as they were last seen, in the order of their ids."""

    async def close(self, *, stop: bool) -> None:
        """Let go of all replicas; with `stop`, end them first, and return when they have ended."""
