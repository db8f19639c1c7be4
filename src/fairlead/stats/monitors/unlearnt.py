"""Times of replicas at loads that nobody has learnt, compared with each other.

What is usual at such a load is not known: only that less to do makes nothing slower, and that over
a little more to do times grow no faster than the load does. That is enough to compare the times as
they are, of one group at the same moment, with a peer whose load excuses as much.

Let u(z) be what is usual where the load is e^z - 1, and x by how much a replica is slower than
that: the logarithm of its time is u(z) + x. Of each replica the same number of times count in a
round, and their loads are taken in order of size, the smallest with the smallest. Then the accused
takes longer than its peer by

    (its mean x - the peer's) + the mean of (u at its load - u at the peer's)

Each difference of u is at most 0 where the peer has as much to do or more, as u does not fall, and
else at most the difference of the z. So if the accused takes longer than its peer by more than is
tolerated on top of the mean of what it has more to do, its x is the larger one by more than is
tolerated. Only a little more is allowed for: what loads of one class may be apart, which elsewhere
count as the same (`load_class`). With a peer that has less to do than that, the accused is not
compared.

Who is not shown to be faster counts as slower. So a replica that is ranked among the j slowest has
one of the j largest x of all m, at known and at other loads alike. While all are alike, that has a
chance of j / m at most, and the bet on it a mean of 1 at most. It does not matter where the loads
come from: a balancer gives less to a replica just because it is slow now. A rank among those alone
who can be compared would not be as fair: of two replicas, the one with less to do then is the
slower one more often than not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from fairlead.stats.monitors.timings import LOAD_STEP, Timing

GROUPS_MAX = 8
"""So many groups are counted in a round."""

Row = list[float]
"""A time: its number in the round, and what is known of it."""


class UnlearntState(TypedDict):
    """What `UnlearntTimes` have to remember, in JSON's types.

    `group`: whose times count in this round. `groups`: how many there were of each.
    `times`: by replica, of each its number in the round and the logarithms of at least how slow it
    was, of the time, and of one more than its load.
    """

    group: str | None
    groups: dict[str, int]
    times: dict[str, list[Row]]


class Unlearnt(NamedTuple):
    """A round of one replica, at loads that nobody has learnt; in logarithms.

    Attributes:
        relative: Mean of at least how slow it was.
        time: Mean of its times.
        loads: Each one more than the load, in order of size.
    """

    relative: float
    time: float
    loads: Sequence[float]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Unlearnt:
        """From these times of a replica."""
        _, relatives, times, loads = zip(*rows, strict=True)
        n = len(rows)
        return cls(math.fsum(relatives) / n, math.fsum(times) / n, sorted(loads))

    def is_faster_than(self, accused: Unlearnt, tolerated: float) -> bool:
        """Whether that is shown, by more than this."""
        slower = accused.time - self.time - tolerated
        if slower <= 0.0:
            return False
        pairs = zip(accused.loads, self.loads, strict=True)
        more = math.fsum(max(own - other, 0.0) for own, other in pairs) / len(self.loads)
        return more < min(slower, LOAD_STEP)


class UnlearntTimes:
    """The times of each replica in a round, at loads that nobody has learnt.

    They are of one group, which is settled before the round, so that nobody's times have a say in
    it: the most frequent one of the round before.
    """

    def __init__(self) -> None:
        self._group: str | None = None
        self._groups: dict[str, int] = {}
        self._times: dict[str, list[Row]] = {}

    def add(self, replica: str, at: float, relative: float, timing: Timing) -> None:
        """Take in a time; `at`: its number; `relative`: at least how many times the usual."""
        group = timing.group
        if group in self._groups or len(self._groups) < GROUPS_MAX:
            self._groups[group] = self._groups.get(group, 0) + 1
        if self._group is None:
            self._group = group
        if group != self._group:
            return
        row = [at, math.log(relative), math.log(timing.value), math.log1p(timing.load)]
        self._times.setdefault(replica, []).append(row)

    def rows(self, replica: str) -> Sequence[Row]:
        """Those of this replica, in order."""
        return self._times.get(replica, ())

    def begin(self) -> None:
        """A new round begins."""
        if self._groups:
            self._group = max(sorted(self._groups), key=lambda group: self._groups[group])
        self._groups, self._times = {}, {}

    def forget(self, replica: str) -> None:
        """It has gone."""
        self._times.pop(replica, None)

    def state(self) -> UnlearntState:
        """Everything that `restore` needs to go on with identical results."""
        return UnlearntState(
            group=self._group,
            groups=dict(self._groups),
            times={name: [list(row) for row in rows] for name, rows in self._times.items()},
        )

    def restore(self, state: UnlearntState) -> None:
        """Go on from a state; `ValueError` if it is damaged."""
        group, groups, times = state["group"], state["groups"], state["times"]
        fits = (
            isinstance(group, str | None)
            and (group is not None or not (groups or times))
            and len(groups) <= GROUPS_MAX
            and all(isinstance(n, int) and n > 0 for n in groups.values())
            and all(
                rows
                and all(
                    len(row) == 4 and all(map(math.isfinite, row)) and row[3] >= 0.0 for row in rows
                )
                for rows in times.values()
            )
        )
        if not fits:
            raise ValueError("damaged state of times at loads that nobody has learnt")
        self._group, self._groups = group, dict(groups)
        self._times = {
            name: [list(map(float, row)) for row in rows] for name, rows in times.items()
        }
