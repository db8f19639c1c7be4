"""The strata of risk of a rollout: units of each that settled on each arm, and their failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.domain.strata import Strata


class StratumCounts(msgspec.Struct, frozen=True):
    """Units of one stratum that have the outcome by which the plan judges, and its sum, by arm."""

    champion: int = 0
    champion_failures: float = 0.0
    canary: int = 0
    canary_failures: float = 0.0


class Tally:
    """The counts of all strata, while units are added."""

    def __init__(self, kept: Sequence[StratumCounts]) -> None:
        self._units = [[one.champion, one.canary] for one in kept]
        self._failures = [[one.champion_failures, one.canary_failures] for one in kept]

    def add(self, stratum: int, canary: bool, y: float) -> None:
        """Take in a unit with its outcome."""
        while len(self._units) <= stratum:
            self._units.append([0, 0])
            self._failures.append([0.0, 0.0])
        self._units[stratum][canary] += 1
        self._failures[stratum][canary] += y

    def kept(self) -> tuple[StratumCounts, ...]:
        """To be remembered."""
        return tuple(
            StratumCounts(units[0], failures[0], units[1], failures[1])
            for units, failures in zip(self._units, self._failures, strict=True)
        )


def by_stratum(strata: Strata | None, counts: Sequence[StratumCounts]) -> list[dict[str, Any]]:
    """What is shown of each stratum that a unit was of, in JSON's types."""
    if strata is None:
        return []
    return [
        {
            "name": strata.name(place),
            "canary_units": one.canary,
            "canary_rate": _rate(one.canary_failures, one.canary),
            "champion_units": one.champion,
            "champion_rate": _rate(one.champion_failures, one.champion),
        }
        for place, one in enumerate(counts)
        if one.canary or one.champion
    ]


def suspected(name: str) -> str:
    """A stratum whose units are not on the arms as was logged, in words."""
    return f" in the stratum {name!r}: what tells strata apart must not depend on the release"


def _rate(failures: float, units: int) -> float | None:
    return failures / units if units else None
