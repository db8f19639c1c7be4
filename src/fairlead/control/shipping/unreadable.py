"""Rollouts that have not ended and cannot be read: an active one holds up its service only.

The service is served by its champion meanwhile. Such a rollout can be ended by hand, its document
staying as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from fairlead.domain.errors import Conflict, Damaged
from fairlead.rollout.machine import Command
from fairlead.rollout.states import State
from fairlead.store.interface import RolloutStore
from fairlead.store.rows import EventRow, RolloutRow

_log = logging.getLogger(__name__)


class Unreadable:
    """Their rows, and what is wrong with each.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, store: RolloutStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._rows: dict[str, tuple[RolloutRow, Damaged]] = {}

    def add(self, row: RolloutRow, error: Damaged) -> None:
        """An active or queued rollout that cannot be read."""
        self._rows[row.id] = row, error
        _log.error("%s", error.one_line)

    def trouble_of(self, service: str) -> Damaged | None:
        """What is wrong with the service's active rollout, if that is unreadable."""
        found = (e for row, e in self._rows.values() if row.service == service and row.active)
        return next(found, None)

    def check(self, service: str) -> None:
        """Raises Damaged while the service has such a rollout."""
        error = self.trouble_of(service)
        if error is not None:
            raise Damaged(error.message, hint=error.hint)

    def find(self, rollout: str) -> RolloutRow | None:
        """The row of this id, if it is one of these."""
        found = self._rows.get(rollout)
        return None if found is None else found[0]

    async def command(self, row: RolloutRow, command: Command) -> None:
        """End it; raises Conflict for any other command."""
        if command is not Command.ABORT:
            raise Conflict(
                f"rollout {row.id} cannot be read",
                hint=f"all that can be done is `fairlead rollout abort {row.id}`",
            )
        now, state = self._now(), State.ABORTED.value
        ended = msgspec.structs.replace(row, state=state, active=False, updated_at=now)
        why = "aborted by hand; its document cannot be read"
        event = EventRow(now, f"rollout_{state}", why, service=row.service, rollout=row.id)
        await asyncio.to_thread(
            lambda: self._store.commit_rollout(ended, expected_version=row.version, events=[event])
        )
        del self._rows[row.id]
