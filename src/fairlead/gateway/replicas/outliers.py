"""Which replica fails so much more than its peers that it is left alone for a while. Pure.

A replica that fails now and then passes the test of consecutive failures with each answer in
between. Here its share of failures in the last seconds is held against that of the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import Protocol

from fairlead.gateway.limits import (
    OUTLIER_ATTEMPTS_MIN,
    OUTLIER_BETTER_BY,
    OUTLIER_FAILED_SHARE,
    OUTLIER_WINDOW_S,
)

_SLICE_S = 1.0
_SLICES = int(OUTLIER_WINDOW_S / _SLICE_S)


class RecentAttempts:
    """What came of the attempts on one replica lately. `succeeded` is counted up by its owner."""

    __slots__ = ("_failed", "_slice_end", "_slices", "succeeded")

    def __init__(self) -> None:
        self.succeeded = 0
        self._failed = 0
        self._slice_end = 0.0
        self._slices: deque[tuple[int, int]] = deque(maxlen=_SLICES - 1)

    def note_failure(self) -> None:
        """An attempt failed."""
        self._failed += 1

    def pass_to(self, now: float) -> None:
        """Forget what is too long ago; to be called a few times a second."""
        if now < self._slice_end:
            return
        missed = min(_SLICES, int((now - self._slice_end) / _SLICE_S)) if self._slice_end else 0
        self._slices.append((self.succeeded, self._failed))
        self._slices.extend([(0, 0)] * missed)
        self.succeeded = self._failed = 0
        self._slice_end = now + _SLICE_S

    def forget(self) -> None:
        """Begin anew."""
        self.succeeded = self._failed = 0
        self._slices.clear()

    @property
    def counts(self) -> tuple[int, int]:
        """Attempts, and how many of them failed."""
        failed = self._failed + sum(f for _, f in self._slices)
        return self.succeeded + sum(s for s, _ in self._slices) + failed, failed


class Peer(Protocol):
    """A replica, as its peers see it."""

    @property
    def counts(self) -> tuple[int, int]:
        """Attempts in the last seconds, and how many of them failed."""

    @property
    def is_ejected(self) -> bool:
        """Whether it is passed over now."""


def is_outlier(own: tuple[int, int], others: Iterable[tuple[int, int]]) -> bool:
    """Whether a replica fails a large share of its attempts while the others do clearly better."""
    attempts, failed = own
    if attempts < OUTLIER_ATTEMPTS_MIN or failed <= OUTLIER_FAILED_SHARE * attempts:
        return False
    theirs = theirs_failed = 0
    for count, bad in others:
        theirs += count
        theirs_failed += bad
    if theirs < OUTLIER_ATTEMPTS_MIN:
        return False
    return failed / attempts - theirs_failed / theirs >= OUTLIER_BETTER_BY


def may_eject(others: Collection[Peer]) -> bool:
    """Whether one beside these may be passed over, too: never more than half of a pool."""
    ejected = sum(peer.is_ejected for peer in others)
    return 2 * (ejected + 1) <= len(others) + 1
