"""Reads what the store holds of rollouts and services, also what another build wrote.

A judge whose tests another build kept in another form cannot go on. What else the document says is
as good as ever: a rollout that has ended is shown by it, one that has not begun begins with a new
judge, and one that is under way is ended, since nothing is promoted by evidence that was lost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from fairlead.control.shipping.documents import RolloutDocument
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.decoding import convert, decode_json
from fairlead.domain.errors import Damaged, InvalidInput
from fairlead.rollout.judge import is_resumable, new_judge
from fairlead.rollout.model import Rollout, Transition
from fairlead.rollout.plan import Plan
from fairlead.rollout.states import State
from fairlead.store.rows import RolloutRow, ServiceRow

JUDGE_LOST = "what its judge had seen was kept by another build and cannot be read"


class Stored(NamedTuple):
    """A rollout's document.

    Attributes:
        judge_lost: Its judge is a new one, in the place of one that had seen something.
    """

    document: RolloutDocument
    judge_lost: bool = False


def read_rollout(row: RolloutRow) -> Stored:
    """What a row holds; raises Damaged when more than its judge cannot be read."""
    try:
        document = decode_json(row.document, RolloutDocument)
    except (msgspec.DecodeError, InvalidInput) as error:
        made = _with_a_new_judge(row)
        if made is None:
            raise _damaged(row, error) from None
    else:
        is_over = not row.active and row.state != State.QUEUED
        made = None if is_over or _goes_on(document.rollout) else _with_a_new_judge(row)
        if made is None:
            return Stored(document)
    return Stored(made, judge_lost=made.rollout.state is not State.QUEUED)


def _goes_on(rollout: Rollout) -> bool:
    """Whether its judges can go on from what they remember."""
    ahead, early = rollout.plan.early, rollout.early
    has_early = early is None or ahead is None or is_resumable(early, ahead)
    return has_early and is_resumable(rollout.judge, rollout.plan)


def read_spec(row: ServiceRow) -> ServiceSpec:
    """The spec by which a service runs; raises Damaged."""
    try:
        return decode_json(row.spec, ServiceSpec)
    except (msgspec.DecodeError, InvalidInput) as error:
        raise Damaged(
            f"service {row.name}: its spec in the store cannot be read: {error}",
            hint="run the build of fairlead that wrote it, or restore a backup",
        ) from None


def _with_a_new_judge(row: RolloutRow) -> RolloutDocument | None:
    """The document with a judge that has seen nothing, and a note of it; None if that is not it."""
    try:
        given = decode_json(row.document, dict[str, Any])
        plan = convert(given["rollout"]["plan"], Plan)
        given["rollout"]["judge"] = msgspec.to_builtins(new_judge(plan))
        given["rollout"]["early"] = None
        document = convert(given, RolloutDocument)
    except (msgspec.DecodeError, InvalidInput, KeyError, TypeError):
        return None
    rollout = document.rollout
    if rollout.state is State.QUEUED:
        return document
    noted = Transition(row.updated_at, rollout.state, rollout.state, JUDGE_LOST)
    rollout = msgspec.structs.replace(rollout, history=(*rollout.history, noted))
    return msgspec.structs.replace(document, rollout=rollout)


def _damaged(row: RolloutRow, error: Exception) -> Damaged:
    hint = "run the build of fairlead that wrote it, or restore a backup"
    if row.active or row.state == State.QUEUED:
        hint = f"end it with `fairlead rollout abort {row.id}`, and ship its release again"
    return Damaged(
        f"rollout {row.id}: its document in the store cannot be read: {error}", hint=hint
    )
