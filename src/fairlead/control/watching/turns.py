"""Whose turn it is to change something: looks take theirs, and people do not wait for ever.

What has begun is not ended, since its thread goes on: it keeps the turn until it is done, and who
asked for it is told that it is not known yet what comes of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fairlead.domain.defects import trail
from fairlead.domain.errors import FairleadError, Unavailable

WAIT_S = 5.0
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Turns:
    """One at a time, in the order in which they come.

    Args:
        held_by: What may have the turn for long, in words.

    Attributes:
        wait_s: So long, at most, a person waits until something is done.
    """

    def __init__(self, held_by: str, wait_s: float = WAIT_S) -> None:
        self.wait_s = wait_s
        self._held_by = held_by
        self._lock = asyncio.Lock()
        self._going = set[asyncio.Task[Any]]()

    @property
    def is_taken(self) -> bool:
        """Whether something is being done now."""
        return self._lock.locked()

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_raised: object) -> None:
        self._lock.release()

    async def take(self, do: Callable[[], Awaitable[T]]) -> T:
        """Do it when its turn comes; raises Unavailable where it is not done soon.

        Where its turn has not come by then, it is not done at all.
        """
        begun = asyncio.Event()

        async def taken() -> T:
            async with self._lock:
                begun.set()
                return await do()

        doing = asyncio.create_task(taken())
        self._going.add(doing)
        doing.add_done_callback(self._going.discard)
        try:
            await asyncio.wait((doing,), timeout=self.wait_s)
        finally:
            if not begun.is_set():
                doing.cancel()
        if doing.done():
            return doing.result()
        if not begun.is_set():
            raise Unavailable(
                f"this was not done: {self._held_by} does not come to its end",
                hint="`fairlead status` says since when; try again",
            )
        doing.add_done_callback(_log_late)
        raise Unavailable(
            f"this is not done within {self.wait_s:g} s, and may be done later: the store is slow",
            hint="see whether it was done before you ask again",
        )


def _log_late(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, FairleadError):
        _log.error("watching: what a person asked for was not done: %s", error.one_line)
    elif isinstance(error, Exception):
        _log.error("watching: what a person asked for: a defect: %s", trail(error))
