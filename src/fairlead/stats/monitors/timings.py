"""The times that a release was accepted with, by load and kind of request.

A value is put into one of 16 bins of its class's reference; a bet is a ratio that does not decrease
with the bin, divided by its mean under the reference (`fairlead.stats.slower` has the shapes). Its
mean is at most 1 whenever values, divided by 1 + tolerance, are not stochastically larger than the
reference's. The reference is a sample: the mean that is divided by is taken at the upper bounds of
all bins' tails of all classes together (Clopper, Pearson; Bonferroni). Only bins count, so no heavy
tail can make an alarm by itself.

Requests near in time share a fate. Bets are tempered by the design effect of the reference: how
much more its block means vary than those of independent values would. That covers requests that are
copies of each other; for other dependence it is an approximation, measured in the benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, TypedDict

from fairlead.stats.monitors.evidence import made_with
from fairlead.stats.sketch import Sketch
from fairlead.stats.slower import BINS, SlowerRae, table_of
from fairlead.stats.special import beta_quantile
from fairlead.stats.variance import upper_factor

VALUES_MIN = 150
"""Values of a class below which it is not bet on."""
CLASSES_MAX = 400
CONFIDENCE = 0.99
LOG_SPAN = 2.0
"""Slow-downs are estimated from logarithms cut to this much in either direction."""
BLOCKS_MIN = 30
"""As many blocks are needed to tell how much they differ."""
SHAPES = SlowerRae().shapes
"""The bets; each has its weight."""
LOAD_STEP = math.log(1.2)
"""Width of a class of load: of the logarithm of one more than it."""
_LIMIT = 0.9
_ANY_LOAD = "-"
"""In the place of a class of load, in the names of classes of all loads."""


class Timing(NamedTuple):
    """One request's time.

    Attributes:
        value: Latency, or time per token: positive, in any unit.
        load: How much there was to do when it came, such as requests open; at least 0.
        group: With which requests it is to be compared: a prompt length class, a key.
    """

    value: float
    load: float = 0.0
    group: str = ""


class ClassTable(NamedTuple):
    """What values of one class are held against.

    Attributes:
        edges: Of the bins.
        logs: For each bet the logarithm of its factor by bin.
        middle: Mean logarithm of the reference's values.
    """

    edges: list[float]
    logs: list[list[float]]
    middle: float


class ReferenceState(TypedDict):
    """A reference in JSON's types: each class has its edges, logarithms of factors, and middle."""

    design_effect: float
    design_effect_any_load: float
    classes: dict[str, tuple[list[float], list[list[float]], float]]


class TimingReference:
    """The times of a release that was accepted, by class.

    `design_effect` is that of times around the usual at their load, `design_effect_any_load` that
    of times around the usual in all: larger where load comes in waves.
    """

    def __init__(
        self, classes: dict[str, ClassTable], design_effect: float, design_effect_any_load: float
    ) -> None:
        self.classes = classes
        self.design_effect = design_effect
        self.design_effect_any_load = design_effect_any_load

    @classmethod
    def of(
        cls, timings: Iterable[Timing], *, design_effect: float | None = None
    ) -> TimingReference:
        """From the reference's requests, in the order in which they came.

        Args:
            timings: At least `VALUES_MIN` of some class; classes with fewer are not bet on.
            design_effect: Of both tests, if known; else they are estimated from the timings.

        Raises:
            ValueError: No class has enough values, there are too many classes, or a value is none.
        """
        kept = [(timing, *classes_of(timing)) for timing in timings]
        sketches: dict[str, Sketch] = {}
        sums: dict[str, float] = {}
        for timing, equal, all_loads in kept:
            for name in (equal, all_loads):
                sketches.setdefault(name, Sketch()).add((timing.value,))
                sums[name] = sums.get(name, 0.0) + math.log(timing.value)
        full = {name: each for name, each in sketches.items() if len(each) >= VALUES_MIN}
        if not full or len(full) > CLASSES_MAX:
            raise ValueError(
                f"{len(full)} classes with {VALUES_MIN} timings or more: need 1 to {CLASSES_MAX}; "
                "take more timings, or fewer groups"
            )
        middles = {name: sums[name] / len(sketch) for name, sketch in full.items()}
        effects = [design_effect, design_effect]
        if design_effect is None:
            effects = [
                design_effect_of([
                    place_of(timing.value, middles[names[which]])
                    for timing, *names in kept
                    if names[which] in middles
                ])
                for which in (0, 1)
            ]  # fmt: skip
        own, any_load = (each or 1.0 for each in effects)
        overall = {name for _, _, name in kept}
        return cls(
            {
                name: _table(each, middles[name], any_load if name in overall else own, len(full))
                for name, each in full.items()
            },
            own,
            any_load,
        )

    @cached_property
    def factors(self) -> dict[str, list[list[float]]]:
        """By class and bin the factor of each bet."""
        return {
            name: [[math.exp(log) for log in logs] for logs in zip(*table.logs, strict=True)]
            for name, table in self.classes.items()
        }

    @cached_property
    def middles(self) -> dict[str, list[tuple[int, float]]]:
        """By group, the classes of load that are known, in order, each with its middle."""
        found: dict[str, list[tuple[int, float]]] = {}
        for name, table in self.classes.items():
            load, _, group = name.partition(" ")
            if load != _ANY_LOAD:
                found.setdefault(group, []).append((int(load), table.middle))
        return {group: sorted(each) for group, each in found.items()}

    @cached_property
    def digest(self) -> str:
        """Tells it from other references."""
        return made_with(self.state())

    def state(self) -> ReferenceState:
        """All of it."""
        return ReferenceState(
            design_effect=self.design_effect,
            design_effect_any_load=self.design_effect_any_load,
            classes={
                name: (list(table.edges), [list(row) for row in table.logs], table.middle)
                for name, table in self.classes.items()
            },
        )

    @classmethod
    def from_state(cls, state: ReferenceState) -> TimingReference:
        """From a state; raises `ValueError` if it is damaged."""
        classes = {}
        for name, (edges, logs, middle) in state["classes"].items():
            numbers = [*edges, *(log for row in logs for log in row), middle]
            fits = (
                len(edges) == BINS - 1
                and len(logs) == len(SHAPES)
                and all(len(row) == BINS for row in logs)
                and all(math.isfinite(number) for number in numbers)
            )
            if not fits:
                raise ValueError(f"damaged reference of timings: class {name!r}")
            classes[name] = ClassTable(list(edges), [list(row) for row in logs], middle)
        effects = (state["design_effect"], state["design_effect_any_load"])
        if not all(1.0 <= effect < math.inf for effect in effects):
            raise ValueError(f"damaged reference of timings: design effects {effects}")
        return cls(classes, *effects)


def design_effect_of(values: Sequence[float]) -> float:
    """How many times the variance of block means that independent values would have; 1 or more.

    The largest over block lengths of 2, 4, 8 ... with at least 30 blocks, each at its one-sided
    upper limit of 90 %. Lengths at which independent values would show as much in 2 of 100 cases do
    not count, so that it is 1 where nothing hangs together.
    """
    n = len(values)
    if n < 2 * BLOCKS_MIN:
        return 1.0
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / n
    effect, length = 1.0, 2
    while variance > 0.0 and n // length >= BLOCKS_MIN:
        blocks = n // length
        means = [sum(values[i * length : (i + 1) * length]) / length for i in range(blocks)]
        between = sum((each - mean) ** 2 for each in means) / blocks
        seen = length * between / variance
        if seen > 1.0 + 2.0 * math.sqrt(2.0 / blocks):
            effect = max(effect, seen * upper_factor(blocks - 1, _LIMIT))
        length *= 2
    return effect


def load_class(load: float) -> int:
    """Loads that are held against each other: 0, 1, 2 ... 8, and then within 20 %."""
    if not 0.0 <= load < math.inf:
        raise ValueError(f"load {load}: must be a number of at least 0")
    return int(math.log1p(load) / LOAD_STEP + 1e-9)


def classes_of(timing: Timing) -> tuple[str, str]:
    """The names of a request's class at its load, and of that of all loads."""
    if not 0.0 < timing.value < math.inf:
        raise ValueError(f"time {timing.value}: must be a number above 0")
    return f"{load_class(timing.load)} {timing.group}", f"{_ANY_LOAD} {timing.group}"


def place_of(value: float, middle: float) -> float:
    """Where a value lies around its class's middle, 0.5 being there."""
    log = min(max(math.log(value) - middle, -LOG_SPAN), LOG_SPAN)
    return 0.5 + log / (2.0 * LOG_SPAN)


def _table(sketch: Sketch, middle: float, design_effect: float, classes: int) -> ClassTable:
    """Bins and factors, with the mean of each bet at the upper bounds of the bins' tails.

    The bounds of all `classes` hold together with `CONFIDENCE`.
    """
    own = sketch.distribution()
    table = table_of(own, SHAPES, rising=True)
    n = len(sketch) / design_effect
    confidence = 1.0 - (1.0 - CONFIDENCE) / (len(table.edges) * classes)
    beyond = []
    for edge in table.edges:
        share = max(0.0, 1.0 - own.below(edge)) * n
        beyond.append(beta_quantile(confidence, share + 1.0, max(n - share, 1e-9)))
    logs = []
    for ratios in table.ratios:
        rises = [high - low for low, high in pairwise(ratios)]
        most = ratios[0] + sum(rise * share for rise, share in zip(rises, beyond, strict=True))
        logs.append([math.log(ratio / most) / design_effect for ratio in ratios])
    return ClassTable(table.edges, logs, middle)
