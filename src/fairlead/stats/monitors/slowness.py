"""Has a release, replica, key or kind of request become slower, or is there only more to do?

Values are latencies (TTFT, ITL, duration), or for throughput the time per token: larger is worse.
Each is held against the reference's own values *at the same load*, such as how many requests were
open when it came. Who is slower has more of them, and takes longer for each as well: the second is
what an alarm of this watch says. How many came in the seconds before is no measure for all replicas
together: where much comes for long, what came earlier is open yet. A second watch ignores load; if
it alone has an alarm, either there is more to do, or the first one has not seen enough yet: where
many are open, the reference's own times are those of its slow moments. "Busier" is said only once
the requests after that alarm show by themselves that, at equal load, they are not slower than is
tolerated: by an approximate interval. Load beyond what the reference has seen says nothing, and is
counted.

The values that they are held against, and the bets, are in `fairlead.stats.monitors.timings`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from copy import copy
from typing import Literal, NamedTuple, TypedDict

from fairlead.stats.monitors.evidence import RUN_LENGTH, Evidence, alarm_level, made_with
from fairlead.stats.monitors.recent import Recent, RecentState, likeliest
from fairlead.stats.monitors.timings import (
    BLOCKS_MIN,
    LOG_SPAN,
    SHAPES,
    VALUES_MIN,
    Timing,
    TimingReference,
    classes_of,
    load_class,
    place_of,
)

Verdict = Literal["steady", "slower", "busier", "slower or busier"]

TOLERANCE = 0.1
_NOT_SLOWER = 3.09
"""Standard errors of a one-sided limit of 99.9 %: it is looked at again and again."""
_WEIGHTS = [shape.weight for shape in SHAPES]


class SlowState(TypedDict):
    """What a `SlownessWatch` has to remember, in JSON's types; `of`: what it was made with.

    `since`: of the requests after the alarm that ignores load, how many there were, how many of
    them were charted, and the sum and sum of squares of these, around the usual at their load.
    """

    of: str
    since: list[float]
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


class Relative(NamedTuple):
    """A time over the usual one at its load; `is_least`: or more, as that load is not known."""

    value: float
    is_least: bool


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
        self._of = made_with(reference.digest, tolerance, run_length)
        self._equal_load = Evidence(_WEIGHTS)
        self._any_load = Evidence(_WEIGHTS)
        self._recent = Recent()
        self._seen = 0
        self._uncharted = 0
        self._slower_at: int | None = None
        self._busier_at: int | None = None
        self._since = [0.0] * 4

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
        """`slower`: at equal load. `busier`: slower, but load accounts for it. Else `steady`.

        `slower or busier`: slower, and too little is known at equal load to say which.
        """
        if self._slower_at is not None:
            return "slower"
        if self._busier_at is None:
            return "steady"
        return "busier" if self._is_load_all() else "slower or busier"

    @property
    def alarmed_at(self) -> int | None:
        """The number of the request at which "slower" was shown first; None if it is not."""
        return self._slower_at

    def slow_down(self) -> SlowDown | None:
        """When it came and how large it is, if there is one; None before the first bet."""
        change = likeliest(self._recent.blocks(), 0.5, float(VALUES_MIN))
        if change is None:
            return None
        ago, place = change
        return SlowDown(ago, math.exp(2.0 * LOG_SPAN * (place - 0.5)))

    def relative(self, timing: Timing) -> Relative | None:
        """A value over the usual one at its load, to compare with peers; None if that is unknown.

        At a load that the reference does not know, the next higher one that it does stands for it:
        less to do makes nothing slower, and a balancer gives less to a replica that became slow.
        What that says against the replica holds; that it is as fast as this, it does not say.
        Two of these are not compared by it, but as `fairlead.stats.monitors.unlearnt` does.
        """
        classes_of(timing)  # raises for a value that is none
        middles = self._reference.middles.get(timing.group, [])
        load = load_class(timing.load)
        place = bisect_left(middles, (load, -math.inf))
        if place == len(middles):
            return None
        known, middle = middles[place]
        return Relative(timing.value / math.exp(middle), known != load)

    def update(self, timing: Timing) -> Verdict:
        """Take in a request."""
        equal, all_loads = classes_of(timing)
        self._seen += 1
        value, factors = timing.value / self._scale, self._reference.factors
        table = self._reference.classes.get(equal)
        if self._busier_at is not None:
            self._since[0] += 1.0
        if table is None:
            self._uncharted += 1
        else:
            if self._busier_at is not None:
                apart = place_of(timing.value, table.middle) - 0.5
                self._since[1] += 1.0
                self._since[2] += apart
                self._since[3] += apart * apart
            place = bisect_left(table.edges, value)
            self._equal_load.update(factors[equal][place])
            self._recent.add(place_of(timing.value, table.middle))
        overall = self._reference.classes.get(all_loads)
        if overall is not None:
            place = bisect_left(overall.edges, value)
            self._any_load.update(factors[all_loads][place])
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
        self._since = [0.0] * 4

    def state(self) -> SlowState:
        """Everything that `restore` needs to go on with identical results, but the reference."""
        return SlowState(
            of=self._of,
            seen=self._seen,
            uncharted=self._uncharted,
            equal_load=self._equal_load.state(),
            any_load=self._any_load.state(),
            slower_at=self._slower_at,
            busier_at=self._busier_at,
            since=list(self._since),
            recent=self._recent.state(),
        )

    def restore(self, state: SlowState) -> None:
        """Go on from a state of a watch with the same reference and settings.

        Raises `ValueError`, and changes nothing, if it is damaged or of another watch.
        """
        seen = state["seen"]
        if state.get("of") != self._of:
            raise ValueError("state of a monitor with another reference or other settings")
        alarms = [at for at in (state["slower_at"], state["busier_at"]) if at is not None]
        if not 0 <= state["uncharted"] <= seen or not all(0 < at <= seen for at in alarms):
            raise ValueError(f"damaged state of a monitor: {seen} requests, alarms at {alarms}")
        since = state["since"]
        if not (
            len(since) == 4
            and all(math.isfinite(number) for number in since)
            and 0.0 <= since[1] <= since[0] <= seen
            and abs(since[2]) <= since[1]
            and 0.0 <= since[3] <= since[1]
        ):
            raise ValueError(f"damaged state of a monitor: {since} since the alarm")
        equal_load, any_load, recent = copy(self._equal_load), copy(self._any_load), Recent()
        equal_load.restore(state["equal_load"])
        any_load.restore(state["any_load"])
        recent.restore(state["recent"])
        self._equal_load, self._any_load, self._recent = equal_load, any_load, recent
        self._seen, self._uncharted = seen, state["uncharted"]
        self._slower_at, self._busier_at = state["slower_at"], state["busier_at"]
        self._since = list(map(float, since))

    def _is_load_all(self) -> bool:
        """Whether requests since the alarm that ignores load are not slower at equal load.

        Half of them have to be charted, and as many as a class needs, each counted by the design
        effect. Their mean's upper limit has to be below the tolerance.
        """
        seen, n, total, squares = self._since
        worth = n / self._reference.design_effect
        if n < max(VALUES_MIN, seen / 2.0) or worth < BLOCKS_MIN:
            return False
        mean = total / n
        error = math.sqrt(max(squares / n - mean * mean, 0.0) / worth)
        return 2.0 * LOG_SPAN * (mean + _NOT_SLOWER * error) < math.log(self._scale)

    def _is_shown(self, evidence: Evidence) -> bool:
        return evidence.peak >= self._level and evidence.log >= self._level
