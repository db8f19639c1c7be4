"""Units while their requests are gathered, and the counts of those that have settled."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import msgspec

from fairlead.rollout.figures import Figures, MetricFigures
from fairlead.rollout.gauges import Gauge
from fairlead.rollout.metrics import Reading
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import FeedbackRule, Plan
from fairlead.rollout.strata import StratumCounts, Tally

UNITS_PER_PHASE_MAX = 100_000
"""Units remembered as judged in one phase; further ones are not judged."""

PHASES_REMEMBERED = 2
_SEEN_BYTES = 4


class ArmCounts(msgspec.Struct, frozen=True):
    """What has settled on one arm.

    Attributes:
        failures: Sum of the units' outcomes, *failed* or *unconfirmed*, by which the plan judges.
        failed, unconfirmed: Sum of each.
        requests, errors, feedback: Requests, those that failed by error, those with feedback.
        silent: Requests that were answered, and then nobody said anything.
        unsampled: Units without the outcome by which the plan judges.
        outside: Units that are not in the sample on which feedback is given; where feedback is not
            required, they have that outcome all the same.
        sampled_requests: Requests in that sample; without one, 0.
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
    unsampled: int = 0
    sampled_requests: int = 0
    outside: int = 0

    @property
    def in_sample(self) -> int:
        """Units on which feedback is given: all, or those of the sample.

        Older counts have those outside only where feedback is required, as `unsampled`.
        """
        return self.units - max(self.outside, self.unsampled)

    @property
    def judged(self) -> int:
        """Units that have the outcome by which the plan judges."""
        return self.units - self.unsampled

    @property
    def rate(self) -> float | None:
        """Mean outcome; None without units."""
        return self.failures / self.judged if self.judged else None

    @property
    def silence(self) -> float:
        """Share of the requests that were answered, and then nobody said anything."""
        asked = self.sampled_requests or self.requests
        return self.silent / asked if asked else 0.0


class PhaseUnits(msgspec.Struct, frozen=True):
    """The units settled in one phase, and 4 bytes of each one's hash (none when long over).

    `begun_at` is when its first unit was enrolled, Unix time in seconds.
    """

    phase: int
    champion: int = 0
    canary: int = 0
    seen: bytes = b""
    begun_at: float = 0.0


class Unit:
    """A unit while its requests are gathered.

    `before` is the request before its first, and `taken_before` the number of those before it. Its
    stratum is that of its first request: later ones may depend on what it was answered.
    """

    __slots__ = ("before", "canary", "digest", "enrolled_at", "errors", "failed", "feedback",
                 "gauges", "phase", "requests", "rho", "sampled", "silent", "stratum",
                 "taken_before", "unconfirmed")  # fmt: skip

    def __init__(
        self,
        first: Observation,
        digest: int,
        before: tuple[float, str],
        taken_before: int,
        gauges: tuple[Gauge, ...] = (),
    ) -> None:
        self.gauges = gauges
        self.before = before
        self.taken_before = taken_before
        self.enrolled_at = first.started_at
        self.phase = first.phase
        self.digest = digest
        self.canary = first.canary
        self.rho = first.rho
        self.stratum = first.stratum
        self.requests = self.failed = self.errors = self.feedback = self.silent = 0
        self.unconfirmed = 0
        self.sampled: int | None = None

    def add(self, request: Observation, rule: FeedbackRule | None, until: float) -> None:
        said = None if rule is None else request.said(rule.name, until)
        is_sampled = True
        if rule is not None and rule.sampled:
            # Whether a unit is in the sample is what was chosen with its first request.
            is_sampled = self.sampled != 0 and request.sampled
            self.sampled = (self.sampled or 0) + is_sampled
        if not is_sampled:
            rule = said = None
        bad = rule is not None and said is not None and said < rule.good_at_least
        self.requests += 1
        self.errors += request.failed_by_error
        self.failed += request.failed_by_error or bad
        self.feedback += said is not None
        silent = rule is not None and said is None and not request.failed_by_error
        self.silent += silent
        self.unconfirmed += is_sampled and (request.failed_by_error or bad or silent)
        for gauge in self.gauges:
            gauge.add(request, until)

    @property
    def failed_share(self) -> float:
        return self.failed / self.requests

    @property
    def unconfirmed_share(self) -> float | None:
        """Of its requests in the sample; None if it is not in it."""
        if self.sampled == 0:
            return None
        return self.unconfirmed / (self.sampled or self.requests)

    def readings(self, plan: Plan) -> list[Reading | None]:
        """The unit by each test, in the order of `judge.metrics_of`."""
        shares: list[float | None] = [self.failed_share]
        if plan.feedback is not None:
            shares.append(self.unconfirmed_share)
        own = [None if share is None else Reading(share, share) for share in shares]
        return own + [reading for gauge in self.gauges for reading in gauge.readings()]

    def outcome(self, plan: Plan) -> float | None:
        """The outcome that the failure rate is made of; None for a unit without it."""
        return self.unconfirmed_share if plan.requires_feedback else self.failed_share


class Settled:
    """The counts of all settled units, while units are added."""

    def __init__(
        self,
        champion: ArmCounts,
        canary: ArmCounts,
        phases: Sequence[PhaseUnits],
        rho: float,
        figures: Sequence[MetricFigures] = (),
        strata: Sequence[StratumCounts] = (),
    ) -> None:
        self.figures = Figures(figures)
        self.strata = Tally(strata)
        self.arms = [msgspec.structs.asdict(champion), msgspec.structs.asdict(canary)]
        self.phases = {units.phase: [units.champion, units.canary] for units in phases}
        self.seen = {units.phase: unpack(units.seen) for units in phases}
        self._begun = {units.phase: units.begun_at for units in phases}
        self.rho = rho

    def admit(self, unit: Unit) -> bool:
        """Count the unit as seen; False when it is not to be judged."""
        if not self.admissible(unit):
            return False
        self.seen.setdefault(unit.phase, {})[unit.digest] = None
        self.phases.setdefault(unit.phase, [0, 0])[unit.canary] += 1
        # Units settle in the order of their enrolment: the first one settled was the first of all.
        self._begun.setdefault(unit.phase, unit.enrolled_at)
        return True

    def is_warming_up(self, unit: Unit, plan: Plan) -> bool:
        """Whether its phase had only just begun when it was enrolled."""
        return unit.enrolled_at < self._begun[unit.phase] + plan.warm_up_s

    def admissible(self, unit: Unit, *, among: int = 0) -> bool:
        """Whether it is new in its phase, and the phase neither forgotten nor full.

        `among` further units of the phase are to settle before it.
        """
        if self.phases and unit.phase <= max(self.phases) - PHASES_REMEMBERED:
            return False
        seen = self.seen.get(unit.phase, {})
        return unit.digest not in seen and len(seen) + among < UNITS_PER_PHASE_MAX

    def add(self, unit: Unit, y: float | None) -> None:
        arm = self.arms[unit.canary]
        weight = 1 - unit.rho if unit.canary else unit.rho
        if y is None:
            y, weight = 0.0, 0.0
            arm["unsampled"] += 1
        arm["units"] += 1
        arm["outside"] += unit.sampled == 0
        arm["failures"] += y
        arm["failed"] += unit.failed_share
        arm["unconfirmed"] += unit.unconfirmed_share or 0.0
        arm["sampled_requests"] += unit.sampled or 0
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
            PhaseUnits(
                phase,
                champion,
                canary,
                pack(self.seen[phase]) if phase > known else b"",
                self._begun[phase],
            )
            for phase, (champion, canary) in sorted(self.phases.items())
        )


def digest_of(unit: str) -> int:
    hashed = hashlib.blake2b(unit.encode(), digest_size=_SEEN_BYTES).digest()
    return int.from_bytes(hashed, "little")


def pack(seen: dict[int, None]) -> bytes:
    return struct.pack(f"<{len(seen)}I", *seen)


def unpack(seen: bytes) -> dict[int, None]:
    return dict.fromkeys(struct.unpack(f"<{len(seen) // _SEEN_BYTES}I", seen))
