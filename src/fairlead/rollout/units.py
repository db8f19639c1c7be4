"""Units while their requests are gathered, and the counts of those that have settled."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import msgspec

from fairlead.rollout.plan import FeedbackRule, Plan

UNITS_PER_PHASE_MAX = 100_000
"""Units remembered as judged in one phase; further ones are not judged."""

PHASES_REMEMBERED = 2
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


class Unit:
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


class Settled:
    """The counts of all settled units, while units are added."""

    def __init__(
        self, champion: ArmCounts, canary: ArmCounts, phases: Sequence[PhaseUnits], rho: float
    ) -> None:
        self.arms = [msgspec.structs.asdict(champion), msgspec.structs.asdict(canary)]
        self.phases = {units.phase: [units.champion, units.canary] for units in phases}
        self.seen = {units.phase: unpack(units.seen) for units in phases}
        self.rho = rho

    def admit(self, unit: Unit) -> bool:
        """Count the unit as seen; False when it is not to be judged."""
        if not self.admissible(unit):
            return False
        self.seen.setdefault(unit.phase, {})[unit.digest] = None
        self.phases.setdefault(unit.phase, [0, 0])[unit.canary] += 1
        return True

    def admissible(self, unit: Unit, *, among: int = 0) -> bool:
        """Whether it is new in its phase, and the phase neither forgotten nor full.

        `among` further units of the phase are to settle before it.
        """
        if self.phases and unit.phase <= max(self.phases) - PHASES_REMEMBERED:
            return False
        seen = self.seen.get(unit.phase, {})
        return unit.digest not in seen and len(seen) + among < UNITS_PER_PHASE_MAX

    def add(self, unit: Unit, y: float) -> None:
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
            PhaseUnits(phase, champion, canary, pack(self.seen[phase]) if phase > known else b"")
            for phase, (champion, canary) in sorted(self.phases.items())
        )


def _last_feedback(request: Observation, name: str, until: float) -> float | None:
    given = [(at, value) for said, value, at in request.feedback if said == name and at <= until]
    return max(given)[1] if given else None


def digest_of(unit: str) -> int:
    hashed = hashlib.blake2b(unit.encode(), digest_size=_SEEN_BYTES).digest()
    return int.from_bytes(hashed, "little")


def pack(seen: dict[int, None]) -> bytes:
    return struct.pack(f"<{len(seen)}I", *seen)


def unpack(seen: bytes) -> dict[int, None]:
    return dict.fromkeys(struct.unpack(f"<{len(seen) // _SEEN_BYTES}I", seen))
