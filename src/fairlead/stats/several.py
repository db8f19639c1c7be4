"""Several outcomes of the same units: worse in any of them, or not worse in all of them.

- *Worse in any*: the average of the outcomes' e-processes is one as well, whatever the outcomes
  have to do with each other (Vovk, Wang 2021, *E-values: calibration, combination and
  applications*). So the chance that the average ever reaches 1/alpha is at most alpha if the canary
  is worse in none. What counts is the highest average, not the average of what each was at its own
  best moment.
- *Not worse in all*: each outcome has to show it. If the canary is worse in one of them, that one
  shows it with probability beta at most, so no correction is needed.

The e-processes are those of `fairlead.stats.rae`, one for each outcome, in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from fairlead.stats.rae import BinaryRae, NonInferiorityRae, RaeState, Rates


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

    def __init__(self, parts: Sequence[BinaryRae]) -> None:
        self.parts = tuple(parts)
        self._log_e_max = 0.0

    @property
    def log_e(self) -> float:
        """Natural logarithm of the average evidence now."""
        peak = max(part.log_e for part in self.parts)
        total = sum(math.exp(part.log_e - peak) for part in self.parts)
        return peak + math.log(total / len(self.parts))

    @property
    def log_e_max(self) -> float:
        """The highest value so far of the average. The error guarantee is about this one."""
        return self._log_e_max

    def update(self, canary: bool, rho: float, outcomes: Sequence[float]) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcomes."""
        for part, y in zip(self.parts, outcomes, strict=True):
            part.update(canary, rho, y)
        self._log_e_max = max(self._log_e_max, self.log_e)

    def expected_more(self, rates: Sequence[Rates], rho: float, threshold: float) -> float | None:
        """Units until the average reaches `threshold` by one outcome alone; None if none grows.

        `rates` are (canary, champion) of each outcome.
        """
        alone = threshold * len(self.parts)
        guesses = [
            part.expected_more(canary, champion, rho, alone)
            for part, (canary, champion) in zip(self.parts, rates, strict=True)
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

    def __init__(self, parts: Sequence[NonInferiorityRae]) -> None:
        self.parts = tuple(parts)

    @property
    def log_e(self) -> float:
        """Natural logarithm of the least evidence now."""
        return min(part.log_e for part in self.parts)

    def update(self, canary: bool, rho: float, outcomes: Sequence[float]) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcomes."""
        for part, y in zip(self.parts, outcomes, strict=True):
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
