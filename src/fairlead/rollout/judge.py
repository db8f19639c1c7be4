"""The judge: what the live requests say about the canary. Pure, exact, resumable.

A *unit* is what was assigned at random: a session, user or key, within one phase (one split). It is
enrolled by its first request; the requests that start within `settle_s` of that, and the feedback
on them that comes within the same time, make its outcomes:

- *failed*: the share of its requests that the server failed, or on which the feedback is bad;
- *unconfirmed*, where the plan names a feedback: the share of its requests without good feedback,
  be it that they failed or that nobody said anything. A canary whose users fall silent shows here.

- what the plan declares besides: each metric is one value per unit (`fairlead.rollout.gauges`),
  on which the same tests run as in a replay (`fairlead.rollout.metrics`).

The canary must be worse in none. If the plan requires feedback, the failure rate that is shown
is the second (docs/decisions/0007-silence-is-an-outcome.md says why it is those two).

Where the plan tells strata of risk apart, a unit is of that of its first request.

Later requests do not count, and a unit is judged once per phase, so that a user who comes back
again and again is one observation and not many.

Units settle in the order of their enrolment, once everything up to the end of their window is known
(the watermark). What the judge knows is therefore a function of the facts alone: any division into
batches, any delay and any crash in between give the same state, bit for bit. Units that have not
settled are not remembered; the caller gives everything after `Judge.cursor` again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from fairlead.domain.decoding import convert
from fairlead.rollout.declared import PRIOR_UNITS
from fairlead.rollout.figures import MetricFigures
from fairlead.rollout.gauges import gauges_of
from fairlead.rollout.metrics import Metric, MetricKind, MetricTests, Missing, Reading
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import OUTCOMES, Plan
from fairlead.rollout.rate_intervals import RateInterval, RateIntervals
from fairlead.rollout.strata import StratumCounts
from fairlead.rollout.units import (
    ArmCounts,
    PhaseUnits,
    Settled,
    Unit,
    digest_of,
    unpack,
)
from fairlead.stats.intervals import DifferenceSequence, DifferenceState
from fairlead.stats.ratio_guard import StrataGuardState
from fairlead.stats.several import NotWorseState, WorseState

CONFIDENCE = 0.95


__all__ = [
    "CONFIDENCE", "OUTCOMES", "ArmCounts", "Gathering", "Instruments", "Judge", "Observation",
    "PhaseUnits", "is_resumable", "metrics_of", "new_judge", "observe",
]  # fmt: skip


class Judge(msgspec.Struct, frozen=True):
    """All that is remembered of the requests seen.

    Attributes:
        cursor: Start time and id of the last request that need not be given again.
        rho: Assignment probability of the last unit.
        requests: All requests up to the cursor that were assigned at random, also those of units
            that were judged before.
        first_at, last_at: When the first and the last settled unit were enrolled, Unix times.
        figures: What is shown of each test, in their order; empty of what an older build kept.
        strata: What settled in each stratum of risk, where the plan tells them apart.
        intervals: The confidence sequences of all rates but the failures', in their order; empty of
            what an older build kept.
    """

    rollback: WorseState
    promote: NotWorseState
    guard: StrataGuardState
    interval: DifferenceState
    champion: ArmCounts = ArmCounts()
    canary: ArmCounts = ArmCounts()
    phases: tuple[PhaseUnits, ...] = ()
    cursor: tuple[float, str] = (0.0, "")
    rho: float = 0.5
    requests: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    figures: tuple[MetricFigures, ...] = ()
    strata: tuple[StratumCounts, ...] = ()
    intervals: tuple[RateInterval, ...] = ()

    @property
    def seconds_per_unit(self) -> float | None:
        """How far apart units are enrolled, on average; None before the second."""
        if self.units < 2 or self.last_at <= self.first_at:
            return None
        return (self.last_at - self.first_at) / (self.units - 1)

    @property
    def units(self) -> int:
        """Units settled, of both arms."""
        return self.champion.units + self.canary.units

    @property
    def distinct_units(self) -> int:
        """Sessions, users and keys in the phases that are remembered, each counted once."""
        return len({digest for units in self.phases for digest in unpack(units.seen)})

    def canary_units(self, phase: int) -> int:
        """Canary units settled in this phase."""
        return sum(units.canary for units in self.phases if units.phase == phase)


def metrics_of(plan: Plan) -> list[Metric]:
    """What the plan has a rollout judged by: failures first, then what it declares."""
    worths = [plan.expected_units]
    if plan.feedback is not None:
        # How often clients say something is not known beforehand.
        worths.append(min(plan.expected_units, PRIOR_UNITS))
    # What is outside the sample of a judge model has no such outcome.
    outside = Missing.SKIP if plan.samples_feedback else Missing.WORST
    own = [
        Metric(
            name=name,
            margin=plan.margin,
            tolerance=plan.tolerance,
            expected=plan.expected_failure_rate,
            expected_units=worth,
            missing=Missing.WORST if name == OUTCOMES[0] else outside,
        )
        for name, worth in zip(OUTCOMES, worths, strict=False)
    ]
    declared = [
        msgspec.structs.replace(test, missing=Missing.SKIP)
        for metric in plan.metrics
        for test in metric.tests(plan.tolerance, plan.expected_failure_rate)
    ]
    return own + declared


def place_of(unit: Unit, plan: Plan) -> int:
    """The stratum of a unit among those that the plan tells apart."""
    return 0 if plan.strata is None else plan.strata.place(unit.stratum)


def readings_of(
    unit: Unit, plan: Plan, metrics: Sequence[Metric], settled: Settled
) -> list[Reading | None]:
    """A unit that was admitted by each metric; while its phase warms up, by its rates alone."""
    readings = unit.readings(plan)
    if not settled.is_warming_up(unit, plan):
        return readings
    return [
        reading if metric.kind is MetricKind.BINARY else None
        for metric, reading in zip(metrics, readings, strict=True)
    ]


class Instruments:
    """The running tests of one rollout, made from its plan, for the time of one call."""

    def __init__(self, plan: Plan) -> None:
        strata = 0 if plan.strata is None else plan.strata.count
        self.tests = MetricTests(metrics_of(plan), plan.judge_alpha, plan.beta, strata)
        self.rollback = self.tests.rollback
        self.promote = self.tests.promote
        self.guard = self.tests.guard
        self.interval = DifferenceSequence(
            confidence=CONFIDENCE, prior_rate=plan.expected_failure_rate
        )
        self.intervals = RateIntervals(
            self.tests.metrics, OUTCOMES[plan.requires_feedback], CONFIDENCE
        )

    def restore(self, judge: Judge) -> None:
        """Go on from what the judge remembers."""
        self.rollback.restore(judge.rollback)
        self.promote.restore(judge.promote)
        self.guard.restore(judge.guard)
        self.interval.restore(judge.interval)
        self.intervals.restore(judge.intervals)

    def update(self, unit: Unit, plan: Plan, settled: Settled) -> None:
        """Take in a settled unit, and add it to what has settled."""
        metrics = self.tests.metrics
        readings = readings_of(unit, plan, metrics, settled)
        stratum = place_of(unit, plan)
        self.tests.update(unit.canary, unit.rho, readings, stratum)
        self.intervals.update(unit.canary, unit.rho, readings)
        y = unit.outcome(plan)
        if y is not None:
            self.interval.update(unit.canary, unit.rho, y)
            if plan.strata is not None:
                settled.strata.add(stratum, unit.canary, y)
        settled.figures.add(unit.canary, metrics, readings)
        settled.add(unit, y)


def new_judge(plan: Plan) -> Judge:
    """A judge that has seen nothing."""
    made = Instruments(plan)
    return Judge(
        rollback=made.rollback.state(),
        promote=made.promote.state(),
        guard=made.guard.state(),
        interval=made.interval.state(),
        intervals=made.intervals.kept(),
    )


def is_resumable(judge: Judge, plan: Plan) -> bool:
    """Whether the tests of this plan can go on from what the judge remembers.

    What another build kept may be of other tests, though it can be read.
    """
    try:
        Instruments(plan).restore(judge)
    except (ValueError, LookupError, TypeError):
        return False
    return True


def observe(
    judge: Judge, plan: Plan, observations: Sequence[Observation], watermark: float
) -> Judge:
    """Take in what has settled; the same judge when nothing has.

    `observations` are this rollout's requests after `judge.cursor`, in any order and with all their
    feedback so far; every request that started before `watermark` and all feedback given before it
    must be among them. Whoever reads page by page uses a `Gathering`.
    """
    gathering = Gathering(judge, plan, watermark)
    gathering.add(sorted(observations, key=lambda request: (request.started_at, request.id)))
    return gathering.settled()


def _settled(judge: Judge) -> Settled:
    return Settled(
        judge.champion, judge.canary, judge.phases, judge.rho, judge.figures, judge.strata
    )


class Gathering:
    """Requests from the judge's cursor to a watermark, taken in page by page.

    What it holds grows with the units in which they are gathered, of which a phase has at most
    `UNITS_PER_PHASE_MAX`, and not with the requests.
    """

    def __init__(self, judge: Judge, plan: Plan, watermark: float) -> None:
        self.watermark = watermark
        self.position = judge.cursor
        """Start time and id of the last request taken in: the next page begins after it."""
        self._judge = judge
        self._plan = plan
        self._known = _settled(judge)
        self._units: dict[tuple[int, int], Unit] = {}
        self._enrolled: Counter[int] = Counter()
        self._last = judge.cursor
        self._taken = 0

    def add(self, page: Sequence[Observation]) -> None:
        """Take in the requests that follow, ordered by start time and id."""
        for request in page:
            key = (request.started_at, request.id)
            if key <= self.position or request.started_at >= self.watermark:
                continue
            self.position = key
            if 0.0 < request.rho < 1.0:
                self._take_in(request)
                self._taken += 1
            # What was not assigned at random counts for nothing, and is not read again either.
            self._last = key

    def units(self) -> tuple[list[Unit], Settled]:
        """The units that have settled, in the order in which they are judged."""
        settled = _settled(self._judge)
        until = self.watermark - self._plan.settle_s
        due = [unit for unit in self._units.values() if unit.enrolled_at < until]
        return [unit for unit in due if settled.admit(unit)], settled

    def settled(self) -> Judge:
        """The judge after all that has settled, once everything before the watermark was added."""
        judge, plan, settled = self._judge, self._plan, _settled(self._judge)
        units = list(self._units.values())
        due = [unit for unit in units if unit.enrolled_at + plan.settle_s < self.watermark]
        admitted = [unit for unit in due if settled.admit(unit)]
        still_open = (unit for unit in units[len(due) :] if settled.admissible(unit))
        first_open = next(still_open, None)
        cursor = self._last if first_open is None else first_open.before
        taken = self._taken if first_open is None else first_open.taken_before
        if cursor == judge.cursor:
            return judge
        requests = judge.requests + taken
        if not admitted:
            return msgspec.structs.replace(judge, cursor=cursor, requests=requests)
        tests = Instruments(plan)
        tests.restore(judge)
        for unit in admitted:
            tests.update(unit, plan, settled)
        return Judge(
            rollback=tests.rollback.state(),
            promote=tests.promote.state(),
            guard=tests.guard.state(),
            interval=tests.interval.state(),
            intervals=tests.intervals.kept(),
            champion=convert(settled.arms[0], ArmCounts),
            canary=convert(settled.arms[1], ArmCounts),
            phases=settled.phase_units(),
            cursor=cursor,
            rho=settled.rho,
            requests=requests,
            first_at=judge.first_at if judge.units else admitted[0].enrolled_at,
            last_at=admitted[-1].enrolled_at,
            figures=settled.figures.kept(),
            strata=settled.strata.kept(),
        )

    def _take_in(self, request: Observation) -> None:
        digest = digest_of(request.unit)
        if digest in self._known.seen.get(request.phase, ()):
            return
        unit = self._units.get((request.phase, digest)) or self._enrol(request, digest)
        if unit is None:
            return
        until = unit.enrolled_at + self._plan.settle_s
        if request.started_at <= until:
            unit.add(request, self._plan.feedback, until)

    def _enrol(self, first: Observation, digest: int) -> Unit | None:
        """The unit that this request enrols, if it can come to be judged.

        All that enrolled before it in its phase settle before it: when they fill the phase, there
        is no room for it, and it need not be remembered.
        """
        gauges = gauges_of(self._plan.metrics)
        unit = Unit(first, digest, self._last, self._taken, gauges)
        if not self._known.admissible(unit, among=self._enrolled[unit.phase]):
            return None
        self._enrolled[unit.phase] += 1
        self._units[unit.phase, digest] = unit
        return unit
