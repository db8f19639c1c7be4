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

from fairlead.stats.drift.detector import Floats, tail_bet
from fairlead.stats.drift.reference import Reference
from fairlead.stats.special import beta_quantile

LEVELS = (0.001, 0.002, 0.005, 0.02, 0.06, 0.2)
STAKES = (0.03, 0.1, 0.25, 0.5)
TOLERANCE = 1.4
KINDS = 2
"""Kinds of score: distance to the nearest centroid, Mahalanobis' distance."""


class Novelty:
    """The bets of this channel; `weights` sum to 1, in the order of `e`."""

    def __init__(self, reference: Reference, tolerance: float = TOLERANCE) -> None:
        """`tolerance`: so many times as many unlike requests are no change; 1 or more."""
        if not 1.0 <= tolerance <= 10.0:
            raise ValueError(f"novelty tolerance {tolerance}: must be between 1 and 10")
        count = reference.scores.shape[1]
        self._scores = reference.scores
        self.phi = max(1.0, reference.novelty.phi)
        self.ranks = [max(1, int(level * (count + 1))) for level in LEVELS]
        self.honest = [
            max(tolerance * rank / (count + 1), _tail_limit(rank, count, self.phi, reference.doubt))
            for rank in self.ranks
        ]
        made = np.array([[tail_bet(stake, q) for stake in STAKES] for q in self.honest])
        made **= 1.0 / self.phi
        self._hit, self._miss = made[:, :, 0], made[:, :, 1]
        size = KINDS * len(LEVELS) * len(STAKES)
        self.weights = np.full(size, 1.0 / size)

    def counts(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """How many calibration prompts score at least as much, for each kind and request.

        The p-value is (1 + count) / (1 + calibration prompts).
        """
        total = self._scores.shape[1]
        return np.stack(
            [
                total - np.searchsorted(kept, row, side="left")
                for kept, row in zip(self._scores, scores, strict=True)
            ]
        )

    def hits(self, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which levels each p-value reaches: kinds x requests x levels."""
        reached: NDArray[np.bool_] = counts[:, :, None] + 1 <= np.array(self.ranks)
        return reached

    def e(self, hits: NDArray[np.bool_]) -> Floats:
        """Tempered e of each bet, a row per request."""
        values = np.where(hits[:, :, :, None], self._hit, self._miss)
        return values.transpose(1, 0, 2, 3).reshape(hits.shape[1], -1)


def _tail_limit(rank: int, count: int, phi: float, doubt: float) -> float:
    """Upper confidence limit of the probability of a p-value at or below rank / (count + 1)."""
    return beta_quantile(1.0 - doubt, rank / phi, max((count + 1 - rank) / phi, 1e-6))
