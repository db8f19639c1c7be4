"""What is true of every rollout at every moment; checked by its tests after each of their steps."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.domain.errors import FairleadError
from fairlead.domain.verdicts import GateOutcome, RolloutOutcome
from fairlead.rollout.commands import PROMOTED_BY
from fairlead.rollout.desires import desired, is_terminal
from fairlead.rollout.endings import Ending
from fairlead.rollout.model import Rollout
from fairlead.rollout.states import TRANSITIONS, State

_BEFORE_TRAFFIC = (
    State.QUEUED,
    State.EVALUATING,
    State.STARTING,
    State.SHADOWING,
    State.GATE_FAILED,
    State.GATES_PASSED,
)
_PROMOTED = (State.PROMOTING, State.SWITCHING, State.WATCHING, State.PROMOTED)
_MOVED = (State.SWITCHING, State.WATCHING, State.PROMOTED)
_GATES_OPEN = (State.QUEUED, State.EVALUATING, State.GATE_FAILED, State.ABORTED, State.FAILED)


def validate(rollout: Rollout) -> None:
    """Raises FairleadError naming every invariant that does not hold, with the history."""
    broken = [
        *_split_broken(rollout),
        *_history_broken(rollout),
        *_judge_broken(rollout),
        *_promotion_broken(rollout),
        *_ending_broken(rollout),
    ]
    if broken:
        history = "; ".join(f"{t.origin} -> {t.to}: {t.why}" for t in rollout.history)
        raise FairleadError(f"rollout {rollout.id}: {'; '.join(broken)}", hint=history)


def _split_broken(rollout: Rollout) -> Iterator[str]:
    want = desired(rollout)
    if (want.share > 0) != (want.canary is not None):
        yield "a share without a canary, or a canary without a share"
    if want.share > 0 and (rollout.champion is None or rollout.traffic_since is None):
        yield "a share without a champion beside it"
    if rollout.state in _BEFORE_TRAFFIC and rollout.phase:
        yield "traffic before the gates are passed"
    passed = len(rollout.gate_verdicts) >= rollout.gates and all(
        verdict.outcome is GateOutcome.PASS for verdict in rollout.gate_verdicts
    )
    if rollout.state not in _GATES_OPEN and not passed:
        yield "a gate has not passed"
    champion = rollout.release if want.champion == rollout.release else rollout.champion
    if want.champion != champion:
        yield "traffic for a release that is neither champion nor candidate"
    if want.champion == rollout.release and rollout.state not in _MOVED:
        yield "all traffic moved without a promotion"
    if want.shadow is not None and (rollout.champion is None or want.shadow == want.champion):
        yield "copies without a champion that answers"
    if is_terminal(rollout) and (want.share or rollout.paused or want.run_gates):
        yield "something goes on after the end"


def _history_broken(rollout: Rollout) -> Iterator[str]:
    first = rollout.history[0].origin if rollout.history else rollout.state
    state: State = first if first is State.QUEUED else State.EVALUATING
    for entry in rollout.history:
        if entry.origin is not state:
            yield f"history has a gap before {entry.origin} -> {entry.to}"
        if entry.to is not entry.origin and entry.to not in TRANSITIONS[entry.origin]:
            yield f"history has a transition that is not in the table: {entry.origin} -> {entry.to}"
        state = entry.to
    if state is not rollout.state:
        yield f"history ends in {state}, the state is {rollout.state}"


def _judge_broken(rollout: Rollout) -> Iterator[str]:
    judge, verdict = rollout.judge, rollout.verdict
    units = judge.champion.units + judge.canary.units
    counted = (
        judge.rollback["units"],
        judge.promote["units"],
        judge.guard["units"],
        sum(phase.champion + phase.canary for phase in judge.phases),
    )
    if any(count != units for count in counted):
        yield f"the judge counts {units} units, its parts {counted}"
    judged = judge.champion.judged + judge.canary.judged
    if judge.interval["units"] != judged:
        yield f"the interval counts {judge.interval['units']} units, {judged} have an outcome"
    if any(phase.phase > rollout.phase for phase in judge.phases):
        yield "units of a phase that has not begun"
    if verdict is None or verdict.outcome is not RolloutOutcome.PROMOTE:
        return
    if judge.canary.units == 0:
        yield "a verdict to promote without a canary unit"


def _promotion_broken(rollout: Rollout) -> Iterator[str]:
    """Its reason is the one that decided it; the judge's is that of the verdict beside it."""
    if rollout.state not in _PROMOTED:
        return
    move, verdict = rollout.promotion, rollout.verdict
    if move is None:
        yield "promoted without a move to promotion"
        return
    if rollout.state is State.PROMOTED and rollout.reason != move.why:
        yield f"promoted for {move.why!r}, its reason is {rollout.reason!r}"
    if move.origin is not State.JUDGING or move.why.startswith(PROMOTED_BY):
        return
    if verdict is None or (verdict.outcome, verdict.reason) != (RolloutOutcome.PROMOTE, move.why):
        yield f"promoted by the judge for {move.why!r}, beside the verdict {verdict}"


def _ending_broken(rollout: Rollout) -> Iterator[str]:
    if is_terminal(rollout) and rollout.ending is None:
        yield "ended without saying why"
    if rollout.ending is not None and not (
        is_terminal(rollout) or rollout.state is State.ROLLING_BACK
    ):
        yield f"it goes on, though it ends as {rollout.ending}"
    if (rollout.state is State.PROMOTED) != (rollout.ending is Ending.PROMOTED):
        yield f"{rollout.state} as {rollout.ending}"
    if rollout.drill is not None and rollout.state in _PROMOTED:
        yield f"a drill is {rollout.state}"
    if rollout.is_held != (rollout.held_at is not None):
        yield "the clock of its holds does not run with them"
    if is_terminal(rollout) and rollout.is_held:
        yield "held after its end"
