"""Rare events with an absolute budget: "the canary's rate is at most `limit`".

For what must hardly ever happen (a leak, a harmful answer) comparing with the champion is slow: it
shows nothing either. An absolute budget, a service level or twice what the champion is known for,
is a null hypothesis of its own: on the canary's units alone, a failure multiplies the evidence by
c / limit and a success by (1 - c) / (1 - limit), for alternatives c above the limit. The mean is at
most 1 while the canary's rate is within the budget, whatever the champion does.

Averaged with the comparison (`WorseInAny`) it is "worse than the champion, or over the budget".
Note what follows: a canary equal to a champion that is itself over the budget is rolled back.
"""

from __future__ import annotations

from typing import Literal

from fairlead.stats.bets import Bet, BetTable
from fairlead.stats.rae import BinaryRae
from fairlead.stats.several import AverageState, WorseInAny

_LIMIT_MAX = 0.5


class BudgetRae(BinaryRae):
    """Evidence against "the canary fails at most `limit` of its units"."""

    def __init__(self, *, limit: float, alpha: float) -> None:
        """`limit`: the budget, a rate in (0, 0.5]; it must not be taken from what is judged."""
        if not 0.0 < limit <= _LIMIT_MAX:
            raise ValueError(f"limit={limit} must be above 0 and at most {_LIMIT_MAX:g}")
        self._limit = limit
        super().__init__(tol=0.0, alpha=alpha, prior_rate=limit)

    @property
    def limit(self) -> float:
        """The budget."""
        return self._limit

    def _set_rate(self, rate: float) -> None:
        """The limit is fixed: no rate is estimated."""
        super()._set_rate(self._limit)

    def _table(self, rho: float) -> BetTable:
        """One table for all shares: the champion's units are not bet on."""
        known = self._tables.get(0.0)
        if known is None:
            limit = self._limit
            known = self._tables[0.0] = BetTable(
                [Bet(c / limit, (1 - c) / (1 - limit), 1.0, 1.0) for c, _ in self._pairs]
            )
        return known


class RareRae:
    """Evidence against "not worse than the champion, and within the budget": the average of both.

    A test on one outcome, as the two that it is made of are.
    """

    family: Literal["rare"] = "rare"

    def __init__(self, comparison: BinaryRae, budget: BudgetRae) -> None:
        self._both = WorseInAny([comparison, budget])

    @property
    def units(self) -> int:
        """Units seen so far, of both arms."""
        return self._both.parts[0].units

    @property
    def log_e(self) -> float:
        """Natural logarithm of the evidence now."""
        return self._both.log_e

    @property
    def log_e_max(self) -> float:
        """The highest of all looks and of now."""
        return self._both.log_e_max

    def update(self, canary: bool, rho: float, y: float) -> None:
        """Take in a unit: its arm, its probability of the canary arm, and its outcome in [0, 1]."""
        self._both.update(canary, rho, (y, y))

    def expected_more(
        self, canary_rate: float, champion_rate: float, rho: float, threshold: float
    ) -> float | None:
        """Units until the average reaches `threshold` by one of both; None if none grows."""
        return self._both.expected_more([(canary_rate, champion_rate)] * 2, rho, threshold)

    def state(self) -> AverageState:
        """Everything that `restore` needs to go on with identical results."""
        return self._both.state()

    def restore(self, state: AverageState) -> None:
        """Go on from a state."""
        self._both.restore(
            {"units": state["units"], "log_e_max": state["log_e_max"], "parts": state["parts"]}
        )
