"""How many retries a service may have, so that its failing replicas are not drowned in them.

Each new request earns a fifth of a retry, up to a bound. Beside that, a small number grows back
with time, so that a quiet service can retry at all: as many as one replica has slots, since that is
what the death of one replica takes.
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.gateway.limits import (
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    RETRIES_QUIET_MIN,
    RETRIES_QUIET_S,
    RETRIES_SAVED_MAX,
    RETRY_SHARE,
)


class RetryBudget:
    """The retries that one service has left in one worker.

    Args:
        slots: Most slots of one of its replicas.
    """

    __slots__ = ("_at", "_quiet", "_saved_max", "tokens")

    def __init__(self, now: float, slots: int = 0) -> None:
        self._at = now
        self._quiet = 0.0
        self._saved_max = 0.0
        self.tokens = 0.0
        self.fit(slots)
        self.tokens = self._quiet

    def fit(self, slots: int) -> None:
        """The service's replicas have at most so many slots from now on."""
        self._quiet = float(max(RETRIES_QUIET_MIN, slots))
        self._saved_max = max(RETRIES_SAVED_MAX, 2.0 * self._quiet)

    def earn(self) -> None:
        """A new request came."""
        if self.tokens < self._saved_max:
            self.tokens += RETRY_SHARE

    def has_spare(self, now: float) -> bool:
        """Whether there is a retry left beside those that are kept for a replica's death: half of
        what a quiet service has."""
        self._grow(now)
        return self.tokens - 1.0 >= self._quiet / 2.0

    def spend(self, now: float) -> bool:
        """Take one retry; False when there is none left."""
        self._grow(now)
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def _grow(self, now: float) -> None:
        elapsed_s, self._at = now - self._at, now
        if self.tokens < self._quiet:
            grown = self.tokens + self._quiet * elapsed_s / RETRIES_QUIET_S
            self.tokens = min(self._quiet, grown)


def backoff_s(retries: int, random: Callable[[], float]) -> float:
    """How long to leave a replica alone that has failed this request, before it is asked again.

    Args:
        retries: How many attempts of the request have failed, the last one included.
        random: A number in [0, 1): requests that failed together do not come back together.
    """
    longest = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(retries - 1, 16))
    return longest * (0.5 + 0.5 * random())
