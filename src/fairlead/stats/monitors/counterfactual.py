"""Counterfactual pairs: the same request twice, with another name, gender, origin, age or dialect.

A pair's difference d is the outcome of the changed request less that of the original, in [-1, 1].
If what was changed does not matter, both answers are drawn alike and d is as likely to be negative
as positive: its mean is 0 given all that came before. A bet multiplies its capital by 1 + s * d, or
1 - s * d for the other side; pairs whose answers do not differ say nothing and cost nothing
(McNemar's discordant pairs, as bets: `fairlead.stats.pairs`; Waudby-Smith, Ramdas 2024).

Each request counts once: asked again, the same pair shows the same difference again, which is no
new evidence about whom the model treats how. New pairs are new names, or new requests.

Each attribute and outcome has an e-process: its evidence reaches 1/alpha with probability at most
alpha over all time, while there is no gap (Ville's inequality). For an alarm about one of m, its
evidence has to reach m/alpha, so that the probability of *any* false alarm is at most alpha,
however the m depend on each other (`BiasTests`). A share of the capital begins later, in case a gap
opens long after the release was found fair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple, TypedDict

from fairlead.stats.monitors.evidence import log_sum
from fairlead.stats.pairs import STAKES
from fairlead.stats.special import sum_of_logs

STAKE_WEIGHTS = (0.02, 0.03, 0.06, 0.1, 0.16, 0.21, 0.19, 0.12, 0.07, 0.04)
"""Most of the capital lies on shares of discordant pairs from 55:45 to 70:30."""
RESTART_EVERY = 500
RESTART_WEIGHT = 0.1
"""Capital of all later starts together."""
ALPHA = 0.01
LENGTH_SCALE = math.log(4.0)
"""Answers of four times the length, or more, differ by 1."""

_FIRST = [math.log(weight / 2.0) for weight in STAKE_WEIGHTS]


def length_difference(original: float, changed: float) -> float:
    """Of two answers' lengths, in tokens or characters: their logarithmic ratio, cut to [-1, 1].

    Odd in the exchange of the two, so its mean is 0 where they are drawn alike.
    """
    if not (0.0 <= original < math.inf and 0.0 <= changed < math.inf):
        raise ValueError(f"lengths {original} and {changed}: must be numbers of at least 0")
    ratio = math.log1p(changed) - math.log1p(original)
    return min(max(ratio / LENGTH_SCALE, -1.0), 1.0)


def score_difference(original: float, changed: float) -> float:
    """Of two scores in [-1, 1], as sentiment has."""
    if not (-1.0 <= original <= 1.0 and -1.0 <= changed <= 1.0):
        raise ValueError(f"scores {original} and {changed}: must be in [-1, 1]")
    return (changed - original) / 2.0


class GapState(TypedDict):
    """What a `GapTest` has to remember, in JSON's types; `logs` by side, then by stake."""

    pairs: int
    discordant: int
    total: float
    starts: int
    logs: list[list[float]]
    log_e_max: float


class GapTest:
    """Evidence that a change of the request shifts an outcome by more than `tolerance`."""

    def __init__(self, *, tolerance: float = 0.0) -> None:
        """`tolerance`: mean difference, in either direction, that is none."""
        if not 0.0 <= tolerance < 1.0:
            raise ValueError(f"tolerance={tolerance}: must be in [0, 1)")
        self._tolerance = tolerance
        self._stakes = [share / (1.0 + tolerance) for share in STAKES]
        start = math.log(1.0 - RESTART_WEIGHT)
        self._logs = [[start + first for first in _FIRST] for _ in range(2)]
        self._starts = 1
        self._pairs = 0
        self._discordant = 0
        self._total = 0.0
        self._log_e_max = 0.0
        self._steps: dict[float, list[list[float]]] = {}

    @property
    def pairs(self) -> int:
        """Pairs so far."""
        return self._pairs

    @property
    def discordant(self) -> int:
        """Those with a difference."""
        return self._discordant

    @property
    def gap(self) -> float:
        """Mean difference so far; 0 before the first pair."""
        return self._total / self._pairs if self._pairs else 0.0

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        waiting = math.log(RESTART_WEIGHT / self._starts)
        return log_sum([*self._logs[0], *self._logs[1], waiting])

    @property
    def log_e_above(self) -> float:
        """The same against "the mean is at most the tolerance" alone: of the bets on more.

        They have twice the stakes that they have in `log_e`, and all of what begins later.
        """
        waiting = math.log(RESTART_WEIGHT / self._starts)
        return log_sum([*(log + math.log(2.0) for log in self._logs[0]), waiting])

    @property
    def log_e_max(self) -> float:
        """Its highest value so far. The error guarantee is about this one."""
        return self._log_e_max

    def update(self, difference: float) -> None:
        """Take in a pair: outcome of the changed request less that of the original."""
        if not -1.0 <= difference <= 1.0:
            raise ValueError(f"difference {difference}: must be in [-1, 1]")
        self._pairs += 1
        self._discordant += difference != 0.0
        self._total += difference
        if difference != 0.0 or self._tolerance:
            self._logs = [
                [log + step for log, step in zip(logs, steps, strict=True)]
                for logs, steps in zip(self._logs, self._logs_of(difference), strict=True)
            ]
            self._log_e_max = max(self._log_e_max, self.log_e)
        if self._pairs >= self._starts * RESTART_EVERY:
            share = math.log(RESTART_WEIGHT / (self._starts * (self._starts + 1)))
            self._logs = [
                [sum_of_logs(log, share + first) for log, first in zip(logs, _FIRST, strict=True)]
                for logs in self._logs
            ]
            self._starts += 1

    def state(self) -> GapState:
        """Everything that `restore` needs to go on with identical results."""
        return GapState(
            pairs=self._pairs,
            discordant=self._discordant,
            total=self._total,
            starts=self._starts,
            logs=[list(logs) for logs in self._logs],
            log_e_max=self._log_e_max,
        )

    def restore(self, state: GapState) -> None:
        """Go on from a state of a test that was made with the same arguments.

        Raises:
            ValueError: The state is damaged.
        """
        sides, pairs, total = state["logs"], state["pairs"], state["total"]
        numbers = [*(log for logs in sides for log in logs), total, state["log_e_max"]]
        fits = (
            len(sides) == 2
            and all(len(logs) == len(STAKES) for logs in sides)
            and all(math.isfinite(number) for number in numbers)
            and 0 <= state["discordant"] <= pairs
            and abs(total) <= pairs
            and state["starts"] == pairs // RESTART_EVERY + 1
            and state["log_e_max"] >= 0.0
        )
        if not fits:
            raise ValueError("damaged state of a test for bias: it does not add up")
        self._logs = [list(map(float, logs)) for logs in sides]
        self._pairs, self._discordant = pairs, state["discordant"]
        self._total, self._starts = total, state["starts"]
        self._log_e_max = state["log_e_max"]

    def _logs_of(self, difference: float) -> list[list[float]]:
        """What each stake gains on either side."""
        known = self._steps.get(difference)
        if known is not None:
            return known
        made = [
            [math.log1p(stake * (sign * difference - self._tolerance)) for stake in self._stakes]
            for sign in (1.0, -1.0)
        ]
        if len(self._steps) < 16:  # Outcomes of 0 and 1 have three differences.
            self._steps[difference] = made
        return made


class Gap(NamedTuple):
    """A gap that has been shown.

    Attributes:
        name: Which attribute and outcome, as they were declared.
        gap: Mean difference so far, changed less original.
        pairs, discordant: How many pairs, and how many of them differ.
        log_e: Highest evidence, as a logarithm.
    """

    name: str
    gap: float
    pairs: int
    discordant: int
    log_e: float


class BiasTests:
    """Several attributes and outcomes: the probability of any false alarm is at most `alpha`."""

    def __init__(
        self, names: Sequence[str], *, alpha: float = ALPHA, tolerance: float = 0.0
    ) -> None:
        """`names`: one for each attribute and outcome that is compared, declared beforehand."""
        if not names or len(set(names)) != len(names):
            raise ValueError(f"names {list(names)}: need different ones, at least one")
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha={alpha}: must be between 0 and 1")
        self._level = math.log(len(names) / alpha)
        self._tests = {name: GapTest(tolerance=tolerance) for name in names}

    def update(self, name: str, difference: float) -> None:
        """Take in a pair for one of the names."""
        self._test(name).update(difference)

    def test(self, name: str) -> GapTest:
        """The test with this name."""
        return self._test(name)

    @property
    def gaps(self) -> list[Gap]:
        """Those that have been shown, the most evident first."""
        found = [
            Gap(name, test.gap, test.pairs, test.discordant, test.log_e_max)
            for name, test in self._tests.items()
            if test.log_e_max >= self._level
        ]
        return sorted(found, key=lambda gap: -gap.log_e)

    def state(self) -> dict[str, GapState]:
        """Everything that `restore` needs to go on with identical results."""
        return {name: test.state() for name, test in self._tests.items()}

    def restore(self, state: dict[str, GapState]) -> None:
        """Go on from a state of tests with the same names.

        Raises `ValueError`, and changes nothing, if one of them is damaged or it is of others.
        """
        if set(state) != set(self._tests):
            raise ValueError(
                f"state of other tests for bias: {sorted(state)}, not {sorted(self._tests)}"
            )
        tests = {name: copy(test) for name, test in self._tests.items()}
        for name, test in tests.items():
            test.restore(state[name])
        self._tests = tests

    def _test(self, name: str) -> GapTest:
        try:
            return self._tests[name]
        except KeyError:
            raise ValueError(f"no test {name!r}; declared are {sorted(self._tests)}") from None
