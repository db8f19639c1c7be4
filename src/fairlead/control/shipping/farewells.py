"""Tells the hooks at `after` how rollouts ended, also through a restart of control.

A rollout's last commit says that its hooks are to be told, and one more says that they were. What
they say changes nothing; that they could not be reached is an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fairlead.control.outside.hooks import Hooks
from fairlead.control.shipping.running import Running
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.errors import Damaged
from fairlead.rollout.checkpoints import AFTER, HookOutcome
from fairlead.store.interface import RolloutStore
from fairlead.store.rows import EventRow

ENDED_MAX = 200
"""How many of the last rollouts are looked at after a start."""
_log = logging.getLogger(__name__)


class Farewells:
    """The rollouts that have ended, and whose hooks have not settled.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, store: RolloutStore, hooks: Hooks, now: Callable[[], float]) -> None:
        self._store = store
        self._hooks = hooks
        self._now = now
        self._untold: dict[str, Running] = {}

    async def load(self) -> None:
        """Find those that a control before this one did not get to tell."""
        rows = await asyncio.to_thread(lambda: self._store.rollouts(active=False, limit=ENDED_MAX))
        for row in rows:
            try:
                if read_rollout(row).document.untold:
                    self._untold[row.id] = Running.of(row)
            except Damaged as error:
                _log.error("%s", error.one_line)

    def add(self, ended: Running) -> None:
        """A rollout that has just ended."""
        self._untold[ended.rollout.id] = ended

    async def advance(self) -> None:
        """Tell those that are untold, and keep that they were told."""
        for rollout_id, ended in list(self._untold.items()):
            self._hooks.start(ended.rollout, AFTER)
            report = self._hooks.report(rollout_id, AFTER)
            if report is None:
                continue
            events: list[EventRow] = []
            if report.outcome is not HookOutcome.PASSED:
                _log.error("rollout %s: %s", rollout_id, report.why)
                events = [
                    EventRow(
                        self._now(), "hook_unreachable", report.why,
                        service=ended.rollout.service, rollout=rollout_id,
                    )
                ]  # fmt: skip
            await asyncio.to_thread(self._keep, ended, events)
            ended.version += 1
            del self._untold[rollout_id]
            await self._hooks.forget(rollout_id)

    def _keep(self, ended: Running, events: list[EventRow]) -> None:
        row = ended.row(ended.rollout, ended.then, self._now())
        self._store.commit_rollout(row, expected_version=ended.version, events=events)
