"""How fast a lane moves on, and so how long a place in it will have to be waited for. Pure."""

from __future__ import annotations

import math

from fairlead.gateway.limits import (
    DRAIN_MEMORY_S,
    DRAIN_SEEN_MIN,
    DRAIN_SPAN_S_MIN,
    SHED_TOLERANCE,
)


class DrainRate:
    """Requests per second that went on from a lane while others waited in it; recent ones count
    more."""

    __slots__ = ("_at", "_count", "_is_waiting", "_span_s")

    def __init__(self) -> None:
        self._count = 0.0
        self._span_s = 0.0
        self._at = 0.0
        self._is_waiting = False

    def begin(self, now: float) -> None:
        """Somebody waits, and nobody did before. A time without waiting says nothing."""
        if now - self._at > DRAIN_MEMORY_S:
            self._count = self._span_s = 0.0
        self._at = now
        self._is_waiting = True

    def note(self, now: float) -> None:
        """One that waited went on."""
        self._pass_to(now)
        self._count += 1.0

    def end(self, now: float) -> None:
        """Nobody waits any longer."""
        self._pass_to(now)
        self._is_waiting = False

    def rate(self, now: float) -> float | None:
        """Requests per second; None while too little was seen."""
        if not self._is_waiting:
            return None
        self._pass_to(now)
        if self._count < DRAIN_SEEN_MIN or self._span_s < DRAIN_SPAN_S_MIN:
            return None
        return self._count / self._span_s

    def _pass_to(self, now: float) -> None:
        if not self._is_waiting or now <= self._at:
            return
        elapsed_s, self._at = now - self._at, now
        kept = math.exp(-elapsed_s / DRAIN_MEMORY_S)
        self._count *= kept
        self._span_s = self._span_s * kept + elapsed_s


def waits_too_long(ahead: int, rate: float | None, patience_s: float) -> float | None:
    """The expected wait in seconds, if it is more than a request may wait; else None.

    An estimate that is a little too long refuses nobody: what could have been served must not be.
    """
    if rate is None:
        return None
    wait_s = (ahead + 1) / rate
    return wait_s if wait_s > patience_s * SHED_TOLERANCE else None


def served_in_time(rate: float | None, patience_s: float) -> int | None:
    """How many that wait now are served before their patience is over; None when not known."""
    return None if rate is None else math.ceil(rate * patience_s * SHED_TOLERANCE)
