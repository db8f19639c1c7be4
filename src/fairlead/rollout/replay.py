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
from fairlead.rollout.evidence import RATIO_ALPHA, evidence, foreseen, threshold
from fairlead.rollout.figures import MISSING_MAX, SILENCE_MAX
from fairlead.rollout.metrics import Metric, MetricTests, Missing
from fairlead.rollout.recording import RecordedUnit, Recording, Silence
from fairlead.rollout.replayed_suites import SuiteNumbers, SuiteRecording, with_suites
from fairlead.rollout.strata import suspected

PATH_EVERY = 50
"""Units between two points of the path."""

_ARMS = ("champion", "canary")


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
        assumed: What is taken to be so, since the recording does not say it.
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
    assumed: list[str] = []


class _Sums:
    """What is shown beside the evidence, by arm (champion, canary) and metric."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.units = [0, 0]
        self.missing = [[0] * len(metrics), [0] * len(metrics)]
        self.totals = [[0.0] * len(metrics), [0.0] * len(metrics)]
        self.there = [[0] * len(metrics), [0] * len(metrics)]
        self.good = [[0] * len(metrics), [0] * len(metrics)]
        self.silence = [Silence(), Silence()]
        self._metrics = metrics

    def add(self, unit: RecordedUnit) -> None:
        canary = unit.canary
        self.units[canary] += 1
        if unit.silence.requests:
            pairs = zip(self.silence[canary], unit.silence, strict=True)
            self.silence[canary] = Silence(*(before + more for before, more in pairs))
        for k, reading in enumerate(unit.readings):
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

    @property
    def unrecorded(self) -> str:
        """The first metric that most units of an arm lack, in words; empty while there is none."""
        for k, metric in enumerate(self._metrics):
            for arm, units, missing, good in zip(
                _ARMS, self.units, self.missing, self.good, strict=True
            ):
                if not self._lacks(metric, good[k], missing[k]):
                    continue
                if not missing[k]:
                    return f"no {arm} unit has the metric {metric.name!r}"
                return (
                    f"metric {metric.name!r} is missing on {missing[k]:,} of {units:,} {arm} units"
                )
        return ""

    def _lacks(self, metric: Metric, good: int, missing: int) -> bool:
        if metric.missing is Missing.SKIP and (not metric.promotes or not good):
            return metric.promotes
        return missing > MISSING_MAX * (good + missing)

    @property
    def unheard(self) -> str:
        """On whose requests too little feedback is, where it is required; empty where that is not.

        As in `fairlead.rollout.assessment` of a live rollout.
        """
        if not any(asked.requests for asked in self.silence):
            return ""
        canary = self.silence[True]
        if not canary.told:
            return f"no feedback on any of the canary's {canary.requests:,} requests"
        for arm, (requests, silent, _) in zip(_ARMS, self.silence, strict=True):
            if requests and silent / requests > SILENCE_MAX:
                return (
                    f"no feedback on {silent:,} of the {arm}'s {requests:,} requests, and at most "
                    f"{SILENCE_MAX:.0%} may be without"
                )
        return ""

    @property
    def lacks(self) -> str:
        """What has to be there before any evidence can promote, in words; empty if all is."""
        for arm, units in zip(reversed(_ARMS), reversed(self.units), strict=True):
            if not units:
                return f"no {arm} unit"
        return self.unrecorded or self.unheard


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
        if not 1e-10 <= rate <= 0.5:
            raise InvalidInput(f"{name} {rate:g} is not in [1e-10, 0.5]")
    metrics = recording.metrics
    tests, sums = MetricTests(metrics, alpha, beta, recording.strata), _Sums(metrics)
    path: list[PathPoint] = []
    verdict: RolloutOutcome | None = None
    at = 0
    for unit in recording.units():
        at += 1
        sums.add(unit)
        tests.update(unit.canary, unit.rho, unit.readings, unit.stratum)
        if judged_at is None or at >= judged_at:
            verdict = _verdict(tests, sums, alpha, beta)
        if verdict is not None or at % PATH_EVERY == 0:
            path.append(_point(tests, sums))
        if verdict is not None or at == judged_at:
            break
    if at and (not path or path[-1].units < at):
        path.append(_point(tests, sums))
    missing = "" if verdict is not None else _missing(tests, sums, alpha, beta)
    if verdict is None:
        unrecorded = all(sums.units) and sums.unrecorded
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
        assumed=recording.assumed,
    )
    return result if suites is None else with_suites(result, suites.judged(alpha, beta))


def _verdict(tests: MetricTests, sums: _Sums, alpha: float, beta: float) -> RolloutOutcome | None:
    """As `fairlead.rollout.assessment.assess` of a live rollout, from the same numbers."""
    if _is_unfair(tests):
        return RolloutOutcome.INVALID
    if evidence(tests.rollback.log_e_max) >= threshold(alpha):
        return RolloutOutcome.ROLL_BACK
    if evidence(tests.promote.log_e) >= threshold(beta) and not sums.lacks:
        return RolloutOutcome.PROMOTE
    return None


def _is_unfair(tests: MetricTests) -> bool:
    """Whether units are not on the arms as was logged."""
    return evidence(tests.guard.log_e_max) >= threshold(RATIO_ALPHA)


def _missing(tests: MetricTests, sums: _Sums, alpha: float, beta: float) -> str:
    """What kept the units that there are from a verdict."""
    if sums.lacks:
        return sums.lacks
    units = sum(sums.units)
    ways = []
    for what, log_e, level in (
        ("to roll back", tests.rollback.log_e, alpha),
        ("to promote", tests.promote.log_e, beta),
    ):
        needed = -math.log(level) - log_e
        ahead = foreseen(needed * units / log_e) if log_e > 0.0 else None
        if ahead is not None:
            ways.append((ahead, what))
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
        leading = max(
            range(len(metrics)),
            key=lambda k: tests.rollback.parts[k].log_e + math.log(metrics[k].weight),
        )
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
        f"against a threshold of {threshold(RATIO_ALPHA):g}); a comparison would not be fair"
    )


def _suspected(verdict: RolloutOutcome, tests: MetricTests, recording: Recording) -> str:
    """The stratum whose units are not as logged, of a replay that is invalid for it."""
    suspect = tests.guard.suspect
    wrong = _is_unfair(tests)
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
        e_rollback=evidence(tests.rollback.parts[k].log_e),
        e_promote=None if e_promote is None else evidence(e_promote),
    )


def _point(tests: MetricTests, sums: _Sums) -> PathPoint:
    return PathPoint(
        units=sum(sums.units),
        canary_units=sums.units[1],
        e_rollback=evidence(tests.rollback.log_e),
        e_promote=evidence(tests.promote.log_e),
        e_sample_ratio=evidence(tests.guard.log_e_max),
    )


def _e(log_e: float) -> str:
    return f"{evidence(log_e):.3g}"
