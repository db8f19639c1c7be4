"""Recorded observations, judged as live traffic is: a verdict that anybody can check afterwards.

The units come from a `Recording`. The tests are those of `fairlead.rollout.metrics`; they are
looked at after every unit. Beside them there may be the pairs of suites that were run again
(`replayed_suites`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.figures import MISSING_MAX
from fairlead.rollout.metrics import Metric, MetricTests, Missing, Reading
from fairlead.rollout.recording import Recording
from fairlead.rollout.replayed_suites import SuiteNumbers, SuiteRecording, with_suites
from fairlead.rollout.strata import suspected

PATH_EVERY = 50
"""Units between two points of the path."""

RATIO_ALPHA = 0.001
_LOG_MAX = 690.0


class PathPoint(msgspec.Struct, frozen=True):
    """The evidence after so many units."""

    units: int
    canary_units: int
    e_rollback: float
    e_promote: float
    e_sample_ratio: float


class MetricNumbers(msgspec.Struct, frozen=True):
    """What one metric says by itself; means are of the values that were there."""

    name: str
    canary_mean: float | None
    champion_mean: float | None
    canary_missing: int
    champion_missing: int
    e_rollback: float
    e_promote: float | None


class ReplayResult(msgspec.Struct, frozen=True):
    """The verdict, at which unit it fell, and how the evidence came to it.

    Attributes:
        at: Units, of both arms, when the verdict fell; all of them where none did.
        missing: What an inconclusive one lacks; empty for others.
        duplicates, late: Observations that did not count.
        suites: What each suite says that was run again; one that says "worse" rolls back.
    """

    verdict: RolloutOutcome
    at: int
    reason: str
    missing: str
    canary_units: int
    champion_units: int
    alpha: float
    beta: float
    duplicates: int
    late: int
    metrics: list[MetricNumbers]
    path: list[PathPoint]
    suites: list[SuiteNumbers] = []


class _Sums:
    """What is shown beside the evidence, by arm (champion, canary) and metric."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.units = [0, 0]
        self.missing = [[0] * len(metrics), [0] * len(metrics)]
        self.totals = [[0.0] * len(metrics), [0.0] * len(metrics)]

        self.there = [[0] * len(metrics), [0] * len(metrics)]
        self.good = [[0] * len(metrics), [0] * len(metrics)]
        self._metrics = metrics

    def add(self, canary: bool, readings: Sequence[Reading | None]) -> None:
        self.units[canary] += 1
        for k, reading in enumerate(readings):
            if reading is None:
                continue
            self.missing[canary][k] += reading.is_missing
            self.good[canary][k] += not reading.is_missing and reading.value is not None
            if reading.value is not None:
                self.there[canary][k] += 1
                self.totals[canary][k] += reading.value

    def mean(self, canary: bool, k: int) -> float | None:
        there = self.there[canary][k]
        return self.totals[canary][k] / there if there else None

    def unrecorded(self) -> tuple[int, bool] | None:
        """The first metric that most units of an arm lack, and whether that is the canary."""
        for k, metric in enumerate(self._metrics):
            for canary in (False, True):
                if self._lacks(metric, self.good[canary][k], self.missing[canary][k]):
                    return k, canary
        return None

    def _lacks(self, metric: Metric, good: int, missing: int) -> bool:
        if metric.missing is Missing.SKIP and (not metric.promotes or not good):
            return metric.promotes
        return missing > MISSING_MAX * (good + missing)


def replay(
    recording: Recording,
    *,
    alpha: float = 0.01,
    beta: float = 0.05,
    judged_at: int | None = None,
    suites: SuiteRecording | None = None,
) -> ReplayResult:
    """Judge a recording; it ends where a verdict falls. Raises InvalidInput.

    Args:
        judged_at: Units after which the verdict is taken, and not before: when a live rollout,
            which also waits for its steps and looks from time to time, came to its own.
        suites: The suites that were run again beside it; all together have `alpha` as well.
    """
    for name, rate in (("alpha", alpha), ("beta", beta)):
        if not 1e-9 <= rate <= 0.5:
            raise InvalidInput(f"{name} {rate:g} is not in [1e-9, 0.5]")
    metrics = recording.metrics
    tests, sums = MetricTests(metrics, alpha, beta, recording.strata), _Sums(metrics)
    path: list[PathPoint] = []
    verdict: RolloutOutcome | None = None
    at = 0
    for canary, rho, values, stratum in recording.units():
        at += 1
        sums.add(canary, values)
        tests.update(canary, rho, values, stratum)
        if judged_at is None or at >= judged_at:
            verdict = _verdict(tests, sums, alpha, beta)
        if verdict is not None or at % PATH_EVERY == 0:
            path.append(_point(tests, sums))
        if verdict is not None or at == judged_at:
            break
    if at and (not path or path[-1].units < at):
        path.append(_point(tests, sums))
    missing = "" if verdict is not None else _missing(tests, sums, metrics, alpha, beta)
    if verdict is None:
        unrecorded = sums.unrecorded() is not None
        verdict = RolloutOutcome.INVALID if unrecorded else RolloutOutcome.INCONCLUSIVE
    result = ReplayResult(
        verdict=verdict,
        at=at,
        reason=_reason(verdict, tests, sums, missing, alpha, beta)
        + _suspected(verdict, tests, recording),
        missing=missing,
        canary_units=sums.units[1],
        champion_units=sums.units[0],
        alpha=alpha,
        beta=beta,
        duplicates=recording.duplicates,
        late=recording.late,
        metrics=[_numbers(tests, sums, metrics, k) for k in range(len(metrics))],
        path=path,
    )
    return result if suites is None else with_suites(result, suites.judged(alpha, beta))


def _verdict(tests: MetricTests, sums: _Sums, alpha: float, beta: float) -> RolloutOutcome | None:
    if tests.guard.log_e_max >= -math.log(RATIO_ALPHA):
        return RolloutOutcome.INVALID
    if tests.rollback.log_e_max >= -math.log(alpha):
        return RolloutOutcome.ROLL_BACK
    if tests.promote.log_e >= -math.log(beta) and all(sums.units) and sums.unrecorded() is None:
        return RolloutOutcome.PROMOTE
    return None


def _missing(
    tests: MetricTests, sums: _Sums, metrics: Sequence[Metric], alpha: float, beta: float
) -> str:
    """What kept the units that there are from a verdict."""
    for arm, count in (("canary", sums.units[1]), ("champion", sums.units[0])):
        if not count:
            return f"no {arm} unit"
    unrecorded = sums.unrecorded()
    if unrecorded is not None:
        k, canary = unrecorded
        return (
            f"metric {metrics[k].name!r} is missing on {sums.missing[canary][k]:,} of "
            f"{sums.units[canary]:,} {'canary' if canary else 'champion'} units"
        )
    units = sum(sums.units)
    ways = []
    for what, log_e, level in (
        ("to roll back", tests.rollback.log_e, alpha),
        ("to promote", tests.promote.log_e, beta),
    ):
        if log_e > 0.0:
            ways.append(((-math.log(level) - log_e) * units / log_e, what))
    if not ways:
        return "evidence either way: none has grown so far"
    more, what = min(ways)
    return f"about {math.ceil(more):,} more units {what}, if the evidence grows as it did"


def _reason(
    verdict: RolloutOutcome,
    tests: MetricTests,
    sums: _Sums,
    missing: str,
    alpha: float,
    beta: float,
) -> str:
    metrics = tests.metrics
    counts = f"{sums.units[1]:,} canary and {sums.units[0]:,} champion units"
    if verdict is RolloutOutcome.ROLL_BACK:
        leading = max(range(len(metrics)), key=lambda k: tests.rollback.parts[k].log_e)
        return (
            f"{counts}; evidence that it is worse {_e(tests.rollback.log_e_max)} against a "
            f"threshold of {1 / alpha:g}, most of it by {metrics[leading].name!r}"
        )
    if verdict is RolloutOutcome.PROMOTE:
        return (
            f"{counts}; evidence that it is not worse by the margin is {_e(tests.promote.log_e)} "
            f"or more by each metric, against a threshold of {1 / beta:g}"
        )
    if missing:
        return f"{counts}; missing: {missing}"
    return (
        f"{counts} do not fit the logged probabilities (evidence {_e(tests.guard.log_e_max)} "
        f"against a threshold of {1 / RATIO_ALPHA:g}); a comparison would not be fair"
    )


def _suspected(verdict: RolloutOutcome, tests: MetricTests, recording: Recording) -> str:
    """The stratum whose units are not as logged, of a replay that is invalid for it."""
    suspect = tests.guard.suspect
    wrong = tests.guard.log_e_max >= -math.log(RATIO_ALPHA)
    if verdict is not RolloutOutcome.INVALID or not wrong or suspect is None:
        return ""
    return f";{suspected(recording.stratum_name(suspect))}"


def _numbers(tests: MetricTests, sums: _Sums, metrics: Sequence[Metric], k: int) -> MetricNumbers:
    e_promote = tests.log_e_promote(k)
    return MetricNumbers(
        name=metrics[k].name,
        canary_mean=sums.mean(True, k),
        champion_mean=sums.mean(False, k),
        canary_missing=sums.missing[1][k],
        champion_missing=sums.missing[0][k],
        e_rollback=_exp(tests.rollback.parts[k].log_e),
        e_promote=None if e_promote is None else _exp(e_promote),
    )


def _point(tests: MetricTests, sums: _Sums) -> PathPoint:
    return PathPoint(
        units=sum(sums.units),
        canary_units=sums.units[1],
        e_rollback=_exp(tests.rollback.log_e),
        e_promote=_exp(tests.promote.log_e),
        e_sample_ratio=_exp(tests.guard.log_e_max),
    )


def _exp(log_e: float) -> float:
    return math.exp(min(log_e, _LOG_MAX))


def _e(log_e: float) -> str:
    return f"{_exp(log_e):.3g}"
