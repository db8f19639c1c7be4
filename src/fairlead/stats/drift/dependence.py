"""How far the reference's requests depend on those just before them, learnt from its own blocks.

Real traffic comes in bursts: an hour in which everyone asks about one outage. Then a block of
requests tells less than as many independent ones. The design effect phi says how much less (Kish
1965, *Survey Sampling*): the variance of a block's mean against what it would be if the requests
were independent. Evidence that sums over such a block is too certain by that factor, and is
tempered: e^(1/phi). That keeps the mean at 1 or less for groups of at most phi copies (Jensen); for
other dependence it is an approximation without a theorem. The dependence length is the block beyond
which phi grows no more: what is bet with must be older than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairlead.stats.variance import upper_factor

BLOCKS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Lengths of block that are tried, in requests."""
BLOCKS_MIN = 12
"""As many blocks are needed to tell how much they differ."""
SHUFFLES = 40
"""How often the order is shuffled, to see what independent requests would show."""
CERTAIN = 4.5
"""So many standard deviations above the shuffled, a design effect is no accident."""
LIMIT = 0.9
"""Where there is one, phi is its one-sided upper confidence limit of this level."""


class Dependence(NamedTuple):
    """`phi`: design effect, 1 or more. `length`: of dependence in requests, 0 if there is none."""

    phi: float
    length: int


NONE = Dependence(1.0, 0)


def dependence(labels: NDArray[np.int64], draw: np.random.Generator) -> Dependence:
    """Of requests in the order of time, each with one label (its cluster) from 0.

    Whether there is any is seen from the labels' shares together, and from the label that bursts
    most: their variance has to be far above what shuffled requests show. Then phi is that of the
    label that bursts most: evidence is summed for each label by itself, and the worst one raises
    the false alarm.
    """
    count = len(labels)
    lengths = [length for length in BLOCKS if count // length >= BLOCKS_MIN]
    if not lengths:
        return NONE
    seen = np.array([_effects(labels, length) for length in lengths])
    shuffled = np.array(
        [
            [_effects(order, length) for length in lengths]
            for order in (draw.permutation(labels) for _ in range(SHUFFLES))
        ]
    )
    spread = np.maximum(shuffled.std(0, ddof=1), 1e-9)
    real = (seen - shuffled.mean(0)) / spread > CERTAIN
    if not real.any():
        return NONE
    reached = [
        lengths[int(np.argmax(found & (effects >= 0.8 * effects[found].max())))]
        for effects, found in zip(seen.T, real.T, strict=True)
        if found.any()
    ]
    chosen = [length for length, found in zip(lengths, real.any(1), strict=True) if found]
    return Dependence(_worst(labels, chosen), max(reached))


def dependence_at(labels: NDArray[np.int64], length: int) -> Dependence:
    """The same where it is known from elsewhere that requests depend on those before them.

    Over blocks of about `length` requests and more, whether or not these labels alone show it.
    """
    lengths = [each for each in BLOCKS if len(labels) // each >= BLOCKS_MIN]
    if not lengths or length <= 0:
        return NONE
    chosen = [each for each in lengths if each >= length / 2] or lengths[-1:]
    return Dependence(_worst(labels, chosen), length)


def _worst(labels: NDArray[np.int64], lengths: Sequence[int]) -> float:
    """Upper limit of the design effect of the label and block for which it is largest."""
    effects = (
        _effects(labels, length)[1] * upper_factor(len(labels) // length - 1, LIMIT)
        for length in lengths
    )
    return max(1.0, *effects)


def _effects(labels: NDArray[np.int64], length: int) -> tuple[float, float]:
    """Variance of the blocks' counts against that of independent requests.

    Of all labels together, and of the label for which it is largest.
    """
    blocks = len(labels) // length
    kinds = int(labels.max()) + 1
    used = labels[: blocks * length]
    cells = np.repeat(np.arange(blocks), length) * kinds + used
    counts = np.bincount(cells, minlength=blocks * kinds).reshape(blocks, kinds)
    shares = counts.sum(0) / used.size
    seen = counts.var(0, ddof=1)
    expected = shares * (1.0 - shares) * length
    together = float(seen.sum() / max(float(expected.sum()), 1e-9))
    return together, float((seen / np.maximum(expected, 1e-9)).max())
