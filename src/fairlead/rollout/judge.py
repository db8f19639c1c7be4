"""The judge: what the live requests say about the canary. Pure, exact, resumable.

A *unit* is what was assigned at random: a session, user or key, within one phase (one split). It is
enrolled by its first request; the requests that start within `settle_s` of that, and the feedback
on them that comes within the same time, make its outcome: the share of its requests that failed.
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
from collections.abc import Sequence

import msgspec

from fairlead.rollout.plan import FeedbackRule, Plan
from fairlead.stats.intervals import DifferenceSequence, DifferenceState
from fairlead.stats.rae import BinaryRae, NonInferiorityRae, RaeState
from fairlead.stats.ratio_guard import RatioGuard, RatioGuardState

UNITS_PER_PHASE_MAX = 100_000
"""Units remembered as judged in one phase; further ones are not judged."""

PHASES_REMEMBERED = 2
CONFIDENCE = 0.95
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
        failures: Sum of the units' outcomes.
        requests, errors, feedback: Requests, those that failed by error, those with feedback.
        weight, weighted_failures: The same as units and failures, each unit weighted by the
            probability of the *other* arm, which makes the arms comparable across shares.
    """

    units: int = 0
    failures: float = 0.0
    requests: int = 0
    errors: int = 0
    feedback: int = 0
    weight: float = 0.0
    weighted_failures: float = 0.0

    @property
    def rate(self) -> float | None:
        """Mean outcome; None without units."""
        return self.failures / self.units if self.units else None


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
    """

    rollback: RaeState
    promote: RaeState
    guard: RatioGuardState
    interval: DifferenceState
    champion: ArmCounts = ArmCounts()
    canary: ArmCounts = ArmCounts()
    phases: tuple[PhaseUnits, ...] = ()
    cursor: tuple[float, str] = (0.0, "")
    rho: float = 0.5

    def canary_units(self, phase: int) -> int:
        """Canary units settled in this phase."""
        return sum(units.canary for units in self.phases if units.phase == phase)


class Instruments:
    """The running tests of one rollout, made from its plan, for the time of one call."""

    def __init__(self, plan: Plan) -> None:
        rate, worth = plan.expected_failure_rate, plan.expected_units
        self.rollback = BinaryRae(
            tol=plan.tolerance, alpha=plan.alpha, prior_rate=rate, prior_units=worth
        )
        self.promote = NonInferiorityRae(margin=plan.margin, prior_rate=rate, prior_units=worth)
        self.guard = RatioGuard()
        self.interval = DifferenceSequence(confidence=CONFIDENCE, prior_rate=rate)

    def restore(self, judge: Judge) -> None:
        """Go on from what the judge remembers."""
        self.rollback.restore(judge.rollback)
        self.promote.restore(judge.promote)
        self.guard.restore(judge.guard)
        self.interval.restore(judge.interval)

    def update(self, canary: bool, rho: float, y: float) -> None:
        """Take in a settled unit."""
        self.rollback.update(canary, rho, y)
        self.promote.update(canary, rho, y)
        self.guard.update(canary, rho)
        self.interval.update(canary, rho, y)


class _Unit:
    """A unit while its requests are gathered."""

    __slots__ = ("canary", "digest", "enrolled_at", "errors", "failed", "feedback", "key", "phase",
                 "requests", "rho")  # fmt: skip

    def __init__(self, first: Observation, digest: int) -> None:
        self.key = (first.started_at, first.id)
        self.enrolled_at = first.started_at
        self.phase = first.phase
        self.digest = digest
        self.canary = first.canary
        self.rho = first.rho
        self.requests = self.failed = self.errors = self.feedback = 0

    def add(self, request: Observation, rule: FeedbackRule | None, until: float) -> None:
        said = None if rule is None else _last_feedback(request, rule.name, until)
        bad = rule is not None and said is not None and said < rule.good_at_least
        self.requests += 1
        self.errors += request.failed_by_error
        self.failed += request.failed_by_error or bad
        self.feedback += said is not None


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

    def admissible(self, unit: _Unit) -> bool:
        """Whether it is new in its phase, and the phase neither forgotten nor full."""
        if self.phases and unit.phase <= max(self.phases) - PHASES_REMEMBERED:
            return False
        seen = self.seen.get(unit.phase, {})
        return unit.digest not in seen and len(seen) < UNITS_PER_PHASE_MAX

    def add(self, unit: _Unit, y: float) -> None:
        arm = self.arms[unit.canary]
        weight = 1 - unit.rho if unit.canary else unit.rho
        arm["units"] += 1
        arm["failures"] += y
        arm["requests"] += unit.requests
        arm["errors"] += unit.errors
        arm["feedback"] += unit.feedback
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
    must be among them. A caller that reads page by page therefore reads on until the watermark: a
    part of a window is not enough to settle it.
    """
    new = sorted(
        (
            request
            for request in observations
            if request.started_at < watermark
            and (request.started_at, request.id) > judge.cursor
            and 0.0 < request.rho < 1.0
        ),
        key=lambda request: (request.started_at, request.id),
    )
    if not new:
        return judge
    settled = _Settled(judge)
    units = _gather(new, settled, plan)
    due = [unit for unit in units if unit.enrolled_at + plan.settle_s < watermark]
    admitted = [unit for unit in due if settled.admit(unit)]
    still_open = [unit.key for unit in units[len(due) :] if settled.admissible(unit)]
    keys = [(request.started_at, request.id) for request in new]
    consumed = [key for key in keys if key < still_open[0]] if still_open else keys
    if not consumed:
        return judge
    cursor = consumed[-1]
    if not admitted:
        return msgspec.structs.replace(judge, cursor=cursor)
    tests = Instruments(plan)
    tests.restore(judge)
    for unit in admitted:
        y = unit.failed / unit.requests
        tests.update(unit.canary, unit.rho, y)
        settled.add(unit, y)
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
    )


def _gather(requests: Sequence[Observation], settled: _Settled, plan: Plan) -> list[_Unit]:
    """The units that these requests enrol, in order, with the requests in their windows."""
    units: dict[tuple[int, int], _Unit] = {}
    before = ""
    for request in requests:
        if request.id == before:
            continue
        before = request.id
        digest = _digest(request.unit)
        if digest in settled.seen.get(request.phase, ()):
            continue
        unit = units.get((request.phase, digest))
        if unit is None:
            unit = units[request.phase, digest] = _Unit(request, digest)
        until = unit.enrolled_at + plan.settle_s
        if request.started_at <= until:
            unit.add(request, plan.feedback, until)
    return list(units.values())


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
