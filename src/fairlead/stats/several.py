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
some kind is no bet on that one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

from fairlead.stats.rae import LOOK_EVERY, RaeState, Rates


class EProcess(Protocol):
    """What an e-process on one outcome of each unit offers."""

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


class WorseState(TypedDict):
    """What `WorseInAny` has to remember, in JSON's types."""

    units: int
    log_e_max: float
    parts: list[RaeState]


class NotWorseState(TypedDict):
    """What `NotWorseInAll` has to remember, in JSON's types."""

    units: int
    parts: list[RaeState]


class WorseInAny:
    """Evidence against "the canary is worse in none of the outcomes"."""

    def __init__(self, parts: Sequence[EProcess], weights: Sequence[float] = ()) -> None:
        """`weights`: of the average, above 0; they need not sum to 1. Equal if not given."""
        given = tuple(weights) or (1.0,) * len(parts)
        if not parts or len(given) != len(parts) or min(given) <= 0.0:
            raise ValueError(f"{len(parts)} outcomes with weights {given}: each needs one above 0")
        self.parts = tuple(parts)
        self._shares = tuple(weight / sum(given) for weight in given)
        self._log_e_max = 0.0

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

    def update(self, canary: bool, rho: float, outcomes: Sequence[float | None]) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcomes."""
        for part, y in zip(self.parts, outcomes, strict=True):
            if y is not None:
                part.update(canary, rho, y)
        if self.parts[0].units % LOOK_EVERY == 0:
            self._log_e_max = self.log_e_max

    def expected_more(self, rates: Sequence[Rates], rho: float, threshold: float) -> float | None:
        """Units until the average reaches `threshold` by one outcome alone; None if none grows.

        `rates` are (canary, champion) of each outcome.
        """
        guesses = [
            part.expected_more(canary, champion, rho, threshold / share)
            for part, share, (canary, champion) in zip(self.parts, self._shares, rates, strict=True)
        ]
        return min((guess for guess in guesses if guess is not None), default=None)

    def state(self) -> WorseState:
        """Everything that `restore` needs to go on with identical results."""
        return WorseState(
            units=self.parts[0].units,
            log_e_max=self._log_e_max,
            parts=[part.state() for part in self.parts],
        )

    def restore(self, state: WorseState) -> None:
        """Go on from a state of as many outcomes."""
        for part, kept in zip(self.parts, state["parts"], strict=True):
            part.restore(kept)
        self._log_e_max = state["log_e_max"]


class NotWorseInAll:
    """Evidence against "the canary is worse by the margin in at least one of the outcomes"."""

    def __init__(self, parts: Sequence[EProcess]) -> None:
        self.parts = tuple(parts)

    @property
    def log_e(self) -> float:
        """Natural logarithm of the least evidence now."""
        return min(part.log_e for part in self.parts)

    def update(self, canary: bool, rho: float, outcomes: Sequence[float | None]) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcomes."""
        for part, y in zip(self.parts, outcomes, strict=True):
            if y is not None:
                part.update(canary, rho, y)

    def expected_more(self, rates: Sequence[Rates], rho: float, threshold: float) -> float | None:
        """Units until the last outcome reaches `threshold`; None if one of them does not grow.

        `rates` are (canary, champion) of each outcome.
        """
        most = 0.0
        for part, (canary, champion) in zip(self.parts, rates, strict=True):
            guess = part.expected_more(canary, champion, rho, threshold)
            if guess is None:
                return None
            most = max(most, guess)
        return most

    def state(self) -> NotWorseState:
        """Everything that `restore` needs to go on with identical results."""
        return NotWorseState(units=self.parts[0].units, parts=[part.state() for part in self.parts])

    def restore(self, state: NotWorseState) -> None:
        """Go on from a state of as many outcomes."""
        for part, kept in zip(self.parts, state["parts"], strict=True):
            part.restore(kept)
