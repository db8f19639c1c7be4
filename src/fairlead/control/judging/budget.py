"""Whether one more question may be asked. Pure."""

from __future__ import annotations

import math

import msgspec

from fairlead.evaluation.judge_model import Budget
from fairlead.monitoring.live_judging import JudgeSample
from fairlead.store.rows import JudgeSpend

DAY_S = 86_400.0
HEADWAY = 1.0 / 24.0
"""Of a day's cap, what may be spent ahead."""
LIVE_PART = 0.5
"""Of a judge's budget of the day, what live traffic may use: the rest is left to rollouts."""


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
    now: float,
) -> Stop | None:
    """The same for live traffic: within the judge's budget of the day, and evenly within its own.

    Its own caps are those that are declared of it, and at the most `LIVE_PART` of the judge's. Of
    them the part is open that has passed of the day, and an hour's part more. What one question
    costs has no part in when it is asked, but for the last of the day: a long answer would wait for
    longer than a short one, and be too old more often.

    Args:
        spent: What was spent today on live traffic outside rollouts, and on the service in all.
        usd: What the next question costs at the most.
        now: Unix time.
    """
    mine, today = spent
    of_day = msgspec.structs.replace(budget, per_rollout=None, usd_per_rollout=None)
    stop = stop_of(of_day, today, JudgeSpend(), usd, 1)
    if stop is not None:
        return stop
    open_part = min(1.0, (now - day_of(now)) / DAY_S + HEADWAY)
    per_day = _least(sample.per_day, budget.per_day)
    usd_per_day = _least(sample.usd_per_day, budget.usd_per_day)
    if per_day is not None and mine.asked + 1 > per_day * open_part + 1e-12:
        return _paced(f"{per_day:,.10g} questions")
    if usd_per_day is not None:
        is_open = mine.usd < usd_per_day * open_part and mine.usd + usd <= usd_per_day + 1e-12
        return None if is_open else _paced(f"{usd_per_day:,.10g} USD")
    return None


def _least(own: float | None, of_judge: float | None) -> float | None:
    """The cap of live traffic, of what is declared of it and of its judge."""
    if of_judge is None:
        return own
    return min(LIVE_PART * of_judge, math.inf if own is None else own)


def _paced(what: str) -> Stop:
    return Stop(f"its {what} a day are spread over the day", is_final=False, is_paced=True)
