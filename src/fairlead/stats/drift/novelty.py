"""The novelty channel: are requests less like the reference than the reference itself is?

Each request gets p-values: the share of calibration prompts that are at least as unlike what the
centroids and main directions were fitted to (Vovk, Gammerman, Shafer 2005, *Algorithmic Learning in
a Random World*: conformal p-values). A bet says that p-values below a level come more often. The
calibration is one sample that all requests are compared with: given the sample, the probability of
a p-value at or below k/(n+1) is distributed as Beta(k, n+1-k), exactly, whatever the scores are.
A bet on it takes its upper confidence limit, or the tolerance times the level if that is more: a
harmless mismatch between reference and life is no alarm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairlead.stats.drift.clustering import Matrix
from fairlead.stats.drift.detector import Floats, tail_bet
from fairlead.stats.drift.reference import Reference, upper_limits
from fairlead.stats.drift.usual import Allowed

LEVELS = (0.001, 0.002, 0.005, 0.02, 0.06, 0.2)
STAKES = (0.03, 0.1, 0.25, 0.5)
TOLERANCE = 1.4
KINDS = 2
"""Kinds of score: distance to the nearest centroid, Mahalanobis' distance."""


HELD = (0.02, 0.06)
"""At these levels what joins the calibration is held against the reference."""


class Novelty:
    """The bets of this channel; `weights` sum to 1, in the order of `e`."""

    def __init__(self, reference: Reference, tolerance: float = TOLERANCE) -> None:
        """`tolerance`: so many times as many unlike requests are no change; 1 or more."""
        if not 1.0 <= tolerance <= 10.0:
            raise ValueError(f"novelty tolerance {tolerance}: must be between 1 and 10")
        self._tolerance = tolerance
        self.phi = max(1.0, reference.novelty.phi)
        size = KINDS * len(LEVELS) * len(STAKES)
        self.weights = np.full(size, 1.0 / size)
        self.learn(reference.scores)
        self.allowed = tuple(
            Allowed(level, float(self.honest[LEVELS.index(level)])) for level in HELD
        )

    def learn(self, scores: Matrix) -> None:
        """Compare with these scores of honest requests from now on: by kind, in rising order."""
        count = scores.shape[1]
        self._scores = scores
        ranks = np.maximum(1.0, np.floor(np.array(LEVELS) * (count + 1)))
        self.levels = ranks / (count + 1)
        limits = upper_limits(ranks, count + 1, self.phi, least=0.0)
        self.honest = np.maximum(self._tolerance * self.levels, limits)
        made = np.array([[tail_bet(stake, q) for stake in STAKES] for q in self.honest])
        made **= 1.0 / self.phi
        self._hit, self._miss = made[:, :, 0], made[:, :, 1]

    def p_values(self, scores: Matrix) -> Floats:
        """Of each request by each kind: (1 + those that score at least as much) / (1 + all)."""
        total = self._scores.shape[1]
        counts = [
            total - np.searchsorted(kept, row, side="left")
            for kept, row in zip(self._scores, scores, strict=True)
        ]
        made: Floats = (np.stack(counts) + 1) / (total + 1)
        return made

    def hits(self, p_values: Floats) -> NDArray[np.bool_]:
        """Which levels each p-value reaches: kinds x requests x levels."""
        reached: NDArray[np.bool_] = p_values[:, :, None] <= self.levels
        return reached

    def e(self, hits: NDArray[np.bool_]) -> Floats:
        """Tempered e of each bet, a row per request."""
        values = np.where(hits[:, :, :, None], self._hit, self._miss)
        return values.transpose(1, 0, 2, 3).reshape(hits.shape[1], -1)
