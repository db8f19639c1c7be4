"""Jumps of a service's traffic: at least twice as much as before, or half, and not by chance.

At each minute the requests of the `AFTER` minutes from there are compared with those of the
`BEFORE` minutes before it. Two Poisson counts are compared by the conditional test: given their
sum, the later one is binomial (Przyborowski and Wilenski 1940); its normal approximation has to be
beyond `DEVIATIONS`. Real traffic varies more than Poisson's; that it has to double keeps that out.
Jumps next to each other are one, at the minute where they are clearest. A jump is told as soon as
it is seen, for causes are asked for when an alert begins, and stays as it was told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fairlead.monitoring.causes import WITHIN_S, Change
from fairlead.monitoring.conditions import labels_of

BEFORE, AFTER = 15, 3
FACTOR = 2.0
DEVIATIONS = 5.0
SAME_S = BEFORE * 60.0
"""Jumps the same way that are nearer to each other are one."""
LEAST = 20
"""No jump by fewer requests than these on both sides together."""

Minutes = Sequence[tuple[float, int]]
"""Unix time of a minute's beginning, and how many requests began in it; none is missing."""


class Traffic:
    """The jumps that were told, each once."""

    def __init__(self) -> None:
        self._told: dict[str, list[tuple[bool, Change]]] = {}
        """By service: whether the traffic rose, and the words."""

    def see(self, counts: Mapping[str, Minutes], now: float) -> None:
        """Take in the last minutes of each service."""
        for service, minutes in counts.items():
            told = self._told.setdefault(service, [])
            for rose, change in jumps(service, minutes):
                if not any(r is rose and abs(c.at - change.at) < SAME_S for r, c in told):
                    told.append((rose, change))
            self._told[service] = [one for one in told if now - one[1].at < 2.0 * WITHIN_S]

    def changes(self, since: float) -> list[Change]:
        """Jumps at or after a time, by service and time."""
        return [
            change
            for service in sorted(self._told)
            for _, change in self._told[service]
            if change.at >= since
        ]


def jumps(service: str, minutes: Minutes) -> list[tuple[bool, Change]]:
    """Each with whether the traffic rose."""
    scored = [(at, _score(minutes, at)) for at in range(BEFORE, len(minutes) - AFTER + 1)]
    found: list[tuple[bool, Change]] = []
    run: list[tuple[int, float]] = []
    for at, score in [*scored, (len(minutes), 0.0)]:
        if run and (score == 0.0 or (score > 0) != (run[-1][1] > 0)):
            at_most, clearest = max(run, key=lambda one: abs(one[1]))
            found.append((clearest > 0, _change(service, minutes, at_most)))
            run = []
        if score:
            run.append((at, score))
    return found


def _score(minutes: Minutes, at: int) -> float:
    """How many deviations the traffic from there on is above the one before; 0 for no jump."""
    before, after = _sums(minutes, at)
    total, share = before + after, AFTER / (BEFORE + AFTER)
    ratio = (after / AFTER) / (before / BEFORE) if before else math.inf
    if total < LEAST or 1.0 / FACTOR < ratio < FACTOR:
        return 0.0
    score = (after - total * share) / math.sqrt(total * share * (1.0 - share))
    return score if abs(score) >= DEVIATIONS else 0.0


def _sums(minutes: Minutes, at: int) -> tuple[int, int]:
    before = sum(count for _, count in minutes[at - BEFORE : at])
    return before, sum(count for _, count in minutes[at : at + AFTER])


def _change(service: str, minutes: Minutes, at: int) -> Change:
    before, after = _sums(minutes, at)
    way = "rose" if after / AFTER > before / BEFORE else "fell"
    what = f"traffic {way} from {before / BEFORE:,.3g} to {after / AFTER:,.3g} requests a minute"
    return Change(minutes[at][0], "traffic", what, labels_of(service=service))
