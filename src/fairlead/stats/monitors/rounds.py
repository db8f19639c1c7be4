"""A round of replicas: which of their times are compared with each other.

Of each replica the same number, at about the same moments. A balancer gives little to a replica
that is very slow: where not all have enough times for long, a round ends with as many as the one
with the fewest has. All count by so many then, since the mean of few varies more than that of many
and would be the largest too often. Of the others those count that came nearest to its own: what all
share (the hour, their load) changes within a round, and those who have many times would otherwise
be compared at its beginning with one that has few all over it.

Who has the fewest may well depend on who is slow just now. The rule does not care who it is: while
all are alike, each is as likely as any other to be the slowest of a round.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple, TypedDict

from fairlead.stats.monitors.timings import Timing
from fairlead.stats.monitors.unlearnt import Row, Unlearnt, UnlearntState, UnlearntTimes

PATIENCE = 2
"""A round ends without enough times of each when there are so many rounds' worth in all."""
SHARP = 3
"""So many times of which more is known are better than more of all kinds."""


class RoundState(TypedDict):
    """What `RoundTimes` have to remember, in JSON's types; by replica.

    `number`: of the next time. `known`: times at loads that were learnt, each with its number in
    the round and its logarithm; `least`: those that are "at least". `unlearnt`: these, with their
    loads.
    """

    number: int
    known: dict[str, list[Row]]
    least: dict[str, list[Row]]
    unlearnt: UnlearntState


class Rounded(NamedTuple):
    """What a round says of a replica.

    Attributes:
        mean: Of the logarithms of its times; `is_least`: or more.
        unlearnt: The same, where it is of times at loads that nobody has learnt.
    """

    mean: float
    is_least: bool = False
    unlearnt: Unlearnt | None = None


class RoundTimes:
    """The times of each replica in the round under way."""

    def __init__(self, per_round: int) -> None:
        """`per_round`: so many times of each replica are enough."""
        self._per_round = per_round
        self._number = self._taken = 0
        self._known: dict[str, list[Row]] = {}
        self._least: dict[str, list[Row]] = {}
        self._unlearnt = UnlearntTimes()

    @property
    def replicas(self) -> Collection[str]:
        """Those of this round and, of the one before, those that were compared."""
        return self._known.keys()

    def add(self, replica: str, value: float, unlearnt: Timing | None) -> None:
        """Take in a time; `unlearnt`: itself, where `value` is what it is at least."""
        at, log = float(self._number), math.log(value)
        self._number += 1
        self._taken += 1
        known = self._known.setdefault(replica, [])
        if unlearnt is None:
            known.append([at, log])
            return
        self._least.setdefault(replica, []).append([at, log])
        self._unlearnt.add(replica, at, value, unlearnt)

    def is_over(self, replica: str) -> bool:
        """Whether it is, with the latest time, which was of this replica."""
        peers = max(len(self._known), 2)
        if self._taken >= PATIENCE * self._per_round * peers:
            return True
        return (
            self._is_enough(replica)
            and len(self._known) > 1
            and all(map(self._is_enough, self._known))
        )

    def settle(self) -> dict[str, Rounded]:
        """What the round says of each replica that has a time; the next one begins with these."""
        counts = {name: count for name in self._known if (count := self._count(name))}
        found: dict[str, Rounded] = {}
        if counts:
            fewest = min(counts.values())
            n = min(fewest, self._per_round)
            # Of several with as few, the one whose times reach furthest.
            spans = [self._rows(name, n) for name in counts if counts[name] == fewest]
            moments = [row[0] for row in max(spans, key=lambda rows: rows[-1][0])[:n]]
            found = {name: self._rounded(name, moments) for name in counts}
        self._known, self._least = {name: [] for name in counts}, {}
        self._unlearnt.begin()
        self._number = self._taken = 0
        return found

    def forget(self, replica: str) -> None:
        """It has gone."""
        gone = self._known.pop(replica, []), self._least.pop(replica, [])
        self._taken -= sum(map(len, gone))
        self._unlearnt.forget(replica)

    def state(self) -> RoundState:
        """Everything that `restore` needs to go on with identical results."""
        return RoundState(
            number=self._number,
            known={name: [list(row) for row in rows] for name, rows in self._known.items()},
            least={name: [list(row) for row in rows] for name, rows in self._least.items()},
            unlearnt=self._unlearnt.state(),
        )

    def restore(self, state: RoundState) -> None:
        """Go on from a state; raises `ValueError`, and changes nothing, if it is damaged."""
        number, known, least = state["number"], state["known"], state["least"]
        fits = (
            isinstance(number, int)
            and set(least) <= set(known)
            and set(state["unlearnt"]["times"]) <= set(known)
            and all(is_in_order(rows, 2, number) for rows in (*known.values(), *least.values()))
            and all(is_in_order(rows, 4, number) for rows in state["unlearnt"]["times"].values())
        )
        if not fits:
            raise ValueError("damaged state of a comparison of replicas: its round")
        unlearnt = UnlearntTimes()
        unlearnt.restore(state["unlearnt"])
        self._unlearnt, self._number = unlearnt, number
        self._known = {
            name: [list(map(float, row)) for row in rows] for name, rows in known.items()
        }
        self._least = {
            name: [list(map(float, row)) for row in rows] for name, rows in least.items()
        }
        self._taken = sum(map(len, (*known.values(), *least.values())))

    def _is_enough(self, replica: str) -> bool:
        known, others = len(self._known[replica]), len(self._unlearnt.rows(replica))
        return max(known, others) >= self._per_round

    def _count(self, replica: str) -> int:
        """How many times of it there are: of one kind if these are some, else of all."""
        known = len(self._known[replica])
        sharp = max(known, len(self._unlearnt.rows(replica)))
        if sharp >= min(SHARP, self._per_round):
            return sharp
        return known + len(self._least.get(replica, ()))

    def _rows(self, replica: str, n: int) -> Sequence[Row]:
        """So many or more of its times, in order: those of which most is known."""
        for rows in (self._known[replica], self._unlearnt.rows(replica)):
            if len(rows) >= n:
                return rows
        return sorted((*self._known[replica], *self._least.get(replica, ())))

    def _rounded(self, replica: str, moments: Sequence[float]) -> Rounded:
        rows = self._rows(replica, len(moments))
        chosen = near(rows, moments)
        if rows is self._unlearnt.rows(replica):
            unlearnt = Unlearnt.of(chosen)
            return Rounded(unlearnt.relative, is_least=True, unlearnt=unlearnt)
        mean = math.fsum(row[1] for row in chosen) / len(chosen)
        return Rounded(mean, is_least=rows is not self._known[replica])


def near(rows: Sequence[Row], moments: Sequence[float]) -> list[Row]:
    """Of rows in order, at least as many as there are moments: one near each, in order."""
    chosen, first, ats = list[Row](), 0, [row[0] for row in rows]
    for place, moment in enumerate(moments):
        # So many have to be left for the moments after it.
        last = len(rows) - (len(moments) - place)
        found = min(bisect_left(ats, moment, first, last + 1), last)
        if found > first and moment - ats[found - 1] <= ats[found] - moment:
            found -= 1
        chosen.append(rows[found])
        first = found + 1
    return chosen


def is_in_order(rows: Sequence[Row], width: int, number: int) -> bool:
    """Whether these are times of a round that has had so many."""
    return (
        all(len(row) == width and all(map(math.isfinite, row)) for row in rows)
        and all(0.0 <= row[0] < number for row in rows)
        and all(one[0] < other[0] for one, other in pairwise(rows))
    )
