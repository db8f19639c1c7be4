"""Whether one more question may be asked. Pure."""

from __future__ import annotations

import msgspec

from fairlead.evaluation.judge_model import Budget
from fairlead.monitoring.live_judging import JudgeSample
from fairlead.store.rows import JudgeSpend

DAY_S = 86_400.0
HEADWAY = 1.0 / 24.0
"""Of a day's cap, what may be spent ahead."""


class Stop(msgspec.Struct, frozen=True):
    """Why nothing more is asked.

    Attributes:
        is_final: That is so for good.
        is_paced: The next question follows by and by: what may be spent is spread over the day.
    """

    why: str
    is_final: bool
    is_paced: bool = False


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


def live_stop_of(
    budget: Budget,
    sample: JudgeSample,
    spent: tuple[JudgeSpend, JudgeSpend],
    usd: float,
    questions: int,
    now: float,
) -> Stop | None:
    """The same for live traffic: within the judge's budget of the day, and evenly within its own.

    Of its own caps the part is open that has passed of the day, and an hour's part more.

    Args:
        spent: What was spent today on live traffic outside rollouts, and on the service in all.
        now: Unix time.
    """
    mine, today = spent
    of_day = msgspec.structs.replace(budget, per_rollout=None, usd_per_rollout=None)
    stop = stop_of(of_day, today, JudgeSpend(), usd, questions)
    if stop is not None:
        return stop
    open_part = min(1.0, (now - day_of(now)) / DAY_S + HEADWAY)
    bounds = (
        (sample.per_day, mine.asked + questions, "questions"),
        (sample.usd_per_day, mine.usd + usd, "USD"),
    )
    for limit, would_be, what in bounds:
        if limit is not None and would_be > limit * open_part + 1e-12:
            why = f"its {limit:,.10g} {what} a day are spread over the day"
            return Stop(why, is_final=False, is_paced=True)
    return None
