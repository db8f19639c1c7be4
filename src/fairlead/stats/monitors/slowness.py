"""Has a release, replica, key or kind of request become slower, or is there only more to do?

Values are latencies (TTFT, ITL, duration), or for throughput the time per token: larger is worse.
Each is held against the reference's own values *at the same load*, load being what was known when
the request came: requests in flight, or the queue. An alarm of this watch says that the same work
at the same load takes longer. A second one ignores load; if it alone has an alarm, there is more to
do, and nothing is slower. Load beyond what the reference has seen says nothing, and is counted.

A value is put into one of 16 bins of its class's reference; a bet is a ratio that does not decrease
with the bin, divided by its mean under the reference (`fairlead.stats.slower` has the shapes). Its
mean is at most 1 whenever values, divided by 1 + tolerance, are not stochastically larger than the
reference's. The reference is a sample: the mean that is divided by is taken at the upper bounds of
all bins' tails together (Clopper, Pearson; Bonferroni). Only bins count, so no heavy tail can make
an alarm by itself.

Requests near in time share a fate. Bets are tempered by the design effect of the reference: how
much more its block means vary than those of independent values would. That covers requests that are
copies of each other; for other dependence it is an approximation, measured in the benchmark.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, TypedDict

from fairlead.stats.monitors.evidence import RUN_LENGTH, Evidence, alarm_level
from fairlead.stats.monitors.recent import Recent, RecentState, change_of
from fairlead.stats.sketch import Sketch
from fairlead.stats.slower import BINS, SlowerRae, table_of
from fairlead.stats.special import beta_quantile

Verdict = Literal["steady", "slower", "busier"]

VALUES_MIN = 150
"""Values of a class below which it is not bet on."""
CLASSES_MAX = 400
CONFIDENCE = 0.99
TOLERANCE = 0.1
_LOAD_STEP = math.log(1.2)
_LOG_SPAN = 2.0
"""Slow-downs are estimated from logarithms cut to this much in either direction."""
_BLOCKS_MIN = 30
_SHAPES = SlowerRae().shapes
_WEIGHTS = [shape.weight for shape in _SHAPES]


class Timing(NamedTuple):
    """One request's time.

    Attributes:
        value: Latency, or time per token: positive, in any unit.
        load: What there was to do when it came: requests in flight, or their queue; at least 0.
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
    classes: dict[str, tuple[list[float], list[list[float]], float]]


class TimingReference:
    """The times of a release that was accepted, by class."""

    def __init__(self, classes: dict[str, ClassTable], design_effect: float) -> None:
        self.classes = classes
        self.design_effect = design_effect

    @classmethod
    def of(
        cls, timings: Iterable[Timing], *, design_effect: float | None = None
    ) -> TimingReference:
        """From the reference's requests, in the order in which they came.

        Args:
            timings: At least `VALUES_MIN` of some class; classes with fewer are not bet on.
            design_effect: If known; else it is estimated from the timings.

        Raises:
            ValueError: No class has enough values, there are too many classes, or a value is none.
        """
        kept = [(timing, *_classes(timing)) for timing in timings]
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
        if design_effect is None:
            design_effect = design_effect_of(
                [_place(t.value, middles[equal]) for t, equal, _ in kept if equal in middles]
            )
        return cls(
            {name: _table(each, middles[name], design_effect) for name, each in full.items()},
            design_effect,
        )

    def state(self) -> ReferenceState:
        """All of it."""
        return ReferenceState(
            design_effect=self.design_effect,
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
                and len(logs) == len(_SHAPES)
                and all(len(row) == BINS for row in logs)
                and all(math.isfinite(number) for number in numbers)
            )
            if not fits:
                raise ValueError(f"damaged reference of timings: class {name!r}")
            classes[name] = ClassTable(list(edges), [list(row) for row in logs], middle)
        if not state["design_effect"] >= 1.0:
            raise ValueError(f"damaged reference of timings: {state['design_effect']}")
        return cls(classes, state["design_effect"])


class SlowState(TypedDict):
    """What a `SlownessWatch` has to remember, in JSON's types."""

    seen: int
    uncharted: int
    equal_load: list[float]
    any_load: list[float]
    slower_at: int | None
    busier_at: int | None
    recent: RecentState


class SlowDown(NamedTuple):
    """The likeliest slow-down: requests since it came, and by which factor at equal load."""

    ago: int
    factor: float


class SlownessWatch:
    """Evidence that requests take longer than the reference's, at the same load."""

    def __init__(
        self,
        reference: TimingReference,
        *,
        tolerance: float = TOLERANCE,
        run_length: float = RUN_LENGTH,
    ) -> None:
        """`tolerance`: ratio by which values may be larger; `run_length`: between false alarms."""
        if not 0.0 <= tolerance < 10.0:
            raise ValueError(f"tolerance={tolerance}: must be a ratio from 0 to 10")
        self._reference = reference
        self._scale = 1.0 + tolerance
        # Two tests, each with half of the false alarms.
        self._level = alarm_level(2.0 * run_length)
        self._equal_load = Evidence(_WEIGHTS)
        self._any_load = Evidence(_WEIGHTS)
        self._recent = Recent()
        self._seen = 0
        self._uncharted = 0
        self._slower_at: int | None = None
        self._busier_at: int | None = None

    @property
    def seen(self) -> int:
        """Requests so far."""
        return self._seen

    @property
    def uncharted(self) -> int:
        """Those at a load, or of a group, of which the reference says too little."""
        return self._uncharted

    @property
    def log_evidence(self) -> float:
        """log(1 + R) of "slower at equal load"; an alarm is at log(1 + 2 * run_length)."""
        return self._equal_load.log

    @property
    def verdict(self) -> Verdict:
        """`slower`: at equal load. `busier`: slower, but load accounts for it. Else `steady`."""
        if self._slower_at is not None:
            return "slower"
        return "steady" if self._busier_at is None else "busier"

    @property
    def alarmed_at(self) -> int | None:
        """The number of the request at which "slower" was shown first; None if it is not."""
        return self._slower_at

    def slow_down(self) -> SlowDown | None:
        """When it came and how large it is, if there is one; None before the first bet."""
        change = change_of(self._recent.blocks(), 0.5, float(VALUES_MIN))
        if change is None:
            return None
        return SlowDown(change.ago, math.exp(2.0 * _LOG_SPAN * (change.rate - 0.5)))

    def relative(self, timing: Timing) -> float | None:
        """A value over the usual one of its class, to compare with peers; None if uncharted."""
        table = self._reference.classes.get(_classes(timing)[0])
        return None if table is None else timing.value / math.exp(table.middle)

    def update(self, timing: Timing) -> Verdict:
        """Take in a request."""
        equal, all_loads = _classes(timing)
        self._seen += 1
        value = timing.value / self._scale
        table = self._reference.classes.get(equal)
        if table is None:
            self._uncharted += 1
        else:
            self._bet(self._equal_load, table, value)
            self._recent.add(_place(timing.value, table.middle))
        overall = self._reference.classes.get(all_loads)
        if overall is not None:
            self._bet(self._any_load, overall, value)
        if self._slower_at is None and self._is_shown(self._equal_load):
            self._slower_at = self._seen
        if self._busier_at is None and self._is_shown(self._any_load):
            self._busier_at = self._seen
        return self.verdict

    def reset(self) -> None:
        """Begin anew against the same reference: after an alarm that was dealt with."""
        self._equal_load.reset()
        self._any_load.reset()
        self._recent = Recent()
        self._seen, self._uncharted = 0, 0
        self._slower_at = self._busier_at = None

    def state(self) -> SlowState:
        """Everything that `restore` needs to go on with identical results, but the reference."""
        return SlowState(
            seen=self._seen,
            uncharted=self._uncharted,
            equal_load=self._equal_load.state(),
            any_load=self._any_load.state(),
            slower_at=self._slower_at,
            busier_at=self._busier_at,
            recent=self._recent.state(),
        )

    def restore(self, state: SlowState) -> None:
        """Go on from a state of a watch with the same reference; `ValueError` if damaged."""
        seen = state["seen"]
        alarms = [at for at in (state["slower_at"], state["busier_at"]) if at is not None]
        if not 0 <= state["uncharted"] <= seen or not all(0 < at <= seen for at in alarms):
            raise ValueError(f"damaged state of a monitor: {seen} requests, alarms at {alarms}")
        self._equal_load.restore(state["equal_load"])
        self._any_load.restore(state["any_load"])
        self._recent.restore(state["recent"])
        self._seen, self._uncharted = seen, state["uncharted"]
        self._slower_at, self._busier_at = state["slower_at"], state["busier_at"]

    def _bet(self, evidence: Evidence, table: ClassTable, value: float) -> None:
        place = bisect_left(table.edges, value)
        evidence.update([row[place] for row in table.logs])

    def _is_shown(self, evidence: Evidence) -> bool:
        return evidence.peak >= self._level and evidence.log >= self._level


def design_effect_of(values: Sequence[float]) -> float:
    """How many times the variance of block means that independent values would have; 1 or more.

    The largest over block lengths of 2, 4, 8 ... with at least 30 blocks, less what chance alone
    would show in 2 of 100 cases.
    """
    n = len(values)
    if n < 2 * _BLOCKS_MIN:
        return 1.0
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / n
    effect, length = 1.0, 2
    while variance > 0.0 and n // length >= _BLOCKS_MIN:
        blocks = n // length
        means = [sum(values[i * length : (i + 1) * length]) / length for i in range(blocks)]
        between = sum((each - mean) ** 2 for each in means) / blocks
        effect = max(effect, length * between / variance / (1.0 + 2.0 * math.sqrt(2.0 / blocks)))
        length *= 2
    return effect


def load_class(load: float) -> int:
    """Loads that are held against each other: 0, 1, 2 ... 8, and then within 20 %."""
    if not 0.0 <= load < math.inf:
        raise ValueError(f"load {load}: must be a number of at least 0")
    return int(math.log1p(load) / _LOAD_STEP + 1e-9)


def _classes(timing: Timing) -> tuple[str, str]:
    """The names of a request's class at its load, and of that of all loads."""
    if not 0.0 < timing.value < math.inf:
        raise ValueError(f"time {timing.value}: must be a number above 0")
    return f"{load_class(timing.load)} {timing.group}", f"- {timing.group}"


def _place(value: float, middle: float) -> float:
    """Where a value lies around its class's middle, 0.5 being there."""
    log = min(max(math.log(value) - middle, -_LOG_SPAN), _LOG_SPAN)
    return 0.5 + log / (2.0 * _LOG_SPAN)


def _table(sketch: Sketch, middle: float, design_effect: float) -> ClassTable:
    """Bins and factors, with the mean of each bet at the upper bounds of the bins' tails."""
    own = sketch.distribution()
    table = table_of(own, _SHAPES, rising=True)
    n = len(sketch) / design_effect
    confidence = 1.0 - (1.0 - CONFIDENCE) / len(table.edges)
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
