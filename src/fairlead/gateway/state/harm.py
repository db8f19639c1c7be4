"""How many requests a drill may still be given, in this worker: it outlives snapshots.

A request counts when it is assigned, before anything of it is sent, so that no number of requests
at the same time can exceed the budget. A worker that dies takes its count with it; control ends a
drill by what is recorded.
"""

from __future__ import annotations


class HarmBudget:
    """What one drill may be given here."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class HarmBudgets:
    """The budgets of all drills that this worker has heard of: the last ones."""

    KEPT_MAX = 64

    def __init__(self) -> None:
        self._budgets: dict[str, HarmBudget] = {}

    def of(self, rollout: str, at_most: int) -> HarmBudget:
        """The budget of this drill, as far as it is used up."""
        budget = self._budgets.get(rollout)
        if budget is None:
            while len(self._budgets) >= self.KEPT_MAX:
                del self._budgets[next(iter(self._budgets))]
            budget = self._budgets[rollout] = HarmBudget(at_most)
        return budget
