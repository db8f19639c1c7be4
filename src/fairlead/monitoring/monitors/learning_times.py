"""From a release's first requests to what its times are held against."""

from __future__ import annotations

import math
from collections import Counter

from fairlead.stats.monitors.timings import (
    VALUES_MIN,
    Timing,
    TimingReference,
    classes_of,
)

MORE = 5
"""It is learnt from up to so many times as many requests, where loads differ much at first."""
CHARTED = 0.6
"""Share of the requests whose load and kind are to be known by the end of the learning."""
GROUP_CHARS_MAX = 100


class TimesLearnt:
    """The first timings of a release, until they say enough.

    They do when there are as many as are asked for, and `CHARTED` of them are in a class of load
    and group with enough others; or at the latest with `MORE` times as many, if any class is full.
    """

    def __init__(self, learn: int) -> None:
        self._learn = learn
        self._timings: list[Timing] = []
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._timings)

    @property
    def timings(self) -> list[Timing]:
        """So far, in order."""
        return self._timings

    def add(self, timing: Timing) -> TimingReference | None:
        """Take in a timing; the reference, once there is enough."""
        self._timings.append(timing)
        self._counts[classes_of(timing)[0]] += 1
        n = len(self._timings)
        if n < self._learn or n % max(self._learn // 4, 1):
            return None
        charted = sum(count for count in self._counts.values() if count >= VALUES_MIN)
        if charted < CHARTED * n and n < MORE * self._learn:
            return None
        try:
            return TimingReference.of(self._timings)
        except ValueError:
            self._forget_half()
            return None

    def state(self) -> list[list[object]]:
        """All of it."""
        return [list(timing) for timing in self._timings]

    def restore(self, state: list[list[object]]) -> None:
        """Go on from a state; `ValueError`, and nothing changes, if it is damaged."""
        timings = [timing_of(each) for each in state]
        if len(timings) >= (MORE + 1) * self._learn:
            raise ValueError(f"damaged state of a monitor: {len(timings)} first times")
        self._timings = timings
        self._counts = Counter(classes_of(timing)[0] for timing in timings)

    def _forget_half(self) -> None:
        """No kind of request is frequent enough: go on with the later ones."""
        self._timings = self._timings[len(self._timings) // 2 :]
        self._counts = Counter(classes_of(timing)[0] for timing in self._timings)


def timing_of(kept: list[object]) -> Timing:
    """A timing from a state; `ValueError` on what is none."""
    value, load, group = kept
    if not (
        isinstance(value, int | float)
        and isinstance(load, int | float)
        and isinstance(group, str)
        and 0.0 < value < math.inf
        and 0.0 <= load < math.inf
        and len(group) <= GROUP_CHARS_MAX
    ):
        raise ValueError(f"damaged state of a monitor: {kept!r} is no time of a request")
    return Timing(float(value), float(load), group)
