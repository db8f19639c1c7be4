"""Has a rate left what was accepted? Feedback, judged answers, format, refusals, abuse.

The reference is the evidence with which the release was accepted: so many bad outcomes among so
many. Its uncertainty is part of the null hypothesis, "the rate is at most `limit`", `limit` being
the upper bound of the rate's interval (Clopper, Pearson 1934). A bad outcome multiplies the
bet on a rate q by q / limit, a good one by (1 - q) / (1 - limit), one in between by what lies
between: mean at most 1 for every rate up to the limit, whatever the outcomes depend on. The bets
lie at fixed odds ratios above it. What is done with them is in `fairlead.stats.monitors.evidence`.

Where a judge with errors of its own looks at live answers, while the accepted rate is the true one,
the limit is the rate of *bad verdicts* that an accepted release would get at worst, by intervals of
the accepted rate and of both of the judge's error rates (`judged_reference`).
"""

from __future__ import annotations

import math
from copy import copy
from typing import Literal, NamedTuple, TypedDict

from fairlead.stats.monitors.evidence import (
    RUN_LENGTH,
    Evidence,
    alarm_level,
    check_design_effect,
    made_with,
)
from fairlead.stats.monitors.recent import Change, Recent, RecentState, change_of
from fairlead.stats.special import beta_quantile

Direction = Literal["more", "fewer"]

ODDS_RATIOS = (1.2, 1.45, 1.8, 2.3, 3.0, 4.2, 6.5, 12.0, 30.0)
"""How far above the limit the bets lie."""
WEIGHTS = (0.08, 0.14, 0.18, 0.18, 0.14, 0.12, 0.08, 0.05, 0.03)
"""A small change takes thousands of outcomes anyway, and a gross one shows in a few dozen."""
CONFIDENCE = 0.99
_EDGE = 1e-6


class Counts(NamedTuple):
    """How many of `n` outcomes were bad; fractions of an outcome are allowed."""

    bad: float
    n: float


class JudgeError(NamedTuple):
    """How often a judge was wrong, against answers whose truth is known.

    Attributes:
        alarms: Good answers, and how many of them it called bad.
        misses: Bad answers, and how many of them it called good.
    """

    alarms: Counts
    misses: Counts


class Reference(NamedTuple):
    """The rate that a stream of outcomes is held against.

    Attributes:
        rate: The likeliest rate of bad outcomes.
        worth: How many outcomes that is known from.
        limit: The rate that is still no change: above `rate`, or below for `fewer`.
        direction: Whether more or fewer bad outcomes than that are a change.
    """

    rate: float
    worth: float
    limit: float
    direction: Direction = "more"


def known_reference(rate: float, direction: Direction = "more") -> Reference:
    """A rate that is given, not measured: a promise, a budget."""
    return _checked(Reference(rate, 1e4, rate, direction))


def reference_of(
    accepted: Counts,
    *,
    direction: Direction = "more",
    tolerance: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Reference:
    """The reference by the outcomes with which a release was accepted, or by its own past.

    Args:
        accepted: Bad outcomes, of how many.
        direction: Which change is looked for.
        tolerance: By how much the rate may change without an alarm.
        confidence: With which the true rate lies within the limit; one-sided.
    """
    if not 0.0 <= tolerance < 1.0:
        raise ValueError(f"tolerance={tolerance}: must be in [0, 1)")
    low, high = _bounds(accepted, confidence)
    limit = high + tolerance if direction == "more" else low - tolerance
    return _checked(Reference(accepted.bad / accepted.n, accepted.n, limit, direction))


def judged_reference(
    accepted: Counts, judge: JudgeError, *, tolerance: float = 0.0, confidence: float = CONFIDENCE
) -> Reference:
    """The reference for verdicts of a judge that errs, `accepted` being true rates.

    The three bounds hold together with `confidence` (Bonferroni). `tolerance` is one of the true
    rate.
    """
    if not 0.0 <= tolerance < 1.0:
        raise ValueError(f"tolerance={tolerance}: must be in [0, 1)")
    each = 1.0 - (1.0 - confidence) / 3.0
    true_most = min(1.0, _bounds(accepted, each)[1] + tolerance)
    alarms_most = _bounds(judge.alarms, each)[1]
    misses_least = _bounds(judge.misses, each)[0]
    limit = max(alarms_most, _verdicts(true_most, alarms_most, misses_least))
    alarms, misses = (counts.bad / counts.n for counts in judge)
    return _checked(
        Reference(_verdicts(accepted.bad / accepted.n, alarms, misses), accepted.n, limit)
    )


def true_rate(verdicts: Counts, judge: JudgeError, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the true rate of bad answers, by the verdicts of a judge that errs.

    Rogan, Gladen 1978, at the ends of the intervals of all three rates, which hold together with
    `confidence` (Bonferroni). 0 and 1 where the judge tells good from bad too badly to say.
    """
    each = 1.0 - (1.0 - confidence) / 6.0
    seen = _bounds(verdicts, each)
    alarms = _bounds(judge.alarms, each)
    misses = _bounds(judge.misses, each)
    low = _corrected(seen[0], alarms[1], misses[0])
    high = _corrected(seen[1], alarms[0], misses[1])
    return (0.0 if low is None else low), (1.0 if high is None else high)


class RateState(TypedDict):
    """What a `RateWatch` has to remember, in JSON's types; `of`: what it was made with."""

    of: str
    seen: int
    evidence: list[float]
    alarmed_at: int | None
    recent: RecentState


class RateWatch:
    """Evidence that bad outcomes have come to be more frequent (or less) than the reference says.

    The average run length to a false alarm is at least `run_length` outcomes while the rate stays
    within the reference's limit.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        run_length: float = RUN_LENGTH,
        design_effect: float = 1.0,
    ) -> None:
        """`design_effect`: how many outcomes of one cause come together, at most; 1 if none.

        The average is too little: a group larger than the design effect counts as several.
        """
        self._reference = _checked(reference)
        self._level = alarm_level(run_length)
        self._evidence = Evidence(WEIGHTS)
        self._recent = Recent()
        self._seen = 0
        self._alarmed_at: int | None = None
        self._bad_factors, self._good_factors = self._factors()
        power = check_design_effect(design_effect)
        self._power = power
        self._of = made_with(tuple(reference), run_length, design_effect)
        self._bad = [factor**power for factor in self._bad_factors]
        self._good = [factor**power for factor in self._good_factors]

    @property
    def reference(self) -> Reference:
        """What the outcomes are held against."""
        return self._reference

    @property
    def seen(self) -> int:
        """Outcomes so far, since the last reset."""
        return self._seen

    @property
    def log_evidence(self) -> float:
        """log(1 + R) now; an alarm is at log(1 + run length)."""
        return self._evidence.log

    @property
    def alarmed_at(self) -> int | None:
        """The number of the outcome at which the evidence first sufficed; None if it has not."""
        return self._alarmed_at

    def change(self, confidence: float = 0.95) -> Change | None:
        """When the rate changed, and what it is since, if it has changed; to be asked at an alarm.

        None before the first outcome.
        """
        reference = self._reference
        return change_of(self._recent.blocks(), reference.rate, reference.worth, confidence)

    def update(self, bad: float) -> bool:
        """Take in an outcome, 0 (good) to 1 (bad); true if there is an alarm, now or before."""
        if not 0.0 <= bad <= 1.0:
            raise ValueError(f"outcome {bad}: must be in [0, 1]")
        if bad == 0.0:
            factors = self._good
        elif bad == 1.0:
            factors = self._bad
        else:
            factors = [
                (bad * worse + (1.0 - bad) * better) ** self._power
                for worse, better in zip(self._bad_factors, self._good_factors, strict=True)
            ]
        self._evidence.update(factors)
        self._recent.add(bad)
        self._seen += 1
        evidence, level = self._evidence, self._level
        if self._alarmed_at is None and evidence.peak >= level and evidence.log >= level:
            self._alarmed_at = self._seen
        return self._alarmed_at is not None

    def reset(self) -> None:
        """Begin anew against the same reference: after an alarm that was dealt with."""
        self._evidence.reset()
        self._recent = Recent()
        self._seen, self._alarmed_at = 0, None

    def state(self) -> RateState:
        """Everything that `restore` needs to go on with identical results."""
        return RateState(
            of=self._of,
            seen=self._seen,
            evidence=self._evidence.state(),
            alarmed_at=self._alarmed_at,
            recent=self._recent.state(),
        )

    def restore(self, state: RateState) -> None:
        """Go on from a state of a watch that was made with the same arguments.

        Raises:
            ValueError: The state is damaged, or not one of such a watch. Nothing has changed then.
        """
        seen, at = state["seen"], state["alarmed_at"]
        if state.get("of") != self._of:
            raise ValueError("state of a monitor with another reference or other settings")
        if not _is_number(seen) or (at is not None and not (_is_number(at) and 0 < at <= seen)):
            raise ValueError(f"damaged state of a monitor: alarm at {at} of {seen} outcomes")
        evidence, recent = copy(self._evidence), Recent()
        evidence.restore(state["evidence"])
        recent.restore(state["recent"])
        self._evidence, self._recent = evidence, recent
        self._seen, self._alarmed_at = seen, at

    def _factors(self) -> tuple[list[float], list[float]]:
        """Of a bad and of a good outcome, for each bet."""
        limit = self._reference.limit
        more = self._reference.direction == "more"
        odds = limit / (1.0 - limit)
        others = [odds * ratio if more else odds / ratio for ratio in ODDS_RATIOS]
        rates = [other / (1.0 + other) for other in others]
        return [q / limit for q in rates], [(1.0 - q) / (1.0 - limit) for q in rates]


def _is_number(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _bounds(counts: Counts, confidence: float) -> tuple[float, float]:
    """One-sided bounds of a rate from below and from above, each with this confidence."""
    bad, n = counts
    if not (0.0 <= bad <= n and 0.0 < n < math.inf and 0.5 < confidence < 1.0):
        raise ValueError(
            f"{bad} bad outcomes of {n} at confidence {confidence}: need 0 <= bad <= n, n > 0, "
            "confidence in (0.5, 1)"
        )
    low = 0.0 if bad == 0 else beta_quantile(1.0 - confidence, bad, n - bad + 1)
    high = 1.0 if bad == n else beta_quantile(confidence, bad + 1, n - bad)
    return low, high


def _verdicts(bad: float, alarms: float, misses: float) -> float:
    """How often a judge with these error rates says bad, where so many answers are."""
    return bad * (1.0 - misses) + (1.0 - bad) * alarms


def _corrected(seen: float, alarms: float, misses: float) -> float | None:
    """The inverse of `_verdicts`; None where a judge says bad of good answers as often."""
    informed = 1.0 - misses - alarms
    return min(max((seen - alarms) / informed, 0.0), 1.0) if informed > 0.0 else None


def _checked(reference: Reference) -> Reference:
    rate, worth, limit, direction = reference
    if direction not in ("more", "fewer"):
        raise ValueError(f"direction {direction!r}: must be 'more' or 'fewer'")
    if not (0.0 <= rate <= 1.0 and 0.0 <= worth < math.inf):
        raise ValueError(
            f"rate {rate} of {worth} outcomes: need a rate in [0, 1], worth at least 0"
        )
    if not _EDGE <= limit <= 1.0 - _EDGE:
        raise ValueError(
            f"limit {limit:.6g} leaves nothing to watch for {direction} bad outcomes: "
            "it must lie within (0, 1); take more accepted outcomes, or a smaller tolerance"
        )
    return reference
