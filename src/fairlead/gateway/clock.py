"""Time as the worker sees it."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Monotonic time, and wall time that never jumps.

    The offset between both is read once, so that start times grow with the order of the requests
    even when the system clock is set; `ProgressRecord.complete_until` relies on that.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.now = monotonic
        self._offset = wall() - monotonic()

    def wall(self) -> float:
        """Unix time in seconds."""
        return self._offset + self.now()

    def as_wall(self, monotonic: float) -> float:
        """The Unix time of a moment given in monotonic seconds."""
        return self._offset + monotonic
