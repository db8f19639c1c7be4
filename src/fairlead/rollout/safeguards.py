"""What takes a rollout back whatever else it waits for: evidence, guards, replicas, deadlines."""

from __future__ import annotations

import msgspec

from fairlead.domain.verdicts import RolloutOutcome, RolloutVerdict
from fairlead.rollout.drill import spent
from fairlead.rollout.endings import Ending
from fairlead.rollout.figures import SILENCE_MAX
from fairlead.rollout.model import Facts, Rollout
from fairlead.rollout.moves import give_up, go
from fairlead.rollout.standing import stopped
from fairlead.rollout.states import State
from fairlead.rollout.telling import lacking

UNJUDGED_FROM = 0.9
"""With fewer of the units judged, a judge model that is behind is why there is no verdict."""


def keep_safe(rollout: Rollout, facts: Facts) -> Rollout:
    """Back, if the canary is worse, a guard is crossed, the split is wrong or replicas fail."""
    kept = keep_replicas(rollout, facts)
    verdict, end = rollout.verdict, stopped(rollout)
    if kept is rollout and end is not None:
        return go(rollout, State.ROLLING_BACK, facts.now, end[1], ending=end[0])
    if kept is not rollout or rollout.phase == 0 or verdict is None or rollout.champion is None:
        return kept
    if verdict.outcome is RolloutOutcome.ROLL_BACK:
        return go(rollout, State.ROLLING_BACK, facts.now, verdict.reason, ending=Ending.WORSE)
    if verdict.outcome is RolloutOutcome.INVALID:
        why = f"invalid: {verdict.reason}"
        return go(rollout, State.ROLLING_BACK, facts.now, why, ending=Ending.INVALID_SPLIT)
    nothing = spent(rollout)
    if nothing is not None:
        return go(rollout, State.ROLLING_BACK, facts.now, nothing, ending=Ending.DRILL_SPENT)
    return rollout


def keep_replicas(rollout: Rollout, facts: Facts) -> Rollout:
    """Given up, if its replicas fail."""
    return rollout if facts.candidate_failed is None else replicas_failed(rollout, facts)


def replicas_failed(rollout: Rollout, facts: Facts) -> Rollout:
    """Given up, since its replicas fail."""
    why = f"its replicas fail: {facts.candidate_failed}"
    return give_up(rollout, facts.now, why, Ending.REPLICAS_FAILED)


def wait_for_replicas(rollout: Rollout, facts: Facts, wanted: int) -> Rollout:
    """Given up, if they are not ready for too long."""
    if not is_late(rollout, facts.now, rollout.plan.ready_s):
        return rollout
    why = (
        f"{facts.candidate_ready} of {wanted} replicas were ready within {rollout.plan.ready_s:g} s"
    )
    return give_up(rollout, facts.now, why, Ending.REPLICAS_NEVER_READY)


def wait_for_workers(rollout: Rollout, facts: Facts) -> Rollout:
    """Given up, if gateway workers do not take its split over for too long."""
    if not is_late(rollout, facts.now, rollout.plan.gateway_s):
        return rollout
    why = f"the gateway workers did not take over the split within {rollout.plan.gateway_s:g} s"
    return give_up(rollout, facts.now, why, Ending.GATEWAY_UNREACHABLE)


def is_late(rollout: Rollout, now: float, limit_s: float) -> bool:
    """Whether it has been in its state for so long, the time of holds left out."""
    return rollout.held_at is None and now - rollout.entered_at >= limit_s


def keep_deadline(rollout: Rollout, facts: Facts, missing: str) -> Rollout:
    """Back as inconclusive, if the plan's time is over."""
    if rollout.held_at is not None or rollout.traffic_since is None:
        return rollout
    used = facts.now - rollout.traffic_since - rollout.paused_s
    if used < rollout.plan.deadline_s:
        return rollout
    missing = f"waits for {facts.awaited}" if facts.awaited else missing
    why = f"no verdict within {rollout.plan.deadline_s:g} s: {missing}"
    return end_without_verdict(rollout, facts, why, _without_verdict(rollout, facts.awaited))


def end_without_verdict(rollout: Rollout, facts: Facts, why: str, ending: Ending) -> Rollout:
    """Back to the champion, as inconclusive."""
    why = f"inconclusive: {why}"
    numbers = {} if rollout.verdict is None else rollout.verdict.numbers
    verdict = RolloutVerdict(RolloutOutcome.INCONCLUSIVE, why, numbers)
    ended = msgspec.structs.replace(rollout, verdict=verdict)
    return go(ended, State.ROLLING_BACK, facts.now, why, ending=ending)


def _without_verdict(rollout: Rollout, awaited: str) -> Ending:
    """What was missing for a verdict."""
    judge, seen = rollout.judge, rollout.early or rollout.judge
    if awaited and judge.units < UNJUDGED_FROM * seen.units:
        return Ending.JUDGE_UNREACHABLE
    if seen.requests == 0:
        return Ending.NO_TRAFFIC
    silence = max(judge.canary.silence, judge.champion.silence)
    if rollout.plan.requires_feedback and judge.canary.units and silence > SILENCE_MAX:
        return Ending.NO_FEEDBACK
    if judge.canary.units and judge.champion.units and lacking(judge, rollout.plan) is not None:
        return Ending.NO_DATA
    return Ending.INCONCLUSIVE
