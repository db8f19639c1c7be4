"""How long a request may still wait for a replica: one allowance over all its attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead.gateway.clock import Clock


class Patience:
    """What is left of the allowance; it runs only while the request waits.

    Args:
        left_s: Seconds that may be waited in all.
    """

    def __init__(self, clock: Clock, left_s: float) -> None:
        self._clock = clock
        self._left_s = left_s
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, on_expired: Callable[[], None]) -> None:
        """It waits from now on (or still does); call this when nothing is left."""
        if self._timer is not None:
            return
        self._since = self._clock.now()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, self._left_s), on_expired)

    def end(self) -> float | None:
        """It waits no longer; the seconds that it did, None when it did not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._since is None:
            return None
        waited_s = self._clock.now() - self._since
        self._since = None
        self._left_s -= waited_s
        return waited_s
