"""From a unit's requests to its one value by each metric.

A unit's amount (a time, tokens, cost) is the mean over its answered requests; its rate the share of
its requests that were bad. What is to be said of a request that failed:

- In a *rate* it is bad, as it is in the failures themselves. Were it left out, a canary with fewer
  errors would have more answers to refuse in, and look worse for being better.
- It has no *amount*, and whatever is put in its place says something that was not seen. Leave it
  out, and the arm whose slow requests time out looks fast; call it endlessly slow, and failures
  that are tolerated count again as slowness. So there are two figures: `value` is the mean over
  what was answered, nothing at all if that is none; in `worst` each failed request took as long as
  the longest of the unit, or for ever if none was answered. The evidence to roll back takes `value`
  for the canary and `worst` for the champion, so that no failure speaks against the canary twice;
  that to promote takes `worst` for both, so that no failure makes a canary fast.

What was answered and lacks a value (an engine that counts no tokens) is treated in the same way.
Nothing is left out for what came of it: a test on those units of each arm that happen to have a
value would no longer have the odds of the assignment, and its evidence would grow by itself. Left
out is only what the metric does not apply to by the request alone (`Source.applies`), and what came
while replicas warmed up.

A client that left early has waited at least as long as its request took: that is its `value`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fairlead.rollout.declared import DeclaredMetric, FeedbackRule
from fairlead.rollout.metrics import WORST, MetricKind, Reading
from fairlead.rollout.observation import Observation
from fairlead.rollout.sources import VALUE_MAX, Source


class Gauge(Protocol):
    """Takes in the requests of one unit for one declared metric."""

    def add(self, request: Observation, until: float) -> None:
        """One request, with the feedback that came up to a time."""

    def readings(self) -> tuple[Reading | None, ...]:
        """The unit by each of the metric's tests; None where it does not apply to the unit."""


def gauges_of(metrics: Sequence[DeclaredMetric]) -> tuple[Gauge, ...]:
    """One for each metric, for one unit."""
    return tuple(_gauge(metric) for metric in metrics)


def _gauge(metric: DeclaredMetric) -> Gauge:
    if metric.feedback is not None:
        return _FeedbackGauge(metric.feedback)
    source = metric.from_gateway
    assert source is not None
    if metric.kind is MetricKind.BINARY:
        return _RateGauge(source)
    return _AmountGauge(source, lower=metric.worse == "lower")


class _RateGauge:
    __slots__ = ("_bad", "_missing", "_requests", "_source")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._bad = 0.0
        self._requests = self._missing = 0

    def add(self, request: Observation, until: float) -> None:
        if not self._source.applies(request):
            return
        self._requests += 1
        if request.failed_by_error:
            self._bad += 1.0
        elif request.answered or self._source.of_all:
            value = self._source.value(request)
            self._bad += 0.0 if value is None else min(value, 1.0)
            self._missing += value is None

    def readings(self) -> tuple[Reading | None, ...]:
        count, bad, missing = self._requests, self._bad, self._missing
        if not count:
            return (None,)
        return (Reading(bad / count, (bad + missing) / count, lacks=missing > count / 2),)


class _AmountGauge:
    __slots__ = ("_known", "_longest", "_lower", "_missing", "_source", "_total",
                 "_unknown", "_waited")  # fmt: skip

    def __init__(self, source: Source, *, lower: bool) -> None:
        self._source = source
        self._lower = lower
        self._total = self._longest = 0.0
        self._known = self._waited = self._unknown = self._missing = 0

    def add(self, request: Observation, until: float) -> None:
        source = self._source
        is_void = not (request.answered or request.failed_by_error or request.left)
        if is_void or not source.applies(request):
            return  # the client's own mistake, which no release has seen
        took = min(max(0.0, request.duration_ms), VALUE_MAX) if source.is_time else 0.0
        value = source.value(request) if request.answered else None
        if value is not None:
            self._known += 1
            self._total += value
            self._longest = max(self._longest, value)
            return
        self._longest = max(self._longest, took)
        if request.left and source.is_time:
            self._waited += 1
            self._total += took
        else:
            self._unknown += 1
            self._missing += request.answered

    def readings(self) -> tuple[Reading | None, ...]:
        seen = self._known + self._waited
        count = seen + self._unknown
        if not count:
            return (None,)
        value = self._total / seen if seen else None
        return (Reading(value, self._worst(count), lacks=self._missing > count / 2),)

    def _worst(self, count: int) -> float:
        if self._lower:
            return self._total / count
        if not self._known:
            return WORST
        return (self._total + self._longest * self._unknown) / count


class _FeedbackGauge:
    """Bad, and unconfirmed: see docs/decisions/0007-silence-is-an-outcome.md."""

    __slots__ = ("_bad", "_is_out", "_requests", "_rule", "_silent")

    def __init__(self, rule: FeedbackRule) -> None:
        self._rule = rule
        self._is_out: bool | None = None
        self._requests = self._bad = self._silent = 0

    def add(self, request: Observation, until: float) -> None:
        if self._rule.sampled:
            if self._is_out is None:
                # Whether a unit is in the sample is what was chosen with its first request.
                self._is_out = not request.sampled
            if self._is_out or not request.sampled:
                return
        said = request.said(self._rule.name, until)
        self._requests += 1
        self._bad += request.failed_by_error or (
            said is not None and said < self._rule.good_at_least
        )
        self._silent += said is None and not request.failed_by_error

    def readings(self) -> tuple[Reading | None, ...]:
        if not self._requests:
            return None, None
        bad = self._bad / self._requests
        unconfirmed = (self._bad + self._silent) / self._requests
        lacks = self._rule.required and self._silent > self._requests / 2
        return Reading(bad, bad), Reading(unconfirmed, unconfirmed, lacks=lacks)
