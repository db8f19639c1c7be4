"""Recorded observations, gathered by unit, to be judged (`replay`).

Units come in the order of their enrolment, each once, with one outcome per metric: the first that
settled in time. An outcome that is missing or late is the worst there is, on both arms alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.strata import UNKNOWN_NAME
from fairlead.rollout.metrics import Metric, Missing, Reading
from fairlead.rollout.plan import OUTCOMES

UNITS_MAX = 5_000_000


class ReplayedObservation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One outcome of one unit by one metric.

    Attributes:
        unit: What was assigned at random: a request, a session, a user.
        arm: `canary` or `champion`.
        rho: Probability of the canary arm, as logged when the unit was assigned.
        value: None where none was recorded.
        worst: The value with what failed counted as the worst; `value` itself where not given.
        lacks: Most of what it is made of is missing.
        stratum: The unit's stratum of risk, as it was known before the unit was assigned; None for
            one of which it is not known.
        enrolled_at, settled_at: Seconds, on one clock: of the assignment, of the value.
        requests, silent, told: Where feedback is required: of how many of the unit's requests, and
            how many of these were answered without any, and have some.
    """

    unit: str
    arm: str
    rho: float
    metric: str
    value: float | bool | None
    enrolled_at: float
    settled_at: float | None = None
    worst: float | None = None
    lacks: bool = False
    stratum: str | None = None
    requests: int = 0
    silent: int = 0
    told: int = 0


class Silence(NamedTuple):
    """Requests of which feedback is required: how many, without any, with some."""

    requests: int = 0
    silent: int = 0
    told: int = 0


class RecordedUnit(NamedTuple):
    """A unit as it is judged; its readings are in the order of the metrics."""

    canary: bool
    rho: float
    readings: list[Reading | None]
    stratum: int
    silence: Silence


class _Unit:
    __slots__ = ("canary", "enrolled_at", "rho", "silence", "stratum", "values")

    def __init__(self, first: ReplayedObservation, metrics: int, stratum: int) -> None:
        self.stratum = stratum
        self.canary = first.arm == "canary"
        self.rho = first.rho
        self.enrolled_at = first.enrolled_at
        self.silence = Silence()
        self.values: list[tuple[float, Reading] | None] = [None] * metrics


class Recording:
    """Observations gathered by unit; raises InvalidInput for what contradicts itself."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        settle_s: float = math.inf,
        strata: Sequence[str] | None = (),
    ) -> None:
        """`strata`: the names of the strata of risk, in their order; none to tell none apart.

        None where that is not said, though a rollout may have told some apart.
        """
        self.metrics = tuple(metrics)
        self._is_untold = strata is None
        self._strata = {name: place for place, name in enumerate(strata or ())}
        if len(self._strata) < len(strata or ()):
            raise InvalidInput("two strata have the same name")
        self.settle_s = settle_s
        self.duplicates = 0
        self.late = 0
        self._index = {metric.name: k for k, metric in enumerate(metrics)}
        if len(self._index) < len(self.metrics):
            raise InvalidInput("two metrics have the same name")
        self._units: dict[str, _Unit] = {}

    def add(self, seen: ReplayedObservation) -> None:
        """Take in an observation, in any order."""
        place = self._index.get(seen.metric)
        if place is None:
            raise InvalidInput(
                f"metric {seen.metric!r} is not declared",
                hint=f"declared are: {', '.join(self._index)}",
            )
        self._check(seen, self.metrics[place])
        stratum = self._stratum(seen)
        unit = self._units.get(seen.unit)
        if unit is None:
            if len(self._units) >= UNITS_MAX:
                raise InvalidInput(f"more than {UNITS_MAX:,} units")
            unit = self._units[seen.unit] = _Unit(seen, len(self.metrics), stratum)
        elif (unit.canary, unit.rho, unit.stratum) != (seen.arm == "canary", seen.rho, stratum):
            raise InvalidInput(
                f"unit {seen.unit!r} is on two arms or in two strata, or was assigned with two "
                "probabilities",
                hint="a unit is judged once; give it another name where it is assigned anew",
            )
        unit.enrolled_at = min(unit.enrolled_at, seen.enrolled_at)
        _hear(unit, seen)
        reading = _reading(seen)
        if reading.worst is None and self.metrics[place].missing is Missing.WORST:
            return
        settled = seen.enrolled_at if seen.settled_at is None else seen.settled_at
        known = unit.values[place]
        self.duplicates += known is not None
        if known is None or settled < known[0]:
            unit.values[place] = settled, reading

    def stratum_name(self, place: int) -> str:
        """A stratum in words."""
        names = [*self._strata, UNKNOWN_NAME]
        return names[place]

    @property
    def strata(self) -> int:
        """How many strata there are, with the one of units of which it is not known; 0 for none."""
        return len(self._strata) + 1 if self._strata else 0

    @property
    def assumed(self) -> list[str]:
        """What is taken to be so, since the recording does not say it."""
        if self._is_untold:
            said = ["it names no strata of risk, and none is told apart: all units are as one"]
            if OUTCOMES[1] in self._index:
                said.append("it does not say how much feedback was required, and none is")
            return said
        unknown = sum(unit.stratum == len(self._strata) for unit in self._units.values())
        if not self._strata or not unknown:
            return []
        return [
            f"{unknown:,} of {len(self._units):,} units have no stratum, and are one of their own"
        ]

    def units(self) -> Iterable[RecordedUnit]:
        """Each unit, in the order of enrolment."""
        for _, unit in sorted(self._units.items(), key=lambda item: (item[1].enrolled_at, item[0])):
            readings: list[Reading | None] = []
            for metric, kept in zip(self.metrics, unit.values, strict=True):
                in_time = kept is not None and kept[0] <= unit.enrolled_at + self.settle_s
                self.late += kept is not None and not in_time
                nothing = Reading(None, None) if metric.missing is Missing.WORST else None
                readings.append(kept[1] if kept is not None and in_time else nothing)
            yield RecordedUnit(unit.canary, unit.rho, readings, unit.stratum, unit.silence)

    def _stratum(self, seen: ReplayedObservation) -> int:
        """Its place among the strata; the last one where it is not known."""
        if seen.stratum is None:
            return len(self._strata)
        place = self._strata.get(seen.stratum)
        if place is None:
            raise InvalidInput(
                f"stratum {seen.stratum!r} is not declared",
                hint=f"declared are: {', '.join(self._strata) or 'none'} (`strata` of the metrics)",
            )
        return place

    def _check(self, seen: ReplayedObservation, metric: Metric) -> None:
        if seen.arm not in ("canary", "champion"):
            raise InvalidInput(f"arm {seen.arm!r} is neither canary nor champion")
        if not 0.0 < seen.rho < 1.0:
            raise InvalidInput(f"rho {seen.rho:g} is not above 0 and below 1")
        for value in (seen.value, seen.worst):
            if value is not None and not metric.accepts(float(value)):
                raise InvalidInput(f"value {value} is none of the {metric.kind} {metric.name!r}")
        times = (seen.enrolled_at, seen.settled_at or 0.0)
        if not all(math.isfinite(time) for time in times):
            raise InvalidInput("enrolled_at and settled_at must be finite")
        if min(seen.silent, seen.told) < 0 or seen.silent + seen.told > seen.requests:
            raise InvalidInput(
                f"silent {seen.silent} and told {seen.told} are not of {seen.requests} requests"
            )


def _hear(unit: _Unit, seen: ReplayedObservation) -> None:
    """How many of its requests have the feedback that is required, if a line says it."""
    if not seen.requests:
        return
    silence = Silence(seen.requests, seen.silent, seen.told)
    if unit.silence.requests and unit.silence != silence:
        raise InvalidInput(f"unit {seen.unit!r} has two counts of requests with feedback")
    unit.silence = silence


def _reading(seen: ReplayedObservation) -> Reading:
    value = None if seen.value is None else float(seen.value)
    return Reading(value, value if seen.worst is None else seen.worst, seen.lacks)
