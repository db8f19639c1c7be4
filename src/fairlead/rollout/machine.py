"""Moves a rollout through the states of `fairlead.rollout.states`, whose head has the rules."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fairlead.domain.errors import Conflict, FairleadError
from fairlead.domain.verdicts import GateOutcome, RolloutOutcome, RolloutVerdict
from fairlead.rollout.assessment import assess, crowding_of
from fairlead.rollout.judge import Judge
from fairlead.rollout.model import Command, Desired, Facts, Rollout, Transition, new_rollout
from fairlead.rollout.plan import Plan, Step
from fairlead.rollout.states import TRANSITIONS, State

__all__ = [
    "Command",
    "Desired",
    "Facts",
    "Rollout",
    "advance",
    "check_command",
    "desired",
    "is_terminal",
    "new_rollout",
    "outcome",
]

PAUSES_HISTORY_MAX = 200
PROMOTED_BY = "promoted by "
"""How the reason of a promotion by hand begins."""
_LOOPS_MAX = 20

_PAUSABLE = (
    State.EVALUATING,
    State.STARTING,
    State.SHADOWING,
    State.SHIFTING,
    State.JUDGING,
    State.PROMOTING,
)
_ENDING = (RolloutOutcome.ROLL_BACK, RolloutOutcome.INVALID)
"""What takes the place of the verdict by which a rollout is being promoted."""
_OBSERVED = (State.SHIFTING, State.JUDGING, State.PROMOTING)


def is_terminal(rollout: Rollout) -> bool:
    """Whether it has ended."""
    return not TRANSITIONS[rollout.state]


def outcome(rollout: Rollout) -> str:
    """How it ended (the name of its last state), or `running`."""
    return rollout.state.value if is_terminal(rollout) else "running"


def desired(rollout: Rollout) -> Desired:
    """What the rollout wants in its present state."""
    share, canary, champion = _split(rollout)
    shadow = rollout.plan.shadow if rollout.state is State.SHADOWING else None
    return Desired(
        share=share,
        canary=canary,
        champion=champion,
        phase=rollout.phase,
        salt=rollout.salt,
        candidate_replicas=_replicas(rollout),
        run_gates=rollout.state is State.EVALUATING and rollout.gates > 0,
        shadow=rollout.release if shadow is not None else None,
        shadow_share=shadow.share if shadow is not None else 0.0,
    )


def _split(rollout: Rollout) -> tuple[float, str | None, str | None]:
    if rollout.state in (State.SWITCHING, State.PROMOTED):
        return 0.0, None, rollout.release
    has_share = rollout.state in (State.SHIFTING, State.JUDGING) or (
        rollout.state is State.PROMOTING and rollout.phase > 0
    )
    if has_share:
        return rollout.plan.steps[rollout.step].share, rollout.release, rollout.champion
    return 0.0, None, rollout.champion


def _replicas(rollout: Rollout) -> int:
    if rollout.state in (State.PROMOTING, State.SWITCHING):
        return _full_replicas(rollout.plan)
    if rollout.state is State.PROMOTED:
        return rollout.plan.champion_replicas
    return 0 if is_terminal(rollout) else rollout.plan.canary_replicas


def _full_replicas(plan: Plan) -> int:
    return max(plan.champion_replicas, plan.canary_replicas)


def advance(rollout: Rollout, facts: Facts) -> Rollout:
    """The rollout after these facts; the same object when they change nothing.

    Raises Conflict when the command makes no sense in its state; nothing else has happened then.
    """
    if facts.command is not None:
        check_command(rollout, facts.command)
    current = _observe(rollout, facts)
    if facts.command is not None:
        current = _obey(current, facts.command, facts)
    for _ in range(_LOOPS_MAX):
        rule = _RULES.get(current.state)
        after = current if rule is None else rule(current, facts)
        if after is current:
            return current
        current = after
    raise _impossible(current, "it does not come to rest")


def check_command(rollout: Rollout, command: Command) -> None:
    """Raises Conflict when the rollout cannot obey this command in its state."""
    state = rollout.state
    if is_terminal(rollout):
        raise Conflict(
            f"rollout {rollout.id} has ended: {state}", hint="ship the release again to retry"
        )
    if command in (Command.PAUSE, Command.RESUME) and state not in _PAUSABLE:
        raise Conflict(f"rollout {rollout.id} is {state} and cannot be held any more")
    if command is Command.PAUSE and len(rollout.history) >= PAUSES_HISTORY_MAX:
        raise Conflict(
            f"rollout {rollout.id} was paused too often", hint="abort it, and ship again later"
        )
    if command is Command.PROMOTE and rollout.gates_only:
        raise Conflict(f"rollout {rollout.id} only evaluates its gates; nothing is promoted")
    if command is Command.PROMOTE and state in (State.EVALUATING, State.ROLLING_BACK):
        raise Conflict(
            f"rollout {rollout.id} is {state} and cannot be promoted",
            hint="a release has to pass its gates first" if state is State.EVALUATING else None,
        )


def _observe(rollout: Rollout, facts: Facts) -> Rollout:
    if rollout.state is State.SHADOWING and facts.shadowed not in (None, rollout.shadowed):
        return msgspec.structs.replace(rollout, shadowed=facts.shadowed)
    if rollout.state not in _OBSERVED or rollout.phase == 0:
        return rollout
    judge = facts.judge
    if judge is None or judge == rollout.judge:
        return rollout
    found = assess(judge, rollout.plan)
    is_decided = rollout.state is State.PROMOTING and found.outcome not in _ENDING
    verdict = rollout.verdict if is_decided else found
    return msgspec.structs.replace(rollout, judge=judge, verdict=verdict)


def _obey(rollout: Rollout, command: Command, facts: Facts) -> Rollout:
    by = f" by {facts.by}" if facts.by else " by hand"
    match command:
        case Command.PAUSE:
            if rollout.paused:
                return rollout
            paused = msgspec.structs.replace(rollout, paused_at=facts.now)
            return _note(paused, facts.now, f"paused{by}")
        case Command.RESUME:
            return _resumed(rollout, facts.now, f"resumed{by}")
        case Command.PROMOTE:
            if rollout.state in (State.PROMOTING, State.SWITCHING):
                return _resumed(rollout, facts.now, f"resumed{by}")
            resumed = _resumed(rollout, facts.now, f"resumed{by}")
            return _go(resumed, State.PROMOTING, facts.now, f"{PROMOTED_BY}{facts.by or 'hand'}")
        case Command.ABORT:
            if rollout.state is State.ROLLING_BACK:
                return rollout
            return _give_up(rollout, facts.now, facts.why or f"aborted{by}", State.ABORTED)


def _resumed(rollout: Rollout, now: float, why: str) -> Rollout:
    if rollout.paused_at is None:
        return rollout
    held = now - max(rollout.paused_at, rollout.traffic_since or now)
    resumed = msgspec.structs.replace(
        rollout, paused_at=None, paused_s=rollout.paused_s + max(0.0, held)
    )
    if rollout.state is State.SHADOWING:
        # Its time is counted from here, as if it had begun later by the length of the pause.
        resumed = msgspec.structs.replace(
            resumed, entered_at=rollout.entered_at + max(0.0, now - rollout.paused_at)
        )
    return _note(resumed, now, why)


def _evaluating(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return _replicas_failed(rollout, facts)
    verdicts = facts.gate_verdicts if rollout.gates else ()
    if verdicts is None or len(verdicts) < rollout.gates:
        return rollout
    judged = msgspec.structs.replace(rollout, gate_verdicts=verdicts)
    for verdict in verdicts:
        if verdict.outcome is not GateOutcome.PASS:
            why = f"gate {verdict.gate}: {verdict.outcome.value}: {verdict.reason}"
            return _go(judged, State.GATE_FAILED, facts.now, why)
    why = f"passed all {rollout.gates} gates" if rollout.gates else "no gates to pass"
    return _go(judged, State.GATES_PASSED if rollout.gates_only else State.STARTING, facts.now, why)


def _starting(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return _replicas_failed(rollout, facts)
    if rollout.paused or facts.candidate_ready < rollout.plan.canary_replicas:
        return rollout
    if rollout.champion is None:
        return _go(rollout, State.PROMOTING, facts.now, "first release")
    if rollout.plan.shadow is not None:
        why = f"copies of {rollout.plan.shadow.share:.0%} of the requests"
        return _go(rollout, State.SHADOWING, facts.now, why)
    return _first_step(rollout, facts)


def _first_step(rollout: Rollout, facts: Facts) -> Rollout:
    if not rollout.plan.steps:
        why = rollout.why or "the plan has no canary steps"
        return _go(rollout, State.PROMOTING, facts.now, why)
    return _shift(rollout, 0, facts.now)


def _shadowing(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return _replicas_failed(rollout, facts)
    rule, seen = rollout.plan.shadow, rollout.shadowed
    if rule is None:
        raise _impossible(rollout, "it has no shadow in its plan")
    # Once there are too many for the least number of copies, more of them decide nothing.
    if seen.failed > rule.failures_at_most * max(seen.copies, rule.requests):
        why = (
            f"shadow: {seen.failed:,} of {seen.copies:,} copies failed where the live request did "
            f"not; at most {rule.failures_at_most:.1%} may"
        )
        return _go(rollout, State.FAILED, facts.now, why)
    if rollout.paused:
        return rollout
    lasted = facts.now - rollout.entered_at
    if seen.copies >= rule.requests and lasted >= rule.seconds:
        return _first_step(rollout, facts)
    if lasted >= rollout.plan.deadline_s:
        why = (
            f"shadow: inconclusive: {seen.copies:,} of {rule.requests:,} copies have an outcome "
            f"after {rollout.plan.deadline_s:g} s"
        )
        return _go(rollout, State.FAILED, facts.now, why)
    return rollout


def _shifting(rollout: Rollout, facts: Facts) -> Rollout:
    safe = _keep_safe(rollout, facts)
    if safe is not rollout:
        return safe
    if facts.workers_phase == rollout.phase:
        begun = msgspec.structs.replace(rollout, step_started_at=facts.now)
        return _go(begun, State.JUDGING, facts.now, "all gateway workers run on the split")
    return _keep_deadline(rollout, facts, "the gateway workers did not take over the split")


def _judging(rollout: Rollout, facts: Facts) -> Rollout:
    safe = _keep_safe(rollout, facts)
    if safe is not rollout or rollout.paused:
        return safe
    missing = _missing(rollout, facts)
    last = rollout.step == len(rollout.plan.steps) - 1
    verdict = rollout.verdict
    if last and missing is None and verdict is not None:
        if verdict.outcome is RolloutOutcome.PROMOTE:
            return _go(rollout, State.PROMOTING, facts.now, verdict.reason)
        missing = verdict.reason
    late = _keep_deadline(rollout, facts, missing or "its steps were not finished")
    if late is not rollout or last or missing is not None:
        return late
    return _shift(rollout, rollout.step + 1, facts.now)


def _promoting(rollout: Rollout, facts: Facts) -> Rollout:
    safe = _keep_safe(rollout, facts)
    if safe is not rollout or rollout.paused:
        return safe
    wanted = _full_replicas(rollout.plan)
    if facts.candidate_ready < wanted:
        return rollout
    return _go(rollout, State.SWITCHING, facts.now, f"{wanted} replicas ready for all traffic")


def _switching(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.candidate_failed is not None:
        return _replicas_failed(rollout, facts)
    if facts.workers_phase != rollout.phase:
        return rollout
    why = "" if rollout.promotion is None else rollout.promotion.why
    return _go(rollout, State.PROMOTED, facts.now, why)


def _rolling_back(rollout: Rollout, facts: Facts) -> Rollout:
    if facts.workers_phase != rollout.phase:
        return rollout
    return _go(rollout, State.ROLLED_BACK, facts.now, rollout.reason)


_RULES: dict[State, Callable[[Rollout, Facts], Rollout]] = {
    State.EVALUATING: _evaluating,
    State.STARTING: _starting,
    State.SHADOWING: _shadowing,
    State.SHIFTING: _shifting,
    State.JUDGING: _judging,
    State.PROMOTING: _promoting,
    State.SWITCHING: _switching,
    State.ROLLING_BACK: _rolling_back,
}


def _keep_safe(rollout: Rollout, facts: Facts) -> Rollout:
    """Back, if the canary is worse, the split is not as logged, or its replicas fail."""
    if facts.candidate_failed is not None:
        return _replicas_failed(rollout, facts)
    verdict = rollout.verdict
    if rollout.phase == 0 or verdict is None:
        return rollout
    if verdict.outcome is RolloutOutcome.ROLL_BACK:
        return _go(rollout, State.ROLLING_BACK, facts.now, verdict.reason)
    if verdict.outcome is RolloutOutcome.INVALID:
        return _go(rollout, State.ROLLING_BACK, facts.now, f"invalid: {verdict.reason}")
    return rollout


def _keep_deadline(rollout: Rollout, facts: Facts, missing: str) -> Rollout:
    """Back as inconclusive, if the plan's time is over."""
    if rollout.paused or rollout.traffic_since is None:
        return rollout
    used = facts.now - rollout.traffic_since - rollout.paused_s
    if used < rollout.plan.deadline_s:
        return rollout
    why = f"inconclusive: no verdict within {rollout.plan.deadline_s:g} s: {missing}"
    numbers = {} if rollout.verdict is None else rollout.verdict.numbers
    verdict = RolloutVerdict(RolloutOutcome.INCONCLUSIVE, why, numbers)
    ended = msgspec.structs.replace(rollout, verdict=verdict)
    return _go(ended, State.ROLLING_BACK, facts.now, why)


def _missing(rollout: Rollout, facts: Facts) -> str | None:
    """Which of the step's minimums is not reached."""
    step = rollout.plan.steps[rollout.step]
    units = rollout.judge.canary_units(rollout.phase)
    if units < step.units:
        return _too_few(rollout.judge, step, units)
    if facts.now - rollout.step_started_at < step.seconds:
        return f"the step at {step.share:.0%} lasts {step.seconds:g} s"
    if facts.candidate_ready < rollout.plan.canary_replicas:
        return (
            f"only {facts.candidate_ready} of {rollout.plan.canary_replicas} canary replicas ready"
        )
    return None


def _too_few(judge: Judge, step: Step, units: int) -> str:
    crowding = crowding_of(judge)
    if crowding is None and not units:
        return f"no traffic: no canary unit has settled at {step.share:.0%}"
    few = f"too few units: {units:,} of {step.units:,} canary units settled at {step.share:.0%}"
    return f"{few}; {crowding}" if crowding else few


def _replicas_failed(rollout: Rollout, facts: Facts) -> Rollout:
    why = f"its replicas fail: {facts.candidate_failed}"
    return _give_up(rollout, facts.now, why, State.FAILED)


def _give_up(rollout: Rollout, now: float, why: str, without_traffic: State) -> Rollout:
    """Back to the champion if the release had traffic and there is one, else to an end."""
    if rollout.phase > 0 and rollout.champion is not None:
        return _go(rollout, State.ROLLING_BACK, now, why)
    return _go(rollout, without_traffic, now, why)


def _shift(rollout: Rollout, step: int, now: float) -> Rollout:
    plan_step = rollout.plan.steps[step]
    since = now if rollout.traffic_since is None else rollout.traffic_since
    verdict = rollout.verdict or assess(rollout.judge, rollout.plan)
    begun = msgspec.structs.replace(rollout, traffic_since=since, verdict=verdict)
    return _go(begun, State.SHIFTING, now, f"canary share {plan_step.share:.0%}", step=step)


def _go(rollout: Rollout, to: State, now: float, why: str, *, step: int | None = None) -> Rollout:
    """Take a transition of the table; a changed split begins a new phase."""
    if to not in TRANSITIONS[rollout.state]:
        raise _impossible(rollout, f"it cannot go from {rollout.state} to {to} ({why})")
    moved = msgspec.structs.replace(
        rollout,
        state=to,
        step=rollout.step if step is None else step,
        entered_at=now,
        paused_at=rollout.paused_at if to in _PAUSABLE else None,
        reason=why,
    )
    if _split(moved) != _split(rollout):
        moved = msgspec.structs.replace(moved, phase=rollout.phase + 1)
    return _note(moved, now, why, rollout.state)


def _note(rollout: Rollout, now: float, why: str, origin: State | None = None) -> Rollout:
    entry = Transition(now, origin or rollout.state, rollout.state, why)
    return msgspec.structs.replace(rollout, history=(*rollout.history, entry))


def _impossible(rollout: Rollout, what: str) -> FairleadError:
    history = "; ".join(f"{t.at:.3f} {t.origin} -> {t.to}: {t.why}" for t in rollout.history)
    return FairleadError(f"rollout {rollout.id}: {what}", hint=f"history: {history or 'none'}")
