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


def worst_of(shown: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Of `by_stratum`, where the canary has most failures beyond the champion's rate; else None.

    For the eye: which stratum the evidence comes from is not tested by itself.
    """
    if len(shown) < 2:
        return None
    compared = [one for one in shown if one["canary_units"] and one["champion_units"]]
    most = max(compared, key=_excess, default=None)
    return most if most is not None and _excess(most) > 0.0 else None


def told(one: dict[str, Any]) -> str:
    """A stratum in words."""
    canary, champion = (
        f"{100 * one[f'{arm}_rate']:.1f} % of {one[f'{arm}_units']:,}"
        if one[f"{arm}_units"]
        else "no"
        for arm in ("canary", "champion")
    )
    return f"{one['name']!r}: canary {canary} units, champion {champion}"


def _excess(one: dict[str, Any]) -> float:
    return float(one["canary_units"] * (one["canary_rate"] - one["champion_rate"]))


def _rate(failures: float, units: int) -> float | None:
    return failures / units if units else None
