"""Recorded pairs of a suite's answers, judged as those of a live rollout are (`suites`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.suites import SUITES_MAX, SuiteMetric, tests_of

if TYPE_CHECKING:
    from fairlead.rollout.replay import ReplayResult

PAIRS_MAX = 1_000_000
PATH_EVERY = 10
"""Pairs between two points of the path."""

_LOG_MAX = 690.0


class ReplayedSuite(msgspec.Struct, frozen=True):
    """A suite that was run again; fields as in `fairlead.rollout.suites.SuiteMetric`.

    Attributes:
        incomplete: Its pairs are not known, or not all: nothing can be said of it.
    """

    name: str
    margin: float = 0.05
    tolerance: float = 0.0
    promotes: bool = True
    incomplete: bool = False

    @property
    def metric(self) -> SuiteMetric:
        """The metric of a rollout that it was; raises InvalidInput when it makes no sense."""
        return SuiteMetric(
            self.name, self.name, margin=self.margin, tolerance=self.tolerance,
            promotes=self.promotes,
        )  # fmt: skip


class ReplayedPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both releases' answers to one case of a suite.

    Attributes:
        case: Its number in the order in which cases count, from 1.
        champion, canary: How bad each answer is: 0 (good) to 1 (bad, or none).
    """

    suite: str
    case: int
    champion: float
    canary: float


class SuitePoint(msgspec.Struct, frozen=True):
    """The evidence after so many pairs."""

    pairs: int
    e_rollback: float
    e_promote: float


class SuiteNumbers(msgspec.Struct, frozen=True):
    """What one suite says by itself.

    Attributes:
        champion_score, canary_score: Mean scores, 1 for good; None without a pair.
        e_rollback: The most evidence so far that the answers are worse.
        threshold: From which on it rolls back.
        lacks: A promotion still needs evidence by it.
        at: The pair at which it got to the threshold; None if it did not.
        incomplete: Its pairs are not there: of all this only its threshold is known.
    """

    name: str
    pairs: int
    champion_score: float | None
    canary_score: float | None
    e_rollback: float
    e_promote: float
    threshold: float
    lacks: bool
    at: int | None
    path: list[SuitePoint]
    incomplete: bool = False

    @property
    def words(self) -> str:
        """Its scores, for a reason."""
        if self.incomplete:
            return f"suite {self.name!r}: the suite's evidence is not in this file"
        if self.champion_score is None or self.canary_score is None:
            return f"suite {self.name!r}: no pair"
        return (
            f"suite {self.name!r}: score {self.canary_score:.1%} against "
            f"{self.champion_score:.1%} of the champion in {self.pairs:,} pairs"
        )


class SuiteRecording:
    """Pairs gathered by suite, in any order; raises InvalidInput for what contradicts itself."""

    def __init__(self, suites: Sequence[ReplayedSuite] = ()) -> None:
        if len(suites) > SUITES_MAX:
            raise InvalidInput(f"{len(suites)} suites; at most {SUITES_MAX}")
        self.metrics = {suite.name: suite.metric for suite in suites}
        if len(self.metrics) < len(suites):
            raise InvalidInput("two suites have the same name")
        self._incomplete = {suite.name for suite in suites if suite.incomplete}
        self._pairs: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in self.metrics}

    def add(self, pair: ReplayedPair) -> None:
        """Take in a pair."""
        kept = self._pairs.get(pair.suite)
        if kept is None:
            declared = ", ".join(self.metrics) or "none"
            raise InvalidInput(
                f"suite {pair.suite!r} is not declared", hint=f"declared are: {declared}"
            )
        if pair.suite in self._incomplete:
            raise InvalidInput(
                f"suite {pair.suite!r} is declared incomplete, and has a pair",
                hint="take `incomplete` away if all its pairs are there",
            )
        if not 1 <= pair.case <= PAIRS_MAX:
            raise InvalidInput(f"case {pair.case} is not between 1 and {PAIRS_MAX:,}")
        both = (pair.champion, pair.canary)
        if not all(0.0 <= value <= 1.0 for value in both):
            raise InvalidInput(f"champion and canary {both}: each is from 0 (good) to 1 (bad)")
        if kept.setdefault(pair.case, both) != both:
            raise InvalidInput(f"case {pair.case} of suite {pair.suite!r} is there twice")

    def judged(self, alpha: float, beta: float) -> list[SuiteNumbers]:
        """What each suite says; all together have `alpha`. Raises InvalidInput where one lacks."""
        found = []
        threshold = len(self._pairs) / alpha
        for name, pairs in self._pairs.items():
            if name in self._incomplete:
                found.append(_unknown(self.metrics[name], threshold))
                continue
            if len(pairs) < max(pairs, default=0):
                missing = next(case for case in range(1, len(pairs) + 1) if case not in pairs)
                raise InvalidInput(
                    f"case {missing} of suite {name!r} is missing",
                    hint="each counts in its order: without one, the evidence would be another",
                )
            ordered = [pairs[case] for case in sorted(pairs)]
            found.append(_judged(self.metrics[name], ordered, threshold, 1 / beta))
        return found


def with_suites(result: ReplayResult, suites: Sequence[SuiteNumbers]) -> ReplayResult:
    """The verdict of both.

    As live, a suite's evidence rolls back before all else, and a promotion waits for each suite
    that promotes. Without the evidence of a suite there is no promotion: live it may have rolled
    back.
    """
    unknown = [suite.words for suite in suites if suite.incomplete]
    worse = next((suite for suite in suites if suite.at is not None), None)
    lacking = next((suite for suite in suites if suite.lacks), None)
    verdict, missing, reason = result.verdict, result.missing, result.reason
    if worse is not None:
        verdict, missing = RolloutOutcome.ROLL_BACK, ""
        reason = (
            f"{worse.words}; evidence {worse.e_rollback:.3g} against a threshold of "
            f"{worse.threshold:g} that its answers are worse, reached at pair {worse.at:,}"
        )
    elif verdict is RolloutOutcome.PROMOTE and unknown:
        verdict, missing = RolloutOutcome.INCONCLUSIVE, "; ".join(unknown)
        reason = f"{reason}; missing: {missing}"
    elif unknown:
        missing = "; ".join([missing, *unknown]) if missing else ""
        reason = "; ".join([reason, *unknown])
    elif verdict is RolloutOutcome.PROMOTE and lacking is not None:
        verdict = RolloutOutcome.INCONCLUSIVE
        missing = (
            f"{lacking.words}; evidence {lacking.e_promote:.3g} of {1 / result.beta:g} that its "
            "answers are not worse by the margin"
        )
        reason = f"{reason}; missing: {missing}"
    return msgspec.structs.replace(
        result, verdict=verdict, missing=missing, reason=reason, suites=list(suites)
    )


def _unknown(metric: SuiteMetric, threshold: float) -> SuiteNumbers:
    """Of a suite whose pairs are not there."""
    return SuiteNumbers(
        metric.name, 0, None, None, 1.0, 1.0, threshold, metric.promotes, None, [], incomplete=True
    )


def _judged(
    metric: SuiteMetric, pairs: Sequence[tuple[float, float]], threshold: float, needed: float
) -> SuiteNumbers:
    worse, not_worse = tests_of(metric)
    at: int | None = None
    path: list[SuitePoint] = []
    for number, (champion, canary) in enumerate(pairs, start=1):
        worse.update(champion, canary)
        not_worse.update(champion, canary)
        fell = at is None and worse.log_e_max >= math.log(threshold)
        if fell:
            at = number
        if fell or number % PATH_EVERY == 0 or number == len(pairs):
            path.append(SuitePoint(number, _exp(worse.log_e), _exp(not_worse.log_e)))
    count = len(pairs)
    return SuiteNumbers(
        name=metric.name,
        pairs=count,
        champion_score=1.0 - sum(pair[0] for pair in pairs) / count if count else None,
        canary_score=1.0 - sum(pair[1] for pair in pairs) / count if count else None,
        e_rollback=_exp(worse.log_e_max),
        e_promote=_exp(not_worse.log_e),
        threshold=threshold,
        lacks=metric.promotes and not_worse.log_e < math.log(needed),
        at=at,
        path=path,
    )


def _exp(log_e: float) -> float:
    return math.exp(min(log_e, _LOG_MAX))
