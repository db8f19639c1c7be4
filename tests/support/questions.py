"""A made-up service whose questions are vectors: topics are directions, with noise around them."""

from __future__ import annotations

from typing import Any

import numpy as np

DIMENSION, TOPICS = 32, 24


class Questions:
    """Draws questions of the usual topics, and of others that nobody has asked before."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        centres = np.random.default_rng(5).standard_normal((TOPICS + 4, DIMENSION))
        self._centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)

    def of(self, topics: Any) -> Any:
        """One vector per topic number; numbers from `TOPICS` are new content."""
        where = self._centres[np.asarray(topics)]
        return where + 0.09 * self.draw.standard_normal(where.shape)

    def usual(self, count: int) -> Any:
        """Topics in their usual shares: all the same."""
        return self.of(self.draw.integers(TOPICS, size=count))

    def with_new(self, count: int, share: float) -> Any:
        """Some of them of new content."""
        topics = self.draw.integers(TOPICS, size=count)
        new = self.draw.random(count) < share
        topics[new] = TOPICS + self.draw.integers(4, size=int(new.sum()))
        return self.of(topics)

    def surge(self, count: int, topic: int, share: float) -> Any:
        """Some of them of one usual topic, beside its usual share."""
        topics = self.draw.integers(TOPICS, size=count)
        topics[self.draw.random(count) < share] = topic
        return self.of(topics)

    def bursts(self, count: int, length: int) -> Any:
        """In each block, half are of two topics."""
        topics = self.draw.integers(TOPICS, size=count)
        for start in range(0, count, length):
            block = np.arange(start, min(start + length, count))
            hot = block[self.draw.random(len(block)) < 0.5]
            topics[hot] = self.draw.choice(self.draw.choice(TOPICS, 2, replace=False), len(hot))
        return self.of(topics)
