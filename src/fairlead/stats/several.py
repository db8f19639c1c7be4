"""Several outcomes of the same units: worse in any of them, or not worse in all of them.

- *Worse in any*: the average of the outcomes' e-processes is one as well, whatever the outcomes
  have to do with each other (Vovk, Wang 2021, *E-values: calibration, combination and
  applications*). So the chance that the average ever reaches 1/alpha is at most alpha if the canary
  is worse in none. What counts is the highest average, not the average of what each was at its own
  best moment.
- *Not worse in all*: each outcome has to show it. If the canary is worse in one of them, that one
  shows it with probability beta at most, so no correction is needed.

The average may be weighted, with weights that were fixed beforehand. The e-processes are those of
`rae`, `slower`, `rare` and their like, in the order of the outcomes. A unit without an outcome of
some kind is no bet on that one: its evidence stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NotRequired, Protocol, TypedDict

from fairlead.stats.rae import LOOK_EVERY, RaeState, Rates
from fairlead.stats.risk import RiskRae
from fairlead.stats.slower import ValueState

Family = Literal["parts", "values", "rare"]
"""In which list of a state an e-process is kept: binary, of values, or two of rare events."""


class EProcess(Protocol):
    """What an e-process on one outcome of each unit offers."""

    @property
    def family(self) -> Family:
        """In which list of a state it is kept."""

    @property
    def units(self) -> int:
        """Units seen so far."""

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""

    @property
    def log_e_max(self) -> float:
        """The highest of its looks, and of now."""

    def update(self, canary: bool, rho: float, y: float) -> None:
        """Take in a unit."""

    def expected_more(
        self, canary_rate: float, champion_rate: float, rho: float, threshold: float
    ) -> float | None:
        """Units until E reaches `threshold` at these rates; None if it does not grow."""

    def state(self) -> Any:
        """Everything that `restore` needs."""

    def restore(self, state: Any) -> None:
        """Go on from a state."""


class AverageState(TypedDict):
    """What an average of binary e-processes has to remember, in JSON's types."""

    units: int
    log_e_max: float
    parts: list[RaeState]


class WorseState(AverageState):
    """What `WorseInAny` has to remember, in JSON's types; each kind in the order of outcomes."""

    values: NotRequired[list[ValueState]]
    rare: NotRequired[list[AverageState]]


class NotWorseState(TypedDict):
    """What `NotWorseInAll` has to remember, in JSON's types."""

    units: int
    parts: list[RaeState]
    values: NotRequired[list[ValueState]]


class WorseInAny:
    """Evidence against "the canary is worse in none of the outcomes"."""

    def __init__(self, parts: Sequence[EProcess], weights: Sequence[float] = ()) -> None:
        """`weights`: of the average, above 0; they need not sum to 1. Equal if not given."""
        given = tuple(weights) or (1.0,) * len(parts)
        if not parts or len(given) != len(parts) or min(given) <= 0.0:
            raise ValueError(f"{len(parts)} outcomes with weights {given}: each needs one above 0")
        self.parts = tuple(parts)
        self._shares = tuple(weight / sum(given) for weight in given)
        self._units = 0
        self._log_e_max = 0.0

    @property
    def units(self) -> int:
        """Units seen so far, of both arms."""
        return self._units

    @property
    def log_e(self) -> float:
        """Natural logarithm of the average evidence now."""
        logs = [part.log_e for part in self.parts]
        peak = max(logs)
        return peak + math.log(
            sum(share * math.exp(log - peak) for share, log in zip(self._shares, logs, strict=True))
        )

    @property
    def log_e_max(self) -> float:
        """The highest average of all looks and of now. The error guarantee is about this one."""
        return max(self._log_e_max, self.log_e)

    def update(
        self, canary: bool, rho: float, outcomes: Sequence[float | None], stratum: int = 0
    ) -> None:
        """Take in a unit: its arm, its probability of the canary arm, its outcomes.

        Args:
            stratum: Of risk, for the tests that tell strata apart.
        """
        _update(self.parts, canary, rho, outcomes, stratum)
        self._units += 1
        if self._units % LOOK_EVERY == 0:
            self._log_e_max = self.log_e_max

    def expected_more(
        self, rates: Sequence[Rates], rho: float, threshold: float, told: Sequence[float] = ()
    ) -> float | None:
        """Units until the average reaches `threshold` by one outcome alone; None if none grows.

        Args:
            rates: (canary, champion) of each outcome.
            told: Of each outcome, the share of all units that have it; without, that is all.
        """
        thresholds = [threshold / share for share in self._shares]
        guesses = _expected_more(self.parts, rates, rho, thresholds, told)
        return min((guess for guess in guesses if guess is not None), default=None)

    def state(self) -> WorseState:
        """Everything that `restore` needs to go on with identical results."""
        state = WorseState(
            units=self._units, log_e_max=self._log_e_max, parts=_kept(self.parts, "parts")
        )
        if values := _kept(self.parts, "values"):
            state["values"] = values
        if rare := _kept(self.parts, "rare"):
            state["rare"] = rare
        return state

    def restore(self, state: WorseState) -> None:
        """Go on from a state of as many outcomes."""
        _restore(self.parts, "parts", state["parts"])
        _restore(self.parts, "values", state.get("values", []))
        _restore(self.parts, "rare", state.get("rare", []))
        self._units = state["units"]
        self._log_e_max = state["log_e_max"]


class NotWorseInAll:
    """Evidence against "the canary is worse by the margin in at least one of the outcomes"."""

    def __init__(self, parts: Sequence[EProcess]) -> None:
        if not parts:
            raise ValueError("no outcomes")
        self.parts = tuple(parts)
        self._units = 0

    @property
    def log_e(self) -> float:
        """Natural logarithm of the least evidence now."""
        return min(part.log_e for part in self.parts)

    def update(self, canary: bool, rho: float, outcomes: Sequence[float | None]) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcomes."""
        _update(self.parts, canary, rho, outcomes)
        self._units += 1

    def expected_more(
        self, rates: Sequence[Rates], rho: float, threshold: float, told: Sequence[float] = ()
    ) -> float | None:
        """Units until the last outcome reaches `threshold`; None if one of them does not grow.

        Args:
            rates: (canary, champion) of each outcome.
            told: Of each outcome, the share of all units that have it; without, that is all.
        """
        thresholds = [threshold] * len(self.parts)
        guesses = _expected_more(self.parts, rates, rho, thresholds, told)
        known = [guess for guess in guesses if guess is not None]
        return max(known) if len(known) == len(guesses) else None

    def state(self) -> NotWorseState:
        """Everything that `restore` needs to go on with identical results."""
        state = NotWorseState(units=self._units, parts=_kept(self.parts, "parts"))
        if values := _kept(self.parts, "values"):
            state["values"] = values
        return state

    def restore(self, state: NotWorseState) -> None:
        """Go on from a state of as many outcomes."""
        _restore(self.parts, "parts", state["parts"])
        _restore(self.parts, "values", state.get("values", []))
        self._units = state["units"]


def _update(
    parts: Sequence[EProcess],
    canary: bool,
    rho: float,
    outcomes: Sequence[float | None],
    stratum: int = 0,
) -> None:
    for part, y in zip(parts, outcomes, strict=True):
        if y is None:
            continue
        if isinstance(part, RiskRae):
            part.update(canary, rho, y, stratum)
        else:
            part.update(canary, rho, y)


def _expected_more(
    parts: Sequence[EProcess],
    rates: Sequence[Rates],
    rho: float,
    thresholds: Sequence[float],
    told: Sequence[float],
) -> list[float | None]:
    """Units until each part by itself is at its threshold."""
    found: list[float | None] = []
    shares = told or (1.0,) * len(parts)
    for part, pair, threshold, share in zip(parts, rates, thresholds, shares, strict=True):
        guess = part.expected_more(pair[0], pair[1], rho, threshold)
        found.append(None if guess is None or share <= 0.0 else guess / share)
    return found


def _kept(parts: Sequence[EProcess], family: Family) -> list[Any]:
    return [part.state() for part in parts if part.family == family]


def _restore(parts: Sequence[EProcess], family: Family, kept: Sequence[Any]) -> None:
    for part, state in zip([p for p in parts if p.family == family], kept, strict=True):
        part.restore(state)
