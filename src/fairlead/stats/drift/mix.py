"""The mix channel: are the same things asked in other shares?

Two kinds of bet. *Cells*: each coarse cluster of the reference has a share; a bet says that it has
grown. *Witness* (Podkopaev, Ramdas 2023, *Sequential predictive two-sample and independence
testing*): the mean position of requests in the main directions, forgotten with several half-lives,
has moved; a bet says that the next request lies on that side. Its stake is a small share of the
largest possible step, so that e stays above 0.

Both allow for what is known of the reference only from a sample, and for a tolerance on top. Where
requests depend on those just before them, e is tempered, and the witness looks only at requests
older than the dependence length.
"""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from fairlead.stats.drift.detector import Floats, numbers, tail_bet
from fairlead.stats.drift.reference import NORM_MAX, SURE, Reference, upper_limits
from fairlead.stats.variance import chi_squared_quantile

STAKES = (0.03, 0.1, 0.3)
CELL_TOLERANCE = 1.4
SHARE_TOLERANCE = 0.008
"""A cell may grow by this factor and by this share of all requests, and that is no change."""
WITNESS_TOLERANCE = 0.2
"""So far the mean may be from the reference's, in standard deviations, and that is no change."""
HALF_LIVES = (60, 250, 1000)
WITNESS_STAKES = (0.2, 0.7)
SIDES_EVERY = 16
"""After so many requests the side that is bet on is chosen anew."""
WAITING_MAX = 2_000
SPREADS = 2.0
"""So many standard deviations above what is tolerated may be chance."""


class Cells:
    """The bets on shares; `weights` sum to 1, in the order of `e`: by cell, then by stake."""

    def __init__(self, reference: Reference, tolerance: float = CELL_TOLERANCE) -> None:
        if not 1.0 <= tolerance <= 10.0:
            raise ValueError(f"mix tolerance {tolerance}: must be between 1 and 10")
        self._tolerance, self._phi = tolerance, reference.mix.phi
        self._most = np.ones(len(reference.cells))
        size = len(reference.cells) * len(STAKES)
        self.weights = np.full(size, 1.0 / size)
        self.learn(reference.cell_counts)
        self._most = self.honest

    def learn(self, counts: NDArray[np.int64]) -> None:
        """Compare with these shares from now on: honest requests by cell.

        Limits only become narrower than the reference's: what grows slowly, or is made to, does
        not become usual by that.
        """
        total = int(counts.sum())
        self.shares = counts / total
        limits = upper_limits(counts.astype(np.float64), total, self._phi)
        tolerated = np.maximum(self._tolerance * self.shares, limits) + SHARE_TOLERANCE
        self.honest = np.minimum(self._most, tolerated)
        made = np.array([[tail_bet(stake, q) for stake in STAKES] for q in self.honest])
        made **= 1.0 / self._phi
        self._hit, self._miss = made[:, :, 0], made[:, :, 1]

    def have_moved(self, counts: NDArray[np.int64]) -> bool:
        """Whether so many requests by cell are more than was tolerated of a cell at first."""
        most = self._most * counts.sum()
        return bool((counts > most + SPREADS * np.sqrt(self._phi * most)).any())

    def e(self, cells: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
        """Tempered e of each bet, a row per request, given the cell of each."""
        rows = np.arange(len(cells))
        values = np.repeat(self._miss[None], len(cells), axis=0)
        values[rows, cells] = self._hit[cells]
        return values.reshape(len(cells), -1)


class WitnessState(TypedDict):
    """What a `Witness` has to remember, in JSON's types.

    `means`: positions, forgotten with each half-life, one after the other; `sides`: directions that
    are bet on; `seen`: requests in the means; `waiting`: positions of those too new to bet with.
    """

    means: list[float]
    sides: list[float]
    seen: int
    waiting: list[list[float]]


class Witness:
    """The bets on the mean position; `weights` sum to 1, in the order of `e`."""

    def __init__(self, reference: Reference) -> None:
        self._centre = reference.centre.astype(np.float64)
        self._phi = reference.mix.phi
        self._wait = min(reference.mix.length, WAITING_MAX)
        total = int(reference.cell_counts.sum())
        size = self._centre.size
        # squared length of the mean's own error: chi-squared, as each direction has variance 1; at
        # worst it points to where the tolerated difference points
        error = chi_squared_quantile(size, 1.0 - SURE) * self._phi / total
        self.slack = WITNESS_TOLERANCE + math.sqrt(error)
        self._bound = NORM_MAX + float(np.linalg.norm(self._centre)) + self.slack
        self._stakes = np.array(WITNESS_STAKES) / self._bound
        self._keep = 0.5 ** (1.0 / np.array(HALF_LIVES))[:, None]
        self._fresh = 1.0 - self._keep
        self._sides = np.zeros((len(HALF_LIVES), size))
        self._slack_now = 0.0  # no side yet: no bet
        self._means = np.zeros((len(HALF_LIVES), size))
        self._seen = 0
        self._waiting = np.zeros((0, size))
        bets = len(HALF_LIVES) * len(WITNESS_STAKES)
        self.weights = np.full(bets, 1.0 / bets)

    def e(self, positions: Floats) -> Floats:
        """Tempered e of each bet, a row per request; takes their positions in."""
        away = positions - self._centre
        values = np.empty((len(away), self.weights.size))
        start = 0
        while start < len(away):
            part = slice(start, start + self._until_sides())
            steps = away[part] @ self._sides.T - self._slack_now
            made = 1.0 + steps[:, :, None] * self._stakes
            values[part] = made.reshape(len(steps), -1)
            self._take(away[part])
            start = part.stop
        if self._phi > 1.0:
            values **= 1.0 / self._phi
        return values

    def _until_sides(self) -> int:
        """After so many requests, one at least, the sides are chosen anew."""
        return SIDES_EVERY - self._seen % SIDES_EVERY + self._wait - len(self._waiting)

    def _take(self, away: Floats) -> None:
        known = np.concatenate([self._waiting, away])
        ready = max(0, len(known) - self._wait)
        self._waiting = known[ready:]
        if not ready:
            return
        weights = self._fresh * self._keep ** np.arange(ready - 1, -1, -1)
        self._means = self._keep**ready * self._means + weights @ known[:ready]
        self._seen += ready
        if self._seen % SIDES_EVERY == 0:
            self._take_sides()

    def _take_sides(self) -> None:
        """Bet on the sides to which the means have moved."""
        lengths = np.sqrt((self._means * self._means).sum(1, keepdims=True))
        self._sides = self._means / np.maximum(lengths, 1e-12)
        self._slack_now = self.slack

    def state(self) -> WitnessState:
        """Everything that `restore` needs to go on with identical results."""
        return WitnessState(
            means=self._means.ravel().tolist(),
            sides=self._sides.ravel().tolist(),
            seen=self._seen,
            waiting=self._waiting.tolist(),
        )

    def restore(self, state: WitnessState) -> None:
        """Go on from a state with the same reference. Raises ValueError if it is damaged."""
        size = self._centre.size
        means = numbers(state["means"], self._means.size, "means").reshape(self._means.shape)
        sides = numbers(state["sides"], self._sides.size, "sides").reshape(self._sides.shape)
        waiting = [numbers(row, size, "waiting") for row in state["waiting"]]
        if not isinstance(state["seen"], int) or state["seen"] < 0 or len(waiting) > self._wait:
            raise ValueError("state of a witness: `seen` below 0, or too many waiting")
        if (sides * sides).sum(1).max() > 1.0 + 1e-6:
            raise ValueError("state of a witness: a side is longer than 1")
        if any(float(row @ row) > self._bound**2 for row in waiting):
            raise ValueError("state of a witness: a position is longer than any can be")
        self._means, self._sides, self._seen = means, sides, state["seen"]
        self._waiting = np.array(waiting).reshape(len(waiting), size)
        self._slack_now = self.slack if sides.any() else 0.0
