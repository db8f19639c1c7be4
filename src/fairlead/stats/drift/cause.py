"""What an alarm says of its cause: since when, new content or another mix, how much, and where."""

from __future__ import annotations

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
NOVEL_MAX = 50


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
    """Those with a p-value below `level`, the least like the reference first."""
    least = recent.p_values.min(0)
    order = np.argsort(least, kind="stable")[:NOVEL_MAX]
    return tuple((recent.first + order[least[order] < level]).tolist())
