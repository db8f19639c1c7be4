"""What new content is about: its requests grouped, with the words that set them apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairlead.stats.drift.clustering import k_means, nearest
from fairlead.stats.drift.reference import Vectors, unit_rows

FEW = 2
"""A group of so many requests is hardly a topic."""


class Topic(NamedTuple):
    """A group of requests: their rows, the most typical first."""

    rows: tuple[int, ...]


def topics(vectors: Vectors, count: int = 5, seed: int = 0) -> tuple[Topic, ...]:
    """At most `count` groups of these requests, which come the least usual first.

    The least usual group is the first; groups of one or two requests are the last, where there are
    larger ones. The same for the same seed.
    """
    if not len(vectors):
        return ()
    rows = unit_rows(vectors)
    centres = k_means(rows, min(count, len(rows)), np.random.default_rng(seed))
    which, apart = nearest(rows, centres)
    groups = [np.flatnonzero(which == centre) for centre in range(len(centres))]
    made = [
        Topic(tuple(group[np.argsort(apart[group], kind="stable")].tolist()))
        for group in groups
        if len(group)
    ]
    few = min(FEW, max(len(topic.rows) for topic in made) - 1)
    return tuple(
        sorted(made, key=lambda topic: (len(topic.rows) <= few, sum(topic.rows) / len(topic.rows)))
    )


def telling_words(
    theirs: Sequence[Sequence[str]], usual: Counter[str], count: int = 5
) -> tuple[str, ...]:
    """The words that a group's texts (as lists of words) have and the usual ones have not.

    By the signed root of the likelihood ratio of a word's share among the group's words against its
    share in `usual` (Dunning 1993); a word counts once per text.
    """
    found = Counter(word for text in theirs for word in set(text))
    total, all_usual = max(found.total(), 1), usual.total()
    told = {
        word: _certain(seen / total, (usual[word] + 0.5) / (all_usual + 1.0)) * total
        for word, seen in found.items()
        if seen > 1 or len(theirs) == 1
    }
    best = sorted(told, key=lambda word: (-told[word], word))[:count]
    return tuple(word for word in best if told[word] > 0)


def _certain(share: float, usual: float) -> float:
    return share * math.log(share / usual) if share > usual else 0.0
