"""Events of streams that are read and sent together, while the worker is close to what it can do.

Each event that is passed on alone costs a read and a write, which are most of its cost. A worker
that has no time left for that would fall behind, and its clients would wait ever longer. So it lets
a stream's connection rest after each read, for as long as it takes to keep up and no longer than
`BATCH_S_MAX`: the events that come meanwhile are read at once and sent at once. What is a delay of
some hundredths of a second for a reader halves the reads and writes. A stream's first event never
waits, and with time to spare none does. What a worker would do without is not seen while it lets
events wait: so it tries that from time to time, for a moment, and ever less often while it fails.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

BATCH_S_MAX = 0.04
BATCH_S_MIN = 0.005
BUSY = 0.95
"""Share of the time in which the worker ran or wanted to, from which on it batches more."""
IDLE = 0.6
"""Share below which it batches less."""
LATE_S = 0.03
"""By so much late, a timer shows that the worker is behind, whatever share of a core it gets."""
TRIAL_S = 0.1
"""How long it is tried without; what is late by its end is caught up with soon."""
PATIENCE, PATIENCE_MAX = 4, 240
"""Looks, neither busy nor idle, after which it is tried."""
_STEP_S = 0.005
"""How exactly rests end: streams that do not rest together keep apart, so that no turn of the event
loop serves all of them."""


class Resting(Protocol):
    """A connection that is not read from."""

    def wake(self) -> None:
        """Read on."""


def busy_s() -> float:
    """Seconds in which this process's main thread ran or waited for a core: where other programs
    share the core, it may be at its limit without having used much time."""
    path = f"/proc/self/task/{threading.main_thread().native_id}/schedstat"
    with contextlib.suppress(OSError, ValueError, IndexError), open(path, "rb") as file:
        ran, waited = file.read(64).split()[:2]
        return (int(ran) + int(waited)) / 1e9
    return time.process_time()


class Batches:
    """What rests in one worker, and for how long.

    Args:
        busy: Seconds in which this process ran or wanted to.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], object],
        now: Callable[[], float],
        busy: Callable[[], float] = busy_s,
    ) -> None:
        self._call_later = call_later
        self._now = now
        self._busy = busy
        self._asked_at = now()
        self._used = busy()
        self._resting: deque[tuple[float, Resting]] = deque()
        self._calm = 0
        self._patience = PATIENCE
        self.delay_s = 0.0
        """How long events may wait for each other now; 0 for not at all."""
        self.rest_s = 0.0
        """How long a connection rests: less, when events wait for the event loop anyway."""

    def add(self, connection: Resting) -> None:
        """It rests from now on."""
        if not self._resting:
            self._call_later(min(_STEP_S, self.rest_s), self._wake)
        self._resting.append((self._now() + self.rest_s, connection))

    def adjust(self, planned_s: float) -> None:
        """To be called at a steady pace; look at how busy the worker was since the last time.

        Args:
            planned_s: Seconds after which this was meant to be called again.
        """
        now, used = self._now(), self._busy()
        passed_s = max(now - self._asked_at, 1e-6)
        share = (used - self._used) / passed_s
        self._asked_at, self._used = now, used
        late_s = max(0.0, passed_s - planned_s)
        if share > BUSY or late_s > LATE_S:
            self.delay_s = min(BATCH_S_MAX, max(BATCH_S_MIN, 2.0 * self.delay_s))
            self._calm = 0
        elif share < IDLE:
            self.delay_s = 0.5 * self.delay_s if self.delay_s > BATCH_S_MIN else 0.0
            self._calm = 0
            if not self.delay_s:
                self._patience = PATIENCE
        elif self.delay_s:
            self._calm += 1
            if self._calm >= self._patience:
                self._try_without()
        self.rest_s = max(0.0, self.delay_s - late_s)

    def _try_without(self) -> None:
        before_s, self.delay_s = self.delay_s, 0.0
        self._calm = 0
        # What rests by now is read first, and is none of what the trial is about.
        self._call_later(before_s, lambda: self._judge_soon(before_s))

    def _judge_soon(self, before_s: float) -> None:
        began, used = self._now(), self._busy()

        def judge() -> None:
            passed_s = max(self._now() - began, 1e-6)
            share = (self._busy() - used) / passed_s
            if share > BUSY or passed_s - TRIAL_S > LATE_S:
                self.delay_s = self.rest_s = max(before_s, self.delay_s)
                self._patience = min(PATIENCE_MAX, 2 * self._patience)
            else:
                self._patience = PATIENCE

        self._call_later(TRIAL_S, judge)

    def _wake(self) -> None:
        resting = self._resting
        # One step early at most, which is nearer than one step late.
        until = self._now() + _STEP_S / 2
        while resting and resting[0][0] <= until:
            resting.popleft()[1].wake()
        if resting:
            self._call_later(_STEP_S, self._wake)
