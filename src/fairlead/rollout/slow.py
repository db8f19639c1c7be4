"""The slow watch: whether a champion keeps within an absolute budget of failures, for ever. Pure.

Once a release serves everybody there is nobody to compare it with, and comparing it with what was
before is wrong under any drift of the traffic. What can be tested is an absolute limit, which was
fixed beforehand: declared, or the upper bound of what the release was accepted with plus the
margin. The alarm says "it fails more often than that", never "it has become worse": harder requests
can do it, too. While its failure rate is within the limit, whatever it was and however it moves,
there is an alarm with probability alpha at most, in all the time for which it is champion.

A unit is bet on once in a day (UTC), by its first request and those within the plan's time to
settle, as in a rollout. A day's bets begin anew from what was known at its beginning, which is all
that has to be kept: read again from there, the same requests give the same bets.

A judge model looks at samples while there is a rollout, and at none afterwards. Where a rollout is
judged by one, the watch goes by errors alone, and so does the limit that is derived.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from fairlead.rollout.digests import DigestSet
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import Plan
from fairlead.rollout.units import UNITS_PER_PHASE_MAX, ArmCounts, Unit, digest_of
from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.rae import RaeState
from fairlead.stats.rare import BudgetRae

DAY_S = 86_400.0
LIMIT_MIN, LIMIT_MAX = 0.0001, 0.5
CONFIDENCE = 0.99
"""Of the upper bound of what a release was accepted with."""
_RHO = 0.5
"""Without meaning: all units are those of the release."""


class Kept(msgspec.Struct, frozen=True):
    """What is known at the beginning of a day.

    Attributes:
        test: State of the test on the limit.
        units, failures: Units bet on, and the sum of their outcomes.
        since: From which time on requests count, Unix time in seconds.
    """

    test: RaeState
    since: float
    units: int = 0
    failures: float = 0.0


class Limit(msgspec.Struct, frozen=True):
    """The failure rate that a champion must not exceed, and where it comes from."""

    rate: float
    source: str


def limit_of(plan: Plan, units: int, failures: float) -> Limit | None:
    """The limit by which a promoted release is watched; None where nothing gives one.

    Args:
        units, failures: The evidence with which it was accepted: its units and the sum of their
            outcomes.
    """
    declared = plan.failures_at_most
    if declared is not None:
        return Limit(declared, "declared")
    if units <= 0:
        return None
    upper = clopper_pearson(min(units, math.ceil(failures)), units, 2 * CONFIDENCE - 1)[1]
    rate = max(LIMIT_MIN, round(upper + plan.margin, 6))
    if rate > LIMIT_MAX:
        return None
    return Limit(
        rate,
        f"accepted with at most {100 * upper:.3g} % ({units:,} units, {CONFIDENCE:.0%} confidence) "
        f"and a margin of {100 * plan.margin:.3g} points",
    )


def accepted_with(canary: ArmCounts, early: ArmCounts | None, plan: Plan) -> tuple[int, float]:
    """Units and the sum of their outcomes of a promoted release, as the watch counts them.

    Args:
        canary, early: Its arm, as the judge and the early judge saw it.
    """
    if not plan.samples_feedback:
        return canary.units, canary.failures
    if early is not None:
        return early.units, early.failures
    # Of an older build's rollout. A unit's share of errors is below both of these.
    return canary.units, min(float(canary.errors), canary.failed)


def new_kept(limit: Limit, plan: Plan, since: float) -> Kept:
    """Nothing seen yet."""
    return Kept(BudgetRae(limit=limit.rate, alpha=plan.alpha).state(), since)


class Day:
    """A watch while its day goes on; made from what was kept, and given all requests since.

    Raises ValueError when what was kept is the state of another test.
    """

    def __init__(self, kept: Kept, limit: Limit, plan: Plan) -> None:
        self._plan = plan.unsampled
        self._test = BudgetRae(limit=limit.rate, alpha=plan.alpha)
        self._test.restore(kept.test)
        self._kept = kept
        self._units, self._failures = kept.units, kept.failures
        self._seen = DigestSet()
        self._open: dict[int, Unit] = {}
        self._ends_at = _day_end(kept.since)
        self.position = (kept.since, "")
        """Start time and id of the last request taken in."""

    @property
    def units(self) -> int:
        """Units bet on since the promotion."""
        return self._units

    @property
    def rate(self) -> float | None:
        """Their mean outcome."""
        return self._failures / self._units if self._units else None

    @property
    def evidence(self) -> float:
        """That the limit is exceeded: the highest so far."""
        return math.exp(min(690.0, self._test.log_e_max))

    @property
    def is_exceeded(self) -> bool:
        """Whether the evidence has reached 1/alpha."""
        return self.evidence >= 1 / self._plan.alpha * (1 - 1e-12)

    @property
    def kept(self) -> Kept:
        """What has to be kept: it changes when a day is over."""
        return self._kept

    def add(self, requests: Iterable[Observation]) -> None:
        """Take in the requests that follow, by start time and id, with all their feedback."""
        for request in requests:
            if (request.started_at, request.id) <= self.position:
                continue
            self.position = request.started_at, request.id
            self._settle(request.started_at)
            if request.started_at >= self._ends_at:
                self._next_day(request.started_at)
            self._take_in(request)

    def settle(self, until: float) -> None:
        """All requests that started before `until` were added: bet on the units that are due."""
        self._settle(until)
        if until - self._plan.settle_s >= self._ends_at and not self._open:
            self._next_day(until - self._plan.settle_s)

    def _take_in(self, request: Observation) -> None:
        digest = digest_of(request.unit)
        unit = self._open.get(digest)
        if unit is None:
            if digest in self._seen or len(self._seen) >= UNITS_PER_PHASE_MAX:
                return
            self._seen.add(digest)
            unit = self._open[digest] = Unit(request, digest, (0.0, ""), 0)
        unit.add(request, self._plan.feedback, unit.enrolled_at + self._plan.settle_s)

    def _settle(self, until: float) -> None:
        while self._open:
            # They are in the order of their enrolment.
            unit = next(iter(self._open.values()))
            if unit.enrolled_at + self._plan.settle_s >= until:
                return
            del self._open[unit.digest]
            outcome = unit.outcome(self._plan)
            if outcome is None:
                continue
            self._test.update(True, _RHO, outcome)
            self._units += 1
            self._failures += outcome

    def _next_day(self, at: float) -> None:
        """Units still open at midnight are bet on with what they have."""
        self._settle(math.inf)
        begins = _day_end(at) - DAY_S
        self._kept = Kept(self._test.state(), begins, self._units, self._failures)
        self._ends_at = begins + DAY_S
        self._seen.clear()


def _day_end(at: float) -> float:
    return (math.floor(at / DAY_S) + 1) * DAY_S
