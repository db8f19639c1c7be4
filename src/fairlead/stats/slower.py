"""E-processes on values: latency, tokens, cost. Is the canary slower, and is it not slower?

One value per unit, in 16 bins of the champion's distribution. An alternative is a non-decreasing
ratio r of the canary's probability of a bin to the champion's; with b the champion's probabilities
and r divided by sum(b * r) the bet's factor is

    canary:  r / (rho * r + 1 - rho)            champion:  1 / (rho * r + 1 - rho)

Why its mean is at most 1 whenever the canary's values are not stochastically larger. Let q_c and
q_b be the arms' true probabilities of the bins, given all that happened before. The canary's factor
does not decrease with the bin, so its mean under q_c is at most its mean under q_b; and under q_b
for both arms rho * r + (1 - rho) cancels in every bin: the mean is exactly 1. Nothing is asked of b
or r except that they are fixed before the value is seen: a wrong table costs speed, not validity.

"Not slower by the margin" is the same bet the other way round: the canary's values are divided by
1 + margin, the ratios do not increase, and the mean is at most 1 whenever the divided values are
not stochastically smaller. What is shown is that *some* of the canary's distribution is below the
champion's stretched by the margin; it is no promise for each quantile.

The table is made from the champion's history, and again when the live champion has shown 200,
1,000, 5,000 ... values; without history there is no bet before the first of these.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, TypedDict

from fairlead.stats.rae import LOOK_EVERY, refresh_due, restart_due
from fairlead.stats.sketch import Distribution, Sketch
from fairlead.stats.special import sum_of_logs

QUANTILES = (
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9997,
)  # fmt: skip
"""Where the champion's distribution is cut into bins."""

BINS = len(QUANTILES) + 1
SLOWER_RESTART_WEIGHT = 0.1
_LEARN_FIRST = 200
_LEARN_RATIO = 5
HISTORY_WORTH_MAX = 2_000
"""What the table is worth at most, in values, beside what the live champion shows."""

_FLOOR = 0.02
"""Share of the champion's own distribution in each alternative: no outcome refutes it at once."""


class Shape(NamedTuple):
    """A way in which the canary may be slower: which champion value a canary value comes from.

    `origin` gives, for a value and the champion's quantile function, the value before the change;
    `share` is the share of requests that it happens to.
    """

    weight: float
    origin: Callable[[float, Distribution], float]
    share: float = 1.0


def _scaled(factor: float) -> Callable[[float, Distribution], float]:
    return lambda value, champion: value / factor


def _stretched(power: float, start: float) -> Callable[[float, Distribution], float]:
    """Values above the `start` quantile lie `power` times as far from it, in logarithms."""

    def origin(value: float, champion: Distribution) -> float:
        pivot = champion.quantile(start)
        return value if value <= pivot else pivot * (value / pivot) ** (1 / power)

    return origin


SCALES = (1.03, 1.06, 1.1, 1.16, 1.26, 1.42, 1.7, 2.4, 4.0)
_SCALES_CENTRE, _SCALES_WIDTH = 2.5, 1.8
_TAILS = (
    Shape(0.7, _stretched(1.25, 0.5)),
    Shape(1.0, _stretched(1.6, 0.5)),
    Shape(0.6, _stretched(2.2, 0.5)),
    Shape(0.7, _stretched(1.6, 0.9)),
    Shape(1.8, _stretched(2.4, 0.9)),
    Shape(1.0, _scaled(3.0), 0.03),
    Shape(0.8, _scaled(3.0), 0.1),
)
_SHIFTS_WEIGHT = 0.74
"""Three quarters of the capital lie on a slow-down of all requests, most of it around 10 %."""


def _slow_downs() -> tuple[Shape, ...]:
    bell = [
        math.exp(-(((k - _SCALES_CENTRE) / _SCALES_WIDTH) ** 2) / 2) for k in range(len(SCALES))
    ]
    tails = sum(shape.weight for shape in _TAILS)
    return tuple(
        Shape(_SHIFTS_WEIGHT * weight / sum(bell), _scaled(scale))
        for scale, weight in zip(SCALES, bell, strict=True)
    ) + tuple(
        shape._replace(weight=(1 - _SHIFTS_WEIGHT) * shape.weight / tails) for shape in _TAILS
    )


class Table(NamedTuple):
    """Edges of the bins, the champion's probabilities of them, and each alternative's ratios."""

    edges: list[float]
    champion: list[float]
    ratios: list[list[float]]


def table_of(champion: Distribution, shapes: Sequence[Shape], *, rising: bool) -> Table:
    """The bins of a champion, and the ratios by which each shape changes their probabilities."""
    edges = [champion.quantile(p) for p in QUANTILES]
    own = _masses([champion.below(edge) for edge in edges])
    ratios = []
    for shape in shapes:
        changed = _masses([champion.below(shape.origin(edge, champion)) for edge in edges])
        ratio = [
            1.0 + (1 - _FLOOR) * shape.share * (new / old - 1.0)
            for new, old in zip(changed, own, strict=True)
        ]
        ratios.append(_monotone(ratio, own, rising=rising))
    return Table(edges, own, ratios)


def _masses(below: Sequence[float]) -> list[float]:
    cuts = [0.0, *below, 1.0]
    raw = [max(high - low, 1e-6) for low, high in pairwise(cuts)]
    total = sum(raw)
    return [mass / total for mass in raw]


def _monotone(values: Sequence[float], weights: Sequence[float], *, rising: bool) -> list[float]:
    """The nearest monotone sequence (pool adjacent violators)."""
    sign = 1.0 if rising else -1.0
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, size = sign * value, weight, 1
        while pools and pools[-1][0] > mean:
            other, mass, count = pools.pop()
            mean = (mean * total + other * mass) / (total + mass)
            total, size = total + mass, size + count
        pools.append((mean, total, size))
    return [sign * mean for mean, _, size in pools for _ in range(size)]


class ValueState(TypedDict):
    """What an e-process on values has to remember, in JSON's types."""

    units: int
    starts: int
    logs: list[float]
    log_e_max: float
    rho: float
    block: list[list[int]]
    champion: list[int]
    learnt_at: int
    sketch: list[list[int]]
    table: list[list[float]]
    masses: list[float]


class _ValueProcess:
    """What both directions share; see `fairlead.stats.rae` for looks, blocks and restarts."""

    family: Literal["values"] = "values"
    rising: bool
    restart_weight: float

    def __init__(self, shapes: Sequence[Shape], scale: float, history: Iterable[float]) -> None:
        self._shapes = tuple(shapes)
        self._scale = scale
        self._log_weights = [math.log(shape.weight) for shape in self._shapes]
        self._units = 0
        self._starts = 1
        first = math.log(1.0 - self.restart_weight) if self.restart_weight else 0.0
        self._logs = [first + log for log in self._log_weights]
        self._log_e_max = 0.0
        self._rho = 0.5
        self._block = [[0] * BINS, [0] * BINS]
        self._champion = [0] * BINS
        self._sketch = Sketch(history)
        self._learnt_at = 0
        self._table: Table | None = None
        self._masses: list[float] = []
        self._steps: dict[float, list[tuple[list[float], list[float]]]] = {}
        if len(self._sketch) >= _LEARN_FIRST:
            self._learn()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The alternatives, with the capital that each begins with."""
        return self._shapes

    @property
    def units(self) -> int:
        """Units seen so far, of both arms."""
        return self._units

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        return self._combine(self._with_block())

    @property
    def log_e_max(self) -> float:
        """The highest of all looks and of now. The error guarantee is about this one."""
        return max(self._log_e_max, self.log_e)

    def update(self, canary: bool, rho: float, y: float) -> None:
        """Take in a unit: its arm, its probability of the canary arm, its value (may be inf)."""
        if not (0.0 < rho < 1.0 and y >= 0.0):
            raise ValueError(f"unit with rho={rho} and value {y}: needs 0 < rho < 1, value >= 0")
        if rho != self._rho:
            self._settle(rho)
        if self._table is not None:
            value = y / self._scale if canary else y
            place = bisect_left(self._table.edges, value)
            self._block[canary][place] += 1
            if not canary:
                self._champion[place] += 1
        if not canary:
            self._sketch.add((y,))
        self._units += 1
        if self._units % LOOK_EVERY == 0:
            self._look()

    def expected_more(
        self, canary_rate: float, champion_rate: float, rho: float, threshold: float
    ) -> float | None:
        """Units (of both arms) until E reaches `threshold` if it grows as it did so far.

        The rates, which values do not have, are not used; None if E has fallen.
        """
        log_e = self.log_e
        if log_e <= 0.0:
            return None
        return max(0.0, (math.log(threshold) - log_e) * self._units / log_e)

    def state(self) -> ValueState:
        """Everything that `restore` needs to go on with identical results."""
        table = self._table
        return ValueState(
            units=self._units,
            starts=self._starts,
            logs=list(self._logs),
            log_e_max=self._log_e_max,
            rho=self._rho,
            block=[list(arm) for arm in self._block],
            champion=list(self._champion),
            learnt_at=self._learnt_at,
            sketch=self._sketch.state(),
            table=[] if table is None else [table.edges, table.champion, *table.ratios],
            masses=list(self._masses),
        )

    def restore(self, state: ValueState) -> None:
        """Go on from a state of a process that was made with the same arguments."""
        kept = [list(row) for row in state["table"]]
        lengths = [BINS - 1, *[BINS] * (len(kept) - 1)] if kept else []
        counted = [state["champion"], *state["block"]]
        if (
            len(state["logs"]) != len(self._shapes)
            or len(kept) not in (0, 2 + len(self._shapes))
            or [len(row) for row in kept] != lengths
            or [len(row) for row in counted] != [BINS] * 3
            or len(state["masses"]) != (BINS if kept else 0)
        ):
            raise ValueError("state of another kind of e-process: other alternatives or bins")
        self._units = state["units"]
        self._starts = state["starts"]
        self._logs = list(state["logs"])
        self._log_e_max = state["log_e_max"]
        self._rho = state["rho"]
        self._block = [list(arm) for arm in state["block"]]
        self._champion = list(state["champion"])
        self._learnt_at = state["learnt_at"]
        self._sketch.restore(state["sketch"])
        self._table = Table(kept[0], kept[1], kept[2:]) if kept else None
        self._masses = list(state["masses"])
        self._steps = {}

    def _learn(self) -> None:
        """Bins and ratios anew, from all that the champion has shown."""
        self._table = table_of(self._sketch.distribution(), self._shapes, rising=self.rising)
        self._learnt_at = len(self._sketch)
        self._champion = [0] * BINS
        self._weigh()

    def _weigh(self) -> None:
        """The champion's probabilities of the bins: those of the table, and what came since."""
        assert self._table is not None
        worth = min(self._learnt_at, HISTORY_WORTH_MAX)
        total = worth + sum(self._champion)
        self._masses = [
            (worth * mass + count) / total
            for mass, count in zip(self._table.champion, self._champion, strict=True)
        ]
        self._steps = {}

    def _logs_of(self, rho: float) -> list[tuple[list[float], list[float]]]:
        """For each alternative the logarithm of the factor by bin: champion's, canary's."""
        known = self._steps.get(rho)
        if known is not None:
            return known
        assert self._table is not None
        made = []
        for ratios in self._table.ratios:
            mean = sum([b * r for b, r in zip(self._masses, ratios, strict=True)])
            under = [math.log(rho * r / mean + 1 - rho) for r in ratios]
            made.append(
                (
                    [-log for log in under],
                    [math.log(r / mean) - log for r, log in zip(ratios, under, strict=True)],
                )
            )
        self._steps[rho] = made
        return made

    def _with_block(self) -> list[float]:
        used = [
            (arm, place, count)
            for arm in (0, 1)
            for place, count in enumerate(self._block[arm])
            if count
        ]
        if not used:
            return self._logs
        return [
            log + sum([count * steps[arm][place] for arm, place, count in used])
            for log, steps in zip(self._logs, self._logs_of(self._rho), strict=True)
        ]

    def _settle(self, rho: float) -> None:
        self._logs = self._with_block()
        self._block = [[0] * BINS, [0] * BINS]
        self._rho = rho

    def _look(self) -> None:
        self._settle(self._rho)
        self._log_e_max = max(self._log_e_max, self._combine(self._logs))
        if self.restart_weight and restart_due(self._units, self._starts):
            share = math.log(self.restart_weight / (self._starts * (self._starts + 1)))
            self._logs = [
                sum_of_logs(log, share + weight)
                for log, weight in zip(self._logs, self._log_weights, strict=True)
            ]
            self._starts += 1
        if len(self._sketch) >= max(_LEARN_FIRST, _LEARN_RATIO * self._learnt_at):
            self._learn()
        elif self._table is not None and refresh_due(self._units):
            self._weigh()

    def _combine(self, logs: list[float]) -> float:
        peak = max(logs)
        now = peak + math.log(sum([math.exp(log - peak) for log in logs]))
        waiting = self.restart_weight / self._starts
        return sum_of_logs(now, math.log(waiting)) if waiting else now


class SlowerRae(_ValueProcess):
    """Evidence against "the canary's values are not larger than the champion's, times 1 + tol".

    Larger is stochastically larger: more often above some value, nowhere less often. Roll back when
    `exp(log_e_max) >= 1/alpha`. The alternatives: all values scaled by 1.03 to 4; the upper part
    stretched; a share of 0.3 to 10 % of the requests three times as slow.
    """

    rising = True
    restart_weight = SLOWER_RESTART_WEIGHT

    def __init__(self, *, tol: float = 0.0, history: Iterable[float] = ()) -> None:
        """`tol`: ratio by which the canary may be slower; `history`: values of the champion."""
        if tol < 0.0:
            raise ValueError(f"tol={tol} must not be below 0")
        super().__init__(_slow_downs(), 1.0 + tol, history)


class NotSlowerRae(_ValueProcess):
    """Evidence against "the canary's values are larger than the champion's by `margin` or more".

    Promote when `exp(log_e) >= 1/beta`. The alternatives: as fast as the champion, and faster by
    half a margin and by two.
    """

    rising = False
    restart_weight = 0.0

    def __init__(self, *, margin: float, history: Iterable[float] = ()) -> None:
        """`margin`: ratio above 0; 0.1 is "10 % slower"."""
        if margin <= 0.0:
            raise ValueError(f"margin={margin} must be above 0")
        faster = ((0.6, 1.0), (0.2, 1.5), (0.2, 3.0))
        shapes = [Shape(weight, _scaled((1 + margin) ** -power)) for weight, power in faster]
        super().__init__(shapes, 1.0 + margin, history)
