"""Recorded observations, gathered by unit, to be judged (`replay`).

Units come in the order of their enrolment, each once, with one outcome per metric: the first that
settled in time. An outcome that is missing or late is the worst there is, on both arms alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.strata import UNKNOWN_NAME
from fairlead.rollout.metrics import Metric, Missing, Reading

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


class _Unit:
    __slots__ = ("canary", "enrolled_at", "rho", "stratum", "values")

    def __init__(self, first: ReplayedObservation, metrics: int, stratum: int) -> None:
        self.stratum = stratum
        self.canary = first.arm == "canary"
        self.rho = first.rho
        self.enrolled_at = first.enrolled_at
        self.values: list[tuple[float, Reading] | None] = [None] * metrics


class Recording:
    """Observations gathered by unit; raises InvalidInput for what contradicts itself."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        settle_s: float = math.inf,
        strata: Sequence[str] = (),
    ) -> None:
        """`strata`: the names of the strata of risk, in their order; none to tell none apart."""
        self.metrics = tuple(metrics)
        self._strata = {name: place for place, name in enumerate(strata)}
        if len(self._strata) < len(strata):
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

    def units(self) -> Iterable[tuple[bool, float, list[Reading | None], int]]:
        """(canary, rho, readings, stratum) of each unit, in the order of enrolment."""
        for _, unit in sorted(self._units.items(), key=lambda item: (item[1].enrolled_at, item[0])):
            readings: list[Reading | None] = []
            for metric, kept in zip(self.metrics, unit.values, strict=True):
                in_time = kept is not None and kept[0] <= unit.enrolled_at + self.settle_s
                self.late += kept is not None and not in_time
                nothing = Reading(None, None) if metric.missing is Missing.WORST else None
                readings.append(kept[1] if kept is not None and in_time else nothing)
            yield unit.canary, unit.rho, readings, unit.stratum

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


def _reading(seen: ReplayedObservation) -> Reading:
    value = None if seen.value is None else float(seen.value)
    return Reading(value, value if seen.worst is None else seen.worst, seen.lacks)
