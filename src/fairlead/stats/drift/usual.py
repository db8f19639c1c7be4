"""What is usual by now: the calibration prompts, and honest requests that came after them.

The more of them there are, the better is known how often honest requests are unlike the reference,
and how often they lie in each cluster: what is known from few has to be taken at a far upper limit,
and that makes a monitor slow. So requests join the calibration prompts, `WAIT` requests late, and
none from a change on: what waits at an alarm is dropped, and while one is open nothing is taken in.
Nor is anything taken in that would make unlike requests more frequent among those that joined
than the reference allows: a change that is too small or too slow to be told within that time does
not become usual, nor what somebody sends on purpose.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from fairlead.stats.drift.clustering import Matrix
from fairlead.stats.drift.reference import Reference

WAIT = 500
"""Requests that a change has to be found in before it is taken for usual."""
BLOCK = 16
"""What is taken in at once is a part of what there is, one in so many: limits cost time."""
SIZE_MAX = 10_000
SPREADS = 2.0
"""So many standard deviations above what is allowed may be chance."""


class UsualState(TypedDict):
    """What a `Usual` has to remember, in JSON's types; scores are float32 in base64.

    `scores`: by kind, in rising order. `counts`: by cluster. `waiting`: scores by kind, and
    `waiting_cells`, of those too new to be taken in.
    """

    scores: str
    counts: list[int]
    waiting: str
    waiting_cells: list[int]


class Allowed(NamedTuple):
    """How often requests may score above the reference's `1 - level` quantile."""

    level: float
    share: float


class Joined(NamedTuple):
    """Of the requests that have waited longest: so many joined, the next so many never will."""

    taken: int = 0
    refused: int = 0


class Usual:
    """Scores of honest requests in rising order, and how many lie in each cluster.

    Args:
        allowed: Held against what joins; empty to let anything join.
    """

    def __init__(self, reference: Reference, allowed: Sequence[Allowed] = ()) -> None:
        self._allowed = allowed
        self._first, self._first_counts = reference.scores, reference.cell_counts
        self._phi = max(1.0, reference.novelty.phi)
        self.scores = reference.scores
        self.counts = reference.cell_counts
        self._waiting: Matrix = np.zeros((len(self.scores), 0), np.float32)
        self._cells = np.zeros(0, np.int64)

    @property
    def size(self) -> int:
        """Prompts and requests."""
        return int(self.scores.shape[1])

    @property
    def joined(self) -> NDArray[np.int64]:
        """Of the requests that joined, how many lie in each cluster."""
        return self.counts - self._first_counts

    @property
    def waiting(self) -> int:
        """How many requests are too new to be taken in."""
        return len(self._cells)

    def see(self, scores: Matrix, cells: NDArray[np.int64]) -> Joined:
        """Let requests without a change wait, and take in those that have.

        `scores`: kinds x requests.
        """
        if self.size >= SIZE_MAX:
            return Joined()
        self._waiting = np.hstack([self._waiting, scores])
        self._cells = np.concatenate([self._cells, cells])
        ready = len(self._cells) - WAIT
        if ready < self.size // BLOCK:
            return Joined()
        ready = min(ready, SIZE_MAX - self.size)
        if self._is_unlike(self._waiting[:, :ready]):
            self._waiting, self._cells = self._waiting[:, ready:], self._cells[ready:]
            return Joined(refused=ready)
        self.scores = np.sort(np.hstack([self.scores, self._waiting[:, :ready]]), axis=1)
        self.counts = self.counts + np.bincount(self._cells[:ready], minlength=self.counts.size)
        self._waiting, self._cells = self._waiting[:, ready:], self._cells[ready:]
        if self.size >= SIZE_MAX:
            self.drop()
        return Joined(taken=ready)

    def _is_unlike(self, block: Matrix) -> bool:
        """Whether with these too many of those that joined would be unlike the reference.

        Those that are as unlike as its own quantile are not: of texts that come again and again,
        as a classifier's answers do, many are.
        """
        first = self._first.shape[1]
        joined = self.size - first + block.shape[1]
        for level, share in self._allowed:
            rank = max(1, int(level * (first + 1)))
            most = share * joined + SPREADS * math.sqrt(self._phi * share * joined)
            for known, now, new in zip(self._first, self.scores, block, strict=True):
                above = known[first - rank]
                count = _above(now, above) - _above(known, above)
                if count + int((new > above).sum()) > most:
                    return True
        return False

    def drop(self) -> None:
        """Nothing of what waits joins, since it is of a change."""
        self._waiting, self._cells = self._waiting[:, :0], self._cells[:0]

    def state(self) -> UsualState:
        """Everything that `restore` needs."""
        return UsualState(
            scores=_packed(self.scores),
            counts=self.counts.tolist(),
            waiting=_packed(self._waiting),
            waiting_cells=self._cells.tolist(),
        )

    def restore(self, state: UsualState) -> None:
        """Go on from the state of one with the same reference. Raises ValueError if damaged."""
        kinds, cells = len(self.scores), self.counts.size
        scores, waiting = _unpacked(state["scores"], kinds), _unpacked(state["waiting"], kinds)
        counts, lies = _whole(state["counts"]), _whole(state["waiting_cells"])
        most = max(self.size, SIZE_MAX)
        if not 0 < scores.shape[1] <= most or (np.diff(scores) < 0).any():
            raise ValueError("stored usual scores: too many, none, or out of order")
        if counts.size != cells or counts.min() < 0 or counts.sum() != scores.shape[1]:
            raise ValueError("stored usual shares: do not go with the scores")
        if lies.size != waiting.shape[1] or lies.size > WAIT + SIZE_MAX // BLOCK:
            raise ValueError("stored usual requests that wait: do not go together")
        if lies.size and not 0 <= lies.min() <= lies.max() < cells:
            raise ValueError("stored usual requests that wait: one lies in no cluster")
        self.scores, self.counts = scores, counts
        self._waiting, self._cells = waiting, lies


def _above(scores: NDArray[np.float32], score: np.float32) -> int:
    """How many of these, in rising order, are above it."""
    return scores.size - int(np.searchsorted(scores, score, side="right"))


def _packed(rows: Matrix) -> str:
    return base64.b64encode(np.ascontiguousarray(rows, "<f4").tobytes()).decode()


def _unpacked(text: Any, kinds: int) -> Matrix:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"stored usual scores: {error}") from error
    if len(data) % (4 * kinds):
        raise ValueError("stored usual scores: cut")
    rows = np.frombuffer(data, "<f4").reshape(kinds, -1).astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("stored usual scores: not finite")
    return rows


def _whole(values: Any) -> NDArray[np.int64]:
    if not isinstance(values, list) or not all(type(each) is int for each in values):
        raise ValueError("stored usual counts: must be whole numbers")
    if any(abs(each) > 10**9 for each in values):
        raise ValueError("stored usual counts: beyond any that can be")
    return np.array(values, np.int64)
