"""What the service's requests are like: fitted once from vectors of prompts, in order of time.

One half of them fits what new requests are compared with: centroids, clusters, main directions. The
other half calibrates: it was never used for those, so that its scores, and its shares of the
clusters, are what honest new requests have. The halves are made of long blocks of time (`halves`):
drawn one by one, the requests of a session would lie in both, and calibration would take a new
session for as usual as one whose other half is known. An embedder that is fitted to prompts has to
be fitted to the first half only, for the same reason. What is known only from a sample is taken
at its upper confidence limit, so that a small reference makes the monitor slower and not louder.
All limits hold together (Bonferroni).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fairlead.stats.drift.clustering import (
    Matrix,
    k_means,
    main_directions,
    nearest,
)
from fairlead.stats.drift.dependence import Dependence, dependence, dependence_at

Vectors = NDArray[np.float32] | NDArray[np.float64]
Floats = NDArray[np.float64]

PROMPTS_MIN = 1_000
"""Fewer reference prompts than this say too little about what is usual."""
SPLIT = 8
"""Blocks of time that the halves are made of in turn. They are longer than the longest dependence
that can be learnt from as many requests, a twelfth of them."""
CENTROIDS, CELLS, DIRECTIONS, WITNESSES = 256, 64, 128, 32
ROWS_PER_CENTRE, ROWS_PER_CELL = 3, 10
DOUBT = 0.02
"""The chance that the limit of one probability, of a level or of a cluster, does not hold."""
SURE = 1e-3
"""The chance that the limit of the mean position does not hold, which is never learnt better."""
_QUANTILE = NormalDist().inv_cdf(1.0 - DOUBT)
_SHAPE_MIN = 0.3
"""Below that the approximation of a limit fails; the limit is too high then."""
_NUMBER_MAX = 1e30
NORM_MAX = 8.0
"""Longest position in the main directions, in standard deviations; beyond is shortened to it."""


@dataclass(frozen=True)
class Reference:
    """What new requests are compared with.

    `centroids`, `cells`: centres of fine and of coarse clusters, a row each. `mean`, `directions`,
    `deviations`: the main directions, largest variance first, and standard deviations along them;
    `rest`: the mean square of what is outside them. `scores`: of the calibration prompts, by kind
    of score, each row in rising order. `cell_counts`: calibration prompts by cell. `centre`: their
    mean position in the main directions. `novelty`, `mix`: how requests depend on those before
    them.
    """

    centroids: Matrix
    cells: Matrix
    mean: Matrix
    directions: Matrix
    deviations: Matrix
    rest: float
    scores: Matrix
    cell_counts: NDArray[np.int64]
    centre: Matrix
    novelty: Dependence
    mix: Dependence

    @property
    def dimension(self) -> int:
        """Numbers per vector."""
        return int(self.centroids.shape[1])

    @property
    def digest(self) -> str:
        """Tells it from other references, also from those that were stored and read again."""
        told = hashlib.sha256()
        for field in fields(self):
            value = np.ascontiguousarray(getattr(self, field.name))
            told.update(f"{field.name} {value.dtype.str} {value.shape}".encode())
            told.update(value.tobytes())
        return told.hexdigest()[:16]

    def positions(self, rows: Matrix) -> Matrix:
        """In the main directions, in standard deviations: rows x directions."""
        return ((rows - self.mean) @ self.directions.T / self.deviations).astype(np.float32)

    def novelty_scores(self, rows: Matrix) -> Matrix:
        """How unlike the reference: squared distance to the nearest centroid, and Mahalanobis'.

        Mahalanobis' distance takes what is outside the main directions as equal in all of them
        (probabilistic principal components, Tipping and Bishop 1999). Two rows, one per kind.
        """
        centred = rows - self.mean
        along = centred @ self.directions.T
        inside = ((along / self.deviations) ** 2).sum(1)
        outside = np.maximum((centred * centred).sum(1) - (along * along).sum(1), 0.0)
        free = self.dimension - len(self.directions)
        _, apart = nearest(rows, self.centroids)
        return np.stack([apart, inside + outside * free / self.rest]).astype(np.float32)

    def witness_positions(self, rows: Matrix) -> Matrix:
        """Positions in the first main directions, none longer than `NORM_MAX`."""
        return _shortened(self.positions(rows)[:, :WITNESSES])


def halves(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of so many prompts, in order of time, are fitted to, and which calibrate."""
    rows = np.arange(count)
    calibrates = rows * SPLIT // max(count, 1) % 2 == 1
    return rows[~calibrates], rows[calibrates]


def fit(vectors: Vectors, seed: int = 0) -> Reference:
    """The reference of these vectors, one row per prompt, in order of time.

    If what made the vectors was fitted to prompts, then to those of `halves(len(vectors))[0]` only.
    The same for the same seed. Raises ValueError for too few rows, for numbers that are not finite,
    and for rows of zeros.
    """
    rows = unit_rows(vectors)
    if len(rows) < PROMPTS_MIN:
        raise ValueError(
            f"{len(rows)} reference prompts: needs at least {PROMPTS_MIN}; let more requests come"
        )
    draw = np.random.default_rng(seed)
    fitting, held = halves(len(rows))
    half = rows[fitting]
    mean, directions, deviations, rest = _directions(half)
    centroids = k_means(half, min(CENTROIDS, len(half) // ROWS_PER_CENTRE), draw)
    cells = k_means(half, min(CELLS, len(half) // ROWS_PER_CELL), draw)
    centroids, cells, mean, directions = map(_rounded, (centroids, cells, mean, directions))
    which, _ = nearest(rows, cells)
    made = Reference(
        centroids, cells, mean, directions, deviations, rest,
        scores=np.zeros((2, 0), np.float32),
        cell_counts=np.bincount(which[held], minlength=len(cells)),
        centre=np.zeros(0, np.float32),
        novelty=Dependence(1.0, 0),
        mix=dependence(which, draw),
    )  # fmt: skip
    scores = made.novelty_scores(rows[held])
    return replace(
        made,
        scores=np.sort(scores, axis=1),
        centre=made.witness_positions(rows[held]).mean(0, dtype=np.float64).astype(np.float32),
        novelty=_novelty_dependence(scores, made.mix, draw),
    )


def unit_rows(vectors: Vectors, dimension: int | None = None) -> Matrix:
    """The rows scaled to length 1. Raises ValueError where that makes no sense, naming the row."""
    rows = np.asarray(vectors, np.float64)
    if rows.ndim != 2 or (dimension is not None and rows.shape[1] != dimension):
        wanted = "rows of numbers" if dimension is None else f"rows of {dimension} numbers"
        raise ValueError(f"vectors of shape {rows.shape}: must be {wanted}")
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise ValueError(f"vector {int(bad.argmax())}: has a number that is not finite")
    large = np.abs(rows).max(1, initial=0.0) > _NUMBER_MAX
    if large.any():
        raise ValueError(f"vector {int(large.argmax())}: has a number beyond {_NUMBER_MAX:g}")
    lengths = np.sqrt((rows * rows).sum(1))
    if (lengths <= 1e-12).any():
        raise ValueError(
            f"vector {int((lengths <= 1e-12).argmax())}: is zero; an embedding that failed has to "
            "be left out, and counted"
        )
    unit: Matrix = (rows / lengths[:, None]).astype(np.float32)
    return unit


def upper_limits(counts: Floats, total: float, phi: float = 1.0, least: float = 1.0) -> Floats:
    """Upper confidence limits of shares seen `counts` times in `total`; each fails with `DOUBT`.

    Those of Poisson counts (Garwood 1936; above those of binomial ones), the quantile of the gamma
    distribution by Wilson and Hilferty (1931): within some percent. With a design effect above 1
    counts and total are worth that much less. `least` is added to the gamma distribution's shape: 0
    where the count is a rank, so that it is in the interval for sure.
    """
    shape = np.maximum(counts / phi + least, _SHAPE_MIN)
    root = 1.0 - 1.0 / (9.0 * shape) + _QUANTILE / (3.0 * np.sqrt(shape))
    made: Floats = np.minimum(1.0, shape * root**3 * phi / total)
    return made


def _rounded(rows: Matrix) -> Matrix:
    """To what float16 holds: stored in half the bytes, and no digit differs when read again."""
    return rows.astype(np.float16).astype(np.float32)


def _directions(rows: Matrix) -> tuple[Matrix, Matrix, Matrix, float]:
    """Mean, directions, deviations along them, mean square of the rest."""
    mean, directions, variances = main_directions(rows, DIRECTIONS)
    kept = max(1, int((variances > 1e-6 * max(float(variances[0]), 1e-12)).sum()))
    if variances[0] <= 1e-9:
        raise ValueError("reference prompts: all vectors are the same")
    centred = rows - mean
    rest = float((centred * centred).sum(1).mean() - variances[:kept].sum())
    return mean, directions[:kept], np.sqrt(variances[:kept]), max(rest, 1e-6)


def _novelty_dependence(scores: Matrix, mix: Dependence, draw: np.random.Generator) -> Dependence:
    """Of how new requests are, from the calibration prompts, one block of time after the other.

    Where topics come in bursts, so do those that are less usual.
    """
    ranks = scores.argsort(1).argsort(1).max(0) / scores.shape[1]
    labels = np.digitize(ranks, (0.75, 0.9, 0.98)).astype(np.int64)
    found = dependence(labels, draw)
    if mix.length:
        known = dependence_at(labels, mix.length)
        found = max(found, known, key=lambda each: each.phi)
    return found


def _shortened(rows: Matrix) -> Matrix:
    lengths = np.sqrt((rows * rows).sum(1, keepdims=True))
    short: Matrix = (rows * np.minimum(1.0, NORM_MAX / np.maximum(lengths, 1e-9))).astype(
        np.float32
    )
    return short
