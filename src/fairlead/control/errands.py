"""What control has to ask beside the turns of its loop: a task at a time, again if it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fairlead.domain.defects import defect, trail
from fairlead.domain.errors import FairleadError

Work = Coroutine[Any, Any, None]
_log = logging.getLogger(__name__)


class Errand:
    """Tasks for one purpose: the next one begins when it is due, and the last one has ended.

    Whatever one ends by is shown as trouble until the next has ended, and is no end of the loop.

    Args:
        what: What it is, for the log: `bias of bank`.
        now: Unix time in seconds.
    """

    def __init__(self, what: str, now: Callable[[], float]) -> None:
        self.what = what
        self.task: asyncio.Task[None] | None = None
        self.trouble = ""
        self.alive_at = now()
        """When it was last seen to get on; whoever does the work sets it, too."""
        self._now = now
        self._rests_until = 0.0

    def go_on(self, due: Callable[[float], Work | None], *, rest_s: float) -> None:
        """Begin what is due, once what was begun before has ended.

        Args:
            due: What there is to do at a time; asked for only when it can begin.
            rest_s: For how long nothing is begun after a failure.
        """
        if self.task is not None:
            if not self.task.done():
                return
            self._look_at(self.task, rest_s)
            self.task = None
        now = self.alive_at = self._now()
        if now < self._rests_until:
            return
        work = due(now)
        if work is not None:
            self.task = asyncio.create_task(work)

    def end_rest(self) -> None:
        """Let it begin again at once, though it has failed."""
        self._rests_until = 0.0

    async def cancel(self) -> None:
        """End what is under way, and wait for that."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def _look_at(self, ended: asyncio.Task[None], rest_s: float) -> None:
        error = ended.exception()
        self.trouble = ""
        if error is None:
            return
        self._rests_until = self._now() + rest_s
        if isinstance(error, FairleadError):
            self.trouble = error.one_line
            _log.error("%s: %s", self.what, error.one_line)
        else:
            self.trouble = defect(error)
            _log.error("%s: a defect: %s", self.what, trail(error))
