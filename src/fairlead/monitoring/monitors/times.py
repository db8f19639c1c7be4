"""Has the release become slower, or is there only more to do?"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections import Counter
from typing import ClassVar

from fairlead.domain.outcomes import CLIENT_ERRORS
from fairlead.domain.recorded import RecordedRequest
from fairlead.domain.text_signals import length_class
from fairlead.monitoring.baseline import Baseline, Compared
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure
from fairlead.monitoring.monitors.demand import Demand
from fairlead.monitoring.monitors.exercise import Made, see, tested
from fairlead.monitoring.monitors.intake import STREAM_TIMES, TIMES, Expected
from fairlead.monitoring.monitors.interface import Document, Seen
from fairlead.monitoring.monitors.lasting import GRAVEST, Lasting
from fairlead.monitoring.monitors.learning_times import TimesLearnt
from fairlead.monitoring.monitors.of_release import (
    ReleaseMonitor,
    learning,
    minutes_since,
    stored_since,
)
from fairlead.stats.monitors.slowness import SlownessWatch
from fairlead.stats.monitors.timings import Timing, TimingReference

GROSS = 3.0
"""So many times as long is a page."""
BUSY_TOOK = 1_000
"""Requests that an alarm is taken to have needed which is not about equal load."""
_LOAD_MEMORY = 0.01


class TimesMonitor(ReleaseMonitor):
    """Times of requests at the same load, against those of the release's first requests."""

    what: ClassVar[str]
    """Whose times they are: the subject of a sentence about several."""
    expects: ClassVar[Expected] = TIMES

    @abstractmethod
    def _timed(self, request: RecordedRequest) -> tuple[float, str] | None:
        """Time and group of a request that was answered well; None where it has none."""

    def accept(self) -> None:
        """Learn anew."""
        self.taken: Counter[str] = Counter()
        self._learnt = TimesLearnt(self.settings.learn)
        self._learnt_since: float | None = None
        self._lasting: Lasting[SlownessWatch, Timing] | None = None
        self._reference: TimingReference | None = None
        self._usual_load = self._load = 0.0
        self._demand = Demand()

    def see(self, seen: Seen) -> None:
        """Requests that were answered well and have such a time count."""
        request = seen.request
        self._demand.come(request, is_first=self._lasting is None)
        if seen.failed or request.status >= CLIENT_ERRORS:
            return
        timed = self._timed(request)
        if timed is None or not (0.0 < timed[0] < math.inf and 0.0 <= seen.open < math.inf):
            return
        timing = Timing(timed[0], seen.open, timed[1])
        if self._lasting is not None:
            self._load += _LOAD_MEMORY * (seen.open - self._load)
            before = self._lasting.counted
            self._lasting.take(timing, request.started_at)
            self.taken[""] += self._lasting.counted != before
            return
        self.taken[""] += 1
        if not len(self._learnt):
            self._learnt_since = request.started_at
        reference = self._learnt.add(timing)
        if reference is not None:
            loads = [each.load for each in self._learnt.timings]
            self._usual_load = self._load = math.fsum(loads) / len(loads)
            self._learnt = TimesLearnt(self.settings.learn)
            self._reference, self._lasting = reference, self._lasting_of(reference)

    def conditions(self, now: float) -> list[Condition]:
        """One at most: slower is a ticket or a page, more to do is to be known.

        Where it is open which it is, it is a ticket if no more is asked than at first.
        """
        if self._lasting is None or not self._lasting.gravity:
            return []
        if self._lasting.watch.verdict == "slower":
            return [self._slower(self._lasting, now)]
        grave, why = Severity.INFO, "there is more to do, and at equal load they do not"
        baseline = Baseline(None, self._learnt_since)
        if self._lasting.watch.verdict != "busier":
            why = "whether there is only more to do is not known yet"
            if self._demand.is_no_more:
                grave, why = Severity.TICKET, "more are open, though no more is asked than at first"
                baseline = Baseline(Compared.ANSWERED, self._learnt_since)
        return [self._condition(grave, f"{self.what} take longer: {why}", self._loads(), baseline)]

    def standing(self) -> str:
        """How far it is."""
        if self._lasting is None:
            return learning(len(self._learnt), self.settings.learn)
        watch = self._lasting.watch
        if watch.seen < 100 or not watch.uncharted:
            return "watching"
        return f"watching, {100.0 * watch.uncharted / watch.seen:.0f}% at loads it does not know"

    def _slower(self, lasting: Lasting[SlownessWatch, Timing], now: float) -> Condition:
        down = lasting.watch.slow_down()
        assert down is not None
        return self._condition(
            Severity.PAGE if down.factor >= GROSS else Severity.TICKET,
            f"{self.what} take {down.factor:.2f} times as long at the same load, since about "
            f"{down.ago:,} requests before the alarm",
            [
                Figure("times as long", down.factor, limit=1.0 + self.settings.tolerance),
                *minutes_since(lasting.began_at(down.ago), now),
                *self._loads(),
            ],
            Baseline(Compared.ANSWERED, self._learnt_since),
        )

    def _loads(self) -> list[Figure]:
        now, first = self._demand.now, self._demand.first
        return [
            Figure("open when one comes, now", self._load, "requests"),
            Figure("open when one came, at first", self._usual_load, "requests"),
            Figure("asked of a replica, now", 60.0 * now.requests, "requests a minute"),
            Figure("asked of a replica, at first", 60.0 * first.requests, "requests a minute"),
        ]

    def _lasting_of(self, reference: TimingReference) -> Lasting[SlownessWatch, Timing]:
        def make(run_length: float) -> SlownessWatch:
            return SlownessWatch(
                reference, tolerance=self.settings.tolerance, run_length=run_length
            )

        run_length = self.settings.times_run_length
        return Lasting(make, run_length, grave=_gravity, took=_took, counted=_charted)

    def _remembered(self) -> Document:
        reference, lasting = self._reference, self._lasting
        return {
            "first": self._learnt.state(),
            "learnt_since": self._learnt_since,
            "reference": None if reference is None else reference.state(),
            "lasting": None if lasting is None else lasting.state(),
            "loads": [self._usual_load, self._load],
            "demand": self._demand.state(),
        }

    def _recall(self, state: Document) -> None:
        learnt, reference, lasting = TimesLearnt(self.settings.learn), None, None
        demand = Demand()
        learnt.restore(state["first"])
        learnt_since = stored_since(state)
        demand.restore(state["demand"])
        usual, load = state["loads"]
        if not (0.0 <= usual < math.inf and 0.0 <= load < math.inf):
            raise ValueError(f"damaged state of the monitor {self.name}: loads {usual}, {load}")
        if state["reference"] is not None:
            reference = TimingReference.from_state(state["reference"])
            lasting = self._lasting_of(reference)
            lasting.restore(state["lasting"])
        self._learnt, self._reference, self._lasting = learnt, reference, lasting
        self._learnt_since = learnt_since
        self._usual_load, self._load = float(usual), float(load)
        self._demand = demand


class LatencyMonitor(TimesMonitor):
    """Streams: time to the first token. Other answers: time per token, or in all.

    Compared are prompts of about the same length.
    """

    name = "latency"
    what = "answers"

    def _timed(self, request: RecordedRequest) -> tuple[float, str] | None:
        group = _length(request.prompt_tokens)
        if request.stream:
            return (request.ttft_ms, f"first {group}") if request.ttft_ms > 0.0 else None
        return (_pace(request), f"{_kind(request)} {group}")

    def self_test(self) -> str:
        """First tokens that take longer by far, from some moment on."""

        def feed(monitor: LatencyMonitor, dice: random.Random, faulty: bool, number: int) -> None:
            time = 100.0 * math.exp(dice.gauss(0.0, 0.3)) * (_far(monitor) if faulty else 1.0)
            see(monitor, Made(started_at=float(number), ttft_ms=time))

        made = LatencyMonitor("self-test", self.release, self._small())
        return tested(made, 2 * made.settings.learn, 1_000, feed)


class ThroughputMonitor(TimesMonitor):
    """Time between the tokens of streams."""

    name = "throughput"
    what = "tokens of streams"
    expects = STREAM_TIMES

    def _timed(self, request: RecordedRequest) -> tuple[float, str] | None:
        return (request.itl_ms, "") if request.itl_ms > 0.0 else None

    def self_test(self) -> str:
        """Tokens that take longer by far, from some moment on."""

        def feed(
            monitor: ThroughputMonitor, dice: random.Random, faulty: bool, number: int
        ) -> None:
            time = 20.0 * math.exp(dice.gauss(0.0, 0.3)) * (_far(monitor) if faulty else 1.0)
            see(monitor, Made(started_at=float(number), itl_ms=time))

        made = ThroughputMonitor("self-test", self.release, self._small())
        return tested(made, 2 * made.settings.learn, 1_000, feed)


def pace_of(request: RecordedRequest) -> tuple[float, str]:
    """Time per token, and of which kind: between tokens of a stream, or of a whole answer."""
    if request.stream and request.itl_ms > 0.0:
        return request.itl_ms, "stream"
    return _pace(request), _kind(request)


def _pace(request: RecordedRequest) -> float:
    """Of an answer that is no stream: milliseconds per token, or in all where it has none."""
    return request.duration_ms / max(request.completion_tokens, 1)


def _kind(request: RecordedRequest) -> str:
    return "token" if request.completion_tokens > 0 else "whole"


def _length(prompt_tokens: int) -> str:
    return str(length_class(prompt_tokens)) if prompt_tokens >= 0 else "?"


def _far(monitor: ReleaseMonitor) -> float:
    return 3.0 * (1.0 + monitor.settings.tolerance)


_GRAVITY = {"steady": 0, "busier": 1, "slower or busier": 1, "slower": GRAVEST}


def _gravity(watch: SlownessWatch) -> int:
    return _GRAVITY[watch.verdict]


def _charted(watch: SlownessWatch) -> int:
    """Requests at loads that the reference knows."""
    return watch.seen - watch.uncharted


def _took(watch: SlownessWatch) -> int:
    down = watch.slow_down() if watch.verdict == "slower" else None
    return BUSY_TOOK if down is None else down.ago
