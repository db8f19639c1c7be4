"""The early judge: what can be said of a canary before a judge model has spoken. Pure.

The judge waits for the judge model, so that when it speaks has no effect on what it sees. A judge
model that is away would hold up the verdict on plain errors as well. So there is a second judge
where one is waited for: it sees the same requests without what is said of samples, as soon as they
are recorded, and can end a rollout but never promote. `alpha` is divided between the two.
"""

from __future__ import annotations

import msgspec

from fairlead.domain.verdicts import RolloutOutcome, RolloutVerdict
from fairlead.rollout.assessment import assess
from fairlead.rollout.judge import Judge, new_judge
from fairlead.rollout.plan import Plan

ENDS = (RolloutOutcome.ROLL_BACK, RolloutOutcome.INVALID)
"""What takes the place of every other verdict."""

_SHOWN = ("e_rollback", "threshold_rollback", "requests_seen")


def early_judge(judge: Judge | None, plan: Plan) -> Judge | None:
    """The early judge as it was kept, or one that has seen nothing; None where there is none."""
    early = plan.early
    return None if early is None else judge or new_judge(early)


def assess_both(judge: Judge, early: Judge | None, plan: Plan) -> RolloutVerdict:
    """The judge's verdict, or the early judge's where that alone ends the rollout.

    The numbers are those of the judge that decided; what the other one knows is under `early`.
    """
    verdict, ahead = assess(judge, plan), plan.early
    if early is None or ahead is None:
        return verdict
    found = assess(early, ahead)
    shown = {"early": {name: found.numbers[name] for name in _SHOWN}}
    if verdict.outcome in ENDS or found.outcome not in ENDS:
        return msgspec.structs.replace(verdict, numbers=verdict.numbers | shown)
    return RolloutVerdict(
        found.outcome,
        f"before the judge model has spoken: {found.reason}",
        found.numbers | shown | {"decided_early": True},
    )
