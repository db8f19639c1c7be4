"""The e-detector: evidence that something changed at some time, for ever at one false-alarm rate.

An e-value is a number that is at least 0 and, while nothing has changed, has a mean of at most 1
given all that came before. Each bet gives one per request, and sums its evidence over all times at
which the change may have come (Shiryaev 1963, Roberts 1966):

    R = (R + 1) * e

While nothing changes, R minus the number of requests does not rise on average. So the mean number
of requests to a false alarm, R >= A, is at least A (Shin, Ramdas, Rinaldo 2023, *E-detectors: a
nonparametric framework for sequential change detection*), and so is that of a weighted average over
bets, whatever they have to do with each other.

What is kept is R + 1, which is at least 1 and, since an alarm begins anew, below the threshold over
the bet's weight: the numbers can neither vanish nor overflow. Beside it each bet keeps since when
it has been gaining (Page 1954): at an alarm that is the estimate of when the change came.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
THRESHOLD_MAX = 1e100
_ROWS = 64
"""So many requests at once: their numbers stay in the processor's cache."""


class DetectorState(TypedDict):
    """What an `EDetector` has to remember, in JSON's types; lists are in the order of bets.

    `seen`: requests since it began. `sums`: R + 1. `gains`: evidence since `since`.
    """

    seen: int
    sums: list[float]
    gains: list[float]
    since: list[int]


class EDetector:
    """A weighted average of bets, each summed over all times of the change."""

    def __init__(self, weights: Sequence[float] | Floats, threshold: float) -> None:
        """`weights`: of the bets, above 0; scaled to sum to 1. `threshold`: A, above 1."""
        given = np.asarray(weights, np.float64)
        if given.ndim != 1 or not given.size or not np.isfinite(given).all() or given.min() <= 0:
            raise ValueError("weights of bets: needs at least one, and all must be above 0")
        if not 1.0 < threshold <= THRESHOLD_MAX:
            raise ValueError(f"threshold {threshold}: must be above 1, at most {THRESHOLD_MAX:g}")
        self._threshold = threshold + 1.0
        self._weights = given / given.sum()
        self._seen = 0
        self.reset()

    @property
    def seen(self) -> int:
        """Requests since it began; `reset` leaves it."""
        return self._seen

    def reset(self) -> None:
        """Forget the evidence, as after an alarm."""
        self._sums = np.ones(self._weights.size)
        self._gains = np.ones(self._weights.size)
        self._since = np.full(self._weights.size, self._seen)

    def take(self, e: Floats) -> int | None:
        """Take in requests, a row of each bet's e-values per request, up to the first alarm.

        The row that is an alarm; those behind it are not taken in. None if there is none, and all
        are taken in.
        """
        for start in range(0, len(e), _ROWS):
            at = self._take(e[start : start + _ROWS])
            if at is not None:
                return start + at
        return None

    def _take(self, e: Floats) -> int | None:
        sums, gains = np.empty_like(e), np.empty_like(e)
        above, gained = self._sums, self._gains
        for row, now, gain in zip(e, sums, gains, strict=True):
            np.multiply(above, row, out=now)
            now += 1.0
            np.maximum(gained, 1.0, out=gain)
            gain *= row
            above, gained = now, gain
        alarms = np.flatnonzero(sums @ self._weights >= self._threshold)
        upto = int(alarms[0]) + 1 if alarms.size else len(e)
        begins = np.vstack([self._gains, gains[: upto - 1]]) <= 1.0
        last = upto - 1 - begins[::-1].argmax(0)
        self._since = np.where(begins.any(0), self._seen + last, self._since)
        self._sums, self._gains = sums[upto - 1].copy(), gains[upto - 1].copy()
        self._seen += upto
        return upto - 1 if alarms.size else None

    @property
    def log_evidence(self) -> float:
        """log(R + 1), R being the average over bets; an alarm at log(A + 1)."""
        return math.log(self._weights @ self._sums)

    def evidence_of(self, bets: slice) -> float:
        """What these bets contribute to R + 1."""
        return float(self._weights[bets] @ self._sums[bets])

    def leading(self, bets: slice = slice(None)) -> int:
        """Which of the bets contributes most, as an index among all."""
        places = np.arange(self._weights.size)[bets]
        return int(places[np.argmax((self._sums * self._weights)[bets])])

    def changed_at(self, bet: int) -> int:
        """The request, counted from 0, with which this bet has begun to gain."""
        return int(self._since[bet])

    def state(self) -> DetectorState:
        """Everything that `restore` needs to go on with identical results."""
        return DetectorState(
            seen=self._seen,
            sums=self._sums.tolist(),
            gains=self._gains.tolist(),
            since=self._since.tolist(),
        )

    def restore(self, state: DetectorState) -> None:
        """Go on from the state of a detector with as many bets. Raises ValueError if damaged."""
        seen = state["seen"]
        bets = self._weights.size
        sums = numbers(state["sums"], bets, "sums")
        gains = numbers(state["gains"], bets, "gains")
        since = numbers(state["since"], bets, "since")
        if not isinstance(seen, int) or seen < 0 or sums.min() < 1 or gains.min() < 0:
            raise ValueError("state of a detector: `seen`, `sums` or `gains` out of range")
        if self._weights @ sums >= self._threshold:
            raise ValueError("state of a detector: its evidence is beyond an alarm")
        if since.min() < 0 or since.max() > seen or (since % 1).any():
            raise ValueError("state of a detector: `since` must count requests seen")
        self._seen = seen
        self._sums, self._gains, self._since = sums, gains, since.astype(np.int64)


def numbers(values: Any, count: int, name: str) -> Floats:
    """The finite numbers of a stored list. Raises ValueError if they are not that many, or none."""
    try:
        out = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"stored `{name}`: must be a list of numbers") from error
    if out.shape != (count,) or not np.isfinite(out).all():
        raise ValueError(f"stored `{name}`: must be {count} finite numbers")
    return out


def tail_bet(stake: float, probability: float) -> tuple[float, float]:
    """A bet of a share `stake` on an event of at most this probability: e if it comes, and if not.

    e = 1 - stake + stake / probability if it comes, else 1 - stake; its mean is at most 1 as long
    as the event's probability is at most what was said.
    """
    if not (0 < stake < 1 and probability > 0):
        raise ValueError(f"bet of {stake} on {probability}: stake in (0, 1), probability above 0")
    if probability >= 1:
        return 1.0, 1.0
    return 1.0 - stake + stake / probability, 1.0 - stake
