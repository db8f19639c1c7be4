"""What an alarm says of its cause: since when, new content or another mix, how much, and where."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairlead.stats.special import beta_quantile, kl

Channel = Literal["novelty", "mix"]
"""New content, or the same content in other shares."""
DOUBT = 0.05
"""The lower bound of the share of new content is too high with at most this probability."""
GROWN_MAX = 5
NOVEL_MAX, NOVEL_MIN = 50, 5
USUAL_SHARE = 0.3
"""Of the requests that are shown as new about so many may be usual ones."""
COMPARED_MIN = 10
"""Fewer requests in a cluster say nothing about how usual they are there."""
UNLIKE_FROM = 2.576
"""So many standard deviations: for two kinds of score together a chance of 1 %."""


class Grown(NamedTuple):
    """A cluster of the reference that more is asked of: its share then and since the change.

    `requests`: some of those that came since, by their number.
    """

    cell: int
    reference_share: float
    share: float
    requests: tuple[int, ...]


@dataclass(frozen=True)
class Cause:
    """Why an alarm was raised, as far as the requests since `changed_at` tell.

    `changed_at`: estimated number (from 0) of the first request after the change. `requests`: how
    many came since. `new_share`: lower bound of the share of new content, beyond what is tolerated.
    `grown`: clusters that grew most, first. `novel`: numbers of the requests least like the
    reference, first.
    """

    channel: Channel
    changed_at: int
    requests: int
    new_share: float
    grown: tuple[Grown, ...]
    novel: tuple[int, ...]


@dataclass(frozen=True)
class Recent:
    """Requests since the change: number of the first, p-values by kind, and cell of each."""

    first: int
    p_values: NDArray[np.float64]
    cells: NDArray[np.int64]


def new_share(
    p_values: NDArray[np.float64], levels: Iterable[float], honest: Iterable[float], starts: int
) -> float:
    """Lower bound of the share of requests that are of new content, at a confidence of 95 %.

    `p_values`: kinds x requests. A share p of new content raises the probability of one at or below
    a level from at most `honest` to at most p + (1 - p) * honest, at each level. The
    Clopper-Pearson limits are corrected for the number of levels, and for the number of `starts`
    among which the change was looked for.
    """
    total = p_values.shape[1]
    if not total:
        return 0.0
    pairs = list(zip(levels, honest, strict=True))
    doubt = DOUBT / (len(pairs) * len(p_values) * max(starts, 1))
    best = 0.0
    for row in p_values:
        for level, usual in pairs:
            hits = int((row <= level).sum())
            if hits / total > usual:
                low = beta_quantile(doubt, hits, total - hits + 1)
                best = max(best, (low - usual) / (1.0 - usual) if usual < 1 else 0.0)
    return float(best)


def grown(recent: Recent, shares: NDArray[np.float64]) -> tuple[Grown, ...]:
    """The cells whose growth is most certain, first; `shares` are the reference's."""
    total = recent.cells.size
    if not total:
        return ()
    counts = np.bincount(recent.cells, minlength=shares.size)
    least = 0.5 / total
    certain = [
        total * kl(count / total, max(share, least)) if count > share * total else 0.0
        for count, share in zip(counts.tolist(), shares.tolist(), strict=True)
    ]
    order = sorted(range(shares.size), key=lambda cell: -certain[cell])[:GROWN_MAX]
    return tuple(
        Grown(
            cell,
            float(shares[cell]),
            float(counts[cell] / total),
            tuple((recent.first + np.flatnonzero(recent.cells == cell)[-NOVEL_MAX:]).tolist()),
        )
        for cell in order
        if certain[cell] > 0.0
    )


def novel(recent: Recent, level: float) -> tuple[int, ...]:
    """Those with a p-value below `level`, the least like the reference first.

    As many as are new for the most part, by how many usual ones would have so small a p-value
    (Benjamini and Hochberg 1995), but not fewer than a few.
    """
    least = recent.p_values.min(0)
    order = np.argsort(least, kind="stable")[:NOVEL_MAX]
    order = order[least[order] < level]
    usual = len(recent.p_values) * least.size * least[order]
    enough = np.flatnonzero(usual <= USUAL_SHARE * np.arange(1, order.size + 1))
    count = max(int(enough[-1]) + 1 if enough.size else 0, NOVEL_MIN)
    return tuple((recent.first + order[:count]).tolist())


def is_unlike(before: Recent, since: Recent, cell: int) -> bool:
    """Whether what came since in a cluster is less usual than what was in it before.

    Then it is not the old that is asked more often, but something new that lies beside it. By the
    ranks of the p-values (Mann and Whitney 1947, with ties), of the kind of score that tells more.
    """
    old, new = (each.p_values[:, each.cells == cell] for each in (before, since))
    if min(old.shape[1], new.shape[1]) < COMPARED_MIN:
        return False
    return any(_below(*rows) > UNLIKE_FROM for rows in zip(new, old, strict=True))


def _below(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """How far some values lie below others, in standard deviations of the sum of ranks."""
    values, place, times = np.unique(
        np.concatenate([some, others]), return_inverse=True, return_counts=True
    )
    if values.size == 1:
        return 0.0
    ranks = (np.cumsum(times) - (times - 1) / 2.0)[place]
    n, m = some.size, others.size
    total = n + m
    ties = float((times**3 - times).sum()) / (total * (total - 1))
    deviation = math.sqrt(n * m / 12.0 * (total + 1 - ties))
    return (n * (total + 1) / 2.0 - float(ranks[:n].sum())) / deviation
