"""Events of streams that go out together, while the worker is close to what it can do.

Each event that is passed on alone costs a write, which is most of its cost. A worker that has no
time left for that would fall behind, and its clients would wait ever longer. So it lets events wait
for each other, for as long as it takes to keep up and no longer than `BATCH_S_MAX`: what is a delay
of some hundredths of a second for a reader halves the writes. A stream's first event never waits,
and with time to spare none does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

BATCH_S_MAX = 0.04
BATCH_S_MIN = 0.005
BUSY = 0.85
"""Share of its core from which on a worker batches more."""
IDLE = 0.6
"""Share below which it batches less."""
LATE_S = 0.03
"""By so much late, a timer shows that the worker is behind, whatever share of a core it gets."""
BATCH_BYTES_MAX = 16 * 1024


class Batched(Protocol):
    """A connection with events that wait."""

    def flush(self) -> None:
        """Send them."""


class Batches:
    """What waits in one worker, and for how long.

    Args:
        cpu: CPU seconds that this process has used.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], object],
        now: Callable[[], float],
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._call_later = call_later
        self._now = now
        self._cpu = cpu
        self._asked_at = now()
        self._used = cpu()
        self._waiting: list[Batched] = []
        self.delay_s = 0.0
        """How long events wait now; 0 for not at all."""

    def add(self, connection: Batched) -> None:
        """It has events that wait."""
        if not self._waiting:
            self._call_later(self.delay_s, self._flush)
        self._waiting.append(connection)

    def adjust(self, planned_s: float) -> None:
        """To be called at a steady pace; look at how busy the worker was since the last time.

        Args:
            planned_s: Seconds after which this was meant to be called again.
        """
        now, used = self._now(), self._cpu()
        passed_s = max(now - self._asked_at, 1e-6)
        share = (used - self._used) / passed_s
        self._asked_at, self._used = now, used
        if share > BUSY or passed_s - planned_s > LATE_S:
            self.delay_s = min(BATCH_S_MAX, max(BATCH_S_MIN, 2.0 * self.delay_s))
        elif share < IDLE:
            self.delay_s = 0.5 * self.delay_s if self.delay_s > BATCH_S_MIN else 0.0

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()
