"""The judge: what the live requests say about the canary. Pure, exact, resumable.

A *unit* is what was assigned at random: a session, user or key, within one phase (one split). It is
enrolled by its first request; the requests that start within `settle_s` of that, and the feedback
on them that comes within the same time, make its outcomes:

- *failed*: the share of its requests that the server failed, or on which the feedback is bad;
- *unconfirmed*, where the plan names a feedback: the share of its requests without good feedback,
  be it that they failed or that nobody said anything. A canary whose users fall silent shows here.

The canary must be worse in neither. If the plan requires feedback, the failure rate that is shown
is the second (docs/decisions/0007-silence-is-an-outcome.md says why it is these two).

Later requests do not count, and a unit is judged once per phase, so that a user who comes back
again and again is one observation and not many.

Units settle in the order of their enrolment, once everything up to the end of their window is known
(the watermark). What the judge knows is therefore a function of the facts alone: any division into
batches, any delay and any crash in between give the same state, bit for bit. Units that have not
settled are not remembered; the caller gives everything after `Judge.cursor` again.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Sequence

import msgspec

from fairlead.rollout.plan import FeedbackRule, Plan
from fairlead.stats.intervals import DifferenceSequence, DifferenceState
from fairlead.stats.rae import BinaryRae, NonInferiorityRae
from fairlead.stats.ratio_guard import RatioGuard, RatioGuardState
from fairlead.stats.several import NotWorseInAll, NotWorseState, WorseInAny, WorseState

UNITS_PER_PHASE_MAX = 100_000
"""Units remembered as judged in one phase; further ones are not judged."""

PHASES_REMEMBERED = 2
OUTCOMES = ("failed", "unconfirmed")
"""The outcomes of a unit, in the order in which they are tested; the second with feedback only."""

CONFIDENCE = 0.95
UNCONFIRMED_PRIOR_UNITS = 20.0
"""What the expected failure rate is worth for the unconfirmed: how often clients say something is
not known beforehand."""

_SEEN_BYTES = 4


class Observation(msgspec.Struct, frozen=True, array_like=True):
    """One request under a split, with how it was assigned and what became of it.

    Attributes:
        unit: The unit by which it was assigned.
        canary: Whether the unit was assigned to the canary.
        rho: Probability of that assignment, as logged when it was made.
        failed_by_error: The server failed it (status 500 and above, or an error of ours); what the
            client caused (4xx, leaving early) is no failure.
        started_at: Unix time in seconds.
        feedback: (name, value, time) of each feedback on it.
    """

    id: str
    unit: str
    canary: bool
    rho: float
    phase: int
    failed_by_error: bool
    started_at: float
    feedback: tuple[tuple[str, float, float], ...] = ()


class ArmCounts(msgspec.Struct, frozen=True):
    """What has settled on one arm.

    Attributes:
        failures: Sum of the units' outcomes, *failed* or *unconfirmed*, by which the plan judges.
        failed, unconfirmed: Sum of each.
        requests, errors, feedback: Requests, those that failed by error, those with feedback.
        silent: Requests that were answered, and then nobody said anything.
        weight, weighted_failures: The same as units and failures, each unit weighted by the
            probability of the *other* arm, which makes the arms comparable across shares.
    """

    units: int = 0
    failures: float = 0.0
    failed: float = 0.0
    unconfirmed: float = 0.0
    requests: int = 0
    errors: int = 0
    feedback: int = 0
    silent: int = 0
    weight: float = 0.0
    weighted_failures: float = 0.0

    @property
    def rate(self) -> float | None:
        """Mean outcome; None without units."""
        return self.failures / self.units if self.units else None

    @property
    def silence(self) -> float:
        """Share of the requests that were answered, and then nobody said anything."""
        return self.silent / self.requests if self.requests else 0.0


class PhaseUnits(msgspec.Struct, frozen=True):
    """The units settled in one phase, and 4 bytes of each one's hash (none when long over)."""

    phase: int
    champion: int = 0
    canary: int = 0
    seen: bytes = b""


class Judge(msgspec.Struct, frozen=True):
    """All that is remembered of the requests seen.

    Attributes:
        cursor: Start time and id of the last request that need not be given again.
        rho: Assignment probability of the last unit.
        requests: All requests up to the cursor, also those of units that were judged before.
    """

    rollback: WorseState
    promote: NotWorseState
    guard: RatioGuardState
    interval: DifferenceState
    champion: ArmCounts = ArmCounts()
    canary: ArmCounts = ArmCounts()
    phases: tuple[PhaseUnits, ...] = ()
    cursor: tuple[float, str] = (0.0, "")
    rho: float = 0.5
    requests: int = 0

    @property
    def units(self) -> int:
        """Units settled, of both arms."""
        return self.champion.units + self.canary.units

    @property
    def distinct_units(self) -> int:
        """Sessions, users and keys in the phases that are remembered, each counted once."""
        return len({digest for units in self.phases for digest in _unpack(units.seen)})

    def canary_units(self, phase: int) -> int:
        """Canary units settled in this phase."""
        return sum(units.canary for units in self.phases if units.phase == phase)


class Instruments:
    """The running tests of one rollout, made from its plan, for the time of one call."""

    def __init__(self, plan: Plan) -> None:
        rate, worths = plan.expected_failure_rate, [plan.expected_units]
        if plan.feedback is not None:
            worths.append(min(plan.expected_units, UNCONFIRMED_PRIOR_UNITS))
        self.rollback = WorseInAny(
            [
                BinaryRae(tol=plan.tolerance, alpha=plan.alpha, prior_rate=rate, prior_units=worth)
                for worth in worths
            ]
        )
        self.promote = NotWorseInAll(
            [
                NonInferiorityRae(margin=plan.margin, prior_rate=rate, prior_units=worth)
                for worth in worths
            ]
        )
        self.guard = RatioGuard()
        self.interval = DifferenceSequence(confidence=CONFIDENCE, prior_rate=rate)

    def restore(self, judge: Judge) -> None:
        """Go on from what the judge remembers."""
        self.rollback.restore(judge.rollback)
        self.promote.restore(judge.promote)
        self.guard.restore(judge.guard)
        self.interval.restore(judge.interval)

    def update(self, unit: _Unit, plan: Plan) -> None:
        """Take in a settled unit."""
        outcomes = (unit.failed_share, unit.unconfirmed_share)[: len(self.rollback.parts)]
        self.rollback.update(unit.canary, unit.rho, outcomes)
        self.promote.update(unit.canary, unit.rho, outcomes)
        self.guard.update(unit.canary, unit.rho)
        self.interval.update(unit.canary, unit.rho, unit.outcome(plan))


class _Unit:
    """A unit while its requests are gathered.

    `before` is the request before its first, and `taken_before` the number of those before it.
    """

    __slots__ = ("before", "canary", "digest", "enrolled_at", "errors", "failed", "feedback",
                 "phase", "requests", "rho", "silent", "taken_before")  # fmt: skip

    def __init__(
        self, first: Observation, digest: int, before: tuple[float, str], taken_before: int
    ) -> None:
        self.before = before
        self.taken_before = taken_before
        self.enrolled_at = first.started_at
        self.phase = first.phase
        self.digest = digest
        self.canary = first.canary
        self.rho = first.rho
        self.requests = self.failed = self.errors = self.feedback = self.silent = 0

    def add(self, request: Observation, rule: FeedbackRule | None, until: float) -> None:
        said = None if rule is None else _last_feedback(request, rule.name, until)
        bad = rule is not None and said is not None and said < rule.good_at_least
        self.requests += 1
        self.errors += request.failed_by_error
        self.failed += request.failed_by_error or bad
        self.feedback += said is not None
        self.silent += rule is not None and said is None and not request.failed_by_error

    @property
    def failed_share(self) -> float:
        return self.failed / self.requests

    @property
    def unconfirmed_share(self) -> float:
        return (self.failed + self.silent) / self.requests

    def outcome(self, plan: Plan) -> float:
        """The outcome that the failure rate is made of."""
        return self.unconfirmed_share if plan.requires_feedback else self.failed_share


class _Settled:
    """The counts of all settled units, while units are added."""

    def __init__(self, judge: Judge) -> None:
        self.arms = [msgspec.structs.asdict(judge.champion), msgspec.structs.asdict(judge.canary)]
        self.phases = {units.phase: [units.champion, units.canary] for units in judge.phases}
        self.seen = {units.phase: _unpack(units.seen) for units in judge.phases}
        self.rho = judge.rho

    def admit(self, unit: _Unit) -> bool:
        """Count the unit as seen; False when it is not to be judged."""
        if not self.admissible(unit):
            return False
        self.seen.setdefault(unit.phase, {})[unit.digest] = None
        self.phases.setdefault(unit.phase, [0, 0])[unit.canary] += 1
        return True

    def admissible(self, unit: _Unit, *, among: int = 0) -> bool:
        """Whether it is new in its phase, and the phase neither forgotten nor full.

        `among` further units of the phase are to settle before it.
        """
        if self.phases and unit.phase <= max(self.phases) - PHASES_REMEMBERED:
            return False
        seen = self.seen.get(unit.phase, {})
        return unit.digest not in seen and len(seen) + among < UNITS_PER_PHASE_MAX

    def add(self, unit: _Unit, y: float) -> None:
        arm = self.arms[unit.canary]
        weight = 1 - unit.rho if unit.canary else unit.rho
        arm["units"] += 1
        arm["failures"] += y
        arm["failed"] += unit.failed_share
        arm["unconfirmed"] += unit.unconfirmed_share
        arm["requests"] += unit.requests
        arm["errors"] += unit.errors
        arm["feedback"] += unit.feedback
        arm["silent"] += unit.silent
        arm["weight"] += weight
        arm["weighted_failures"] += weight * y
        self.rho = unit.rho

    def phase_units(self) -> tuple[PhaseUnits, ...]:
        known = max(self.phases, default=0) - PHASES_REMEMBERED
        return tuple(
            PhaseUnits(phase, champion, canary, _pack(self.seen[phase]) if phase > known else b"")
            for phase, (champion, canary) in sorted(self.phases.items())
        )


def new_judge(plan: Plan) -> Judge:
    """A judge that has seen nothing."""
    made = Instruments(plan)
    return Judge(
        rollback=made.rollback.state(),
        promote=made.promote.state(),
        guard=made.guard.state(),
        interval=made.interval.state(),
    )


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
        self._known = _Settled(judge)
        self._units: dict[tuple[int, int], _Unit] = {}
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
                self._last = key
                self._taken += 1

    def settled(self) -> Judge:
        """The judge after all that has settled, once everything before the watermark was added."""
        judge, plan, settled = self._judge, self._plan, _Settled(self._judge)
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
            tests.update(unit, plan)
            settled.add(unit, unit.outcome(plan))
        return Judge(
            rollback=tests.rollback.state(),
            promote=tests.promote.state(),
            guard=tests.guard.state(),
            interval=tests.interval.state(),
            champion=msgspec.convert(settled.arms[0], ArmCounts),
            canary=msgspec.convert(settled.arms[1], ArmCounts),
            phases=settled.phase_units(),
            cursor=cursor,
            rho=settled.rho,
            requests=requests,
        )

    def _take_in(self, request: Observation) -> None:
        digest = _digest(request.unit)
        if digest in self._known.seen.get(request.phase, ()):
            return
        unit = self._units.get((request.phase, digest)) or self._enrol(request, digest)
        if unit is None:
            return
        until = unit.enrolled_at + self._plan.settle_s
        if request.started_at <= until:
            unit.add(request, self._plan.feedback, until)

    def _enrol(self, first: Observation, digest: int) -> _Unit | None:
        """The unit that this request enrols, if it can come to be judged.

        All that enrolled before it in its phase settle before it: when they fill the phase, there
        is no room for it, and it need not be remembered.
        """
        unit = _Unit(first, digest, self._last, self._taken)
        if not self._known.admissible(unit, among=self._enrolled[unit.phase]):
            return None
        self._enrolled[unit.phase] += 1
        self._units[unit.phase, digest] = unit
        return unit


def _last_feedback(request: Observation, name: str, until: float) -> float | None:
    given = [(at, value) for said, value, at in request.feedback if said == name and at <= until]
    return max(given)[1] if given else None


def _digest(unit: str) -> int:
    hashed = hashlib.blake2b(unit.encode(), digest_size=_SEEN_BYTES).digest()
    return int.from_bytes(hashed, "little")


def _pack(seen: dict[int, None]) -> bytes:
    return struct.pack(f"<{len(seen)}I", *seen)


def _unpack(seen: bytes) -> dict[int, None]:
    return dict.fromkeys(struct.unpack(f"<{len(seen) // _SEEN_BYTES}I", seen))
