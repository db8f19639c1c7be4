"""Whether one more question may be asked. Pure."""

from __future__ import annotations

import msgspec

from fairlead.evaluation.judge_model import Budget
from fairlead.store.rows import JudgeSpend

DAY_S = 86_400.0


class Stop(msgspec.Struct, frozen=True):
    """Why nothing more is asked; `is_final` if that is so for good."""

    why: str
    is_final: bool


def day_of(now: float) -> float:
    """When the day (UTC) of this moment began."""
    return now // DAY_S * DAY_S


def stop_of(
    budget: Budget, today: JudgeSpend, rollout: JudgeSpend, usd: float, questions: int
) -> Stop | None:
    """Whether the budget ends here, once `questions` more have been asked that cost up to `usd`.

    Args:
        today, rollout: What was spent on the service today, and on the rollout.
    """
    bounds = (
        (budget.usd_per_rollout, rollout.usd + usd, rollout.usd, "USD for this rollout", True),
        (budget.per_rollout, rollout.asked + questions, rollout.asked,
         "questions for this rollout", True),
        (budget.usd_per_day, today.usd + usd, today.usd, "USD for today", False),
        (budget.per_day, today.asked + questions, today.asked, "questions for today", False),
    )  # fmt: skip
    for limit, would_be, spent, what, is_final in bounds:
        if limit is not None and would_be > limit + 1e-12:
            used = f"{spent:,.4g}" if "USD" in what else f"{int(spent):,}"
            rest = "" if is_final else "; it goes on at midnight UTC"
            return Stop(f"judge's budget used up: {used} of {limit:,.10g} {what}{rest}", is_final)
    return None
