"""The course of scores on a schedule: from one run to the next, pure.

Rules
- The first release is asked all items, in the order of the suite: its answers are what is accepted.
- After that, a run draws items at random, each of them as likely as any other at each draw, and
  each answer is compared with the accepted one to the same item. The mean difference that is
  expected of a draw is then that of all items, whatever was drawn before, so that the evidence
  against "the score is worse by no more than `worse_by`" keeps its guarantee however often the same
  items are asked (Ville). Which items are alike, being of one template, does not matter for that:
  it is these items that are asked about.
- An answer that cannot be read, now or when it was accepted, is compared with nothing.
- Another champion is compared with the same accepted answers, by evidence that begins anew, and is
  due at once. What was found of it stays until a person accepts it, or another release serves.
- Accepting takes the release's own answers, once it has one to each item.
- A draw whose item gets no answer is made again, the same one: who does not answer chooses nothing.
  After some tries in which other items were answered it counts as one that cannot be read.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from fairlead.probing.bounds import RETRY_S, day_of, held_by_cost
from fairlead.probing.tracked_model import (
    MEASURES,
    RUNS_MAX,
    SPANS,
    UNREAD,
    Accepted,
    Published,
    Run,
    ScoresSpec,
    Tracked,
    Value,
)
from fairlead.stats.monitors.counterfactual import GapState, GapTest

TRIES = 3
"""After so many tries an item that alone gets no answer is waited for no more."""
FAILURE_CHARS = 300


class Asked(NamedTuple):
    """An item that was answered.

    Attributes:
        value: Which option was chosen, or UNREAD.
        worse: By measure, by how much the answer is worse than the accepted one, in parts of the
            measure's span: -1 to 1. Empty where there is nothing to compare.
    """

    item: int
    value: int
    usd: float
    worse: Mapping[str, float]


def begin(service: str, published: Published, release: str, name: str, now: float) -> Tracked:
    """Scores of which nothing is known."""
    return Tracked(service, published.benchmark, published.suite, release, name, due_at=now)


def of_release(tracked: Tracked, release: str, name: str, now: float) -> Tracked:
    """As it is of this champion: another one begins anew, compared with what is accepted."""
    if tracked.release == release:
        return msgspec.structs.replace(tracked, name=name)
    return msgspec.structs.replace(
        tracked, release=release, name=name, due_at=now, answers=(), draws=0, tests={}, found={},
        left=0, tries=0, failing_since=None, failure="",
    )  # fmt: skip


def judged_by(tracked: Tracked, spec: ScoresSpec) -> Tracked:
    """With evidence against this `worse_by`: what was made against another one is no evidence."""
    if tracked.worse_by == spec.worse_by:
        return tracked
    tracked = msgspec.structs.replace(tracked, worse_by=spec.worse_by)
    return msgspec.structs.replace(tracked, tests={}, found={})


def sized(tracked: Tracked, items: int) -> Tracked:
    """With a place for each item; raises ValueError for what is of other items."""
    known = tracked.answers or (None,) * items
    accepted = tracked.accepted
    if len(known) != items or (accepted is not None and len(accepted.answers) != items):
        raise ValueError(f"damaged scores: of {len(known)} items, and there are {items}")
    return msgspec.structs.replace(tracked, answers=known)


def is_readable(tracked: Tracked) -> bool:
    """Whether one can go on from it: its numbers add up."""
    measures = MEASURES[tracked.benchmark]
    if not (set(tracked.tests) <= set(measures) and set(tracked.found) <= set(measures)):
        return False
    try:
        for state in tracked.tests.values():
            GapTest().restore(state)
    except (ValueError, KeyError, TypeError):
        return False
    numbers = [tracked.due_at, tracked.spent_usd, tracked.usd_in_all, tracked.run_usd]
    counts = [tracked.left, tracked.draws, tracked.run_asked, tracked.sent]
    return all(map(math.isfinite, numbers)) and min(counts) >= 0


def held_by(tracked: Tracked, spec: ScoresSpec, now: float) -> str:
    """Why nothing is asked today any more; empty when it may be."""
    return held_by_cost("items", spec.usd_per_day, tracked, now)


def due(tracked: Tracked, spec: ScoresSpec) -> Tracked:
    """With a new run begun, if none is under way."""
    if tracked.left:
        return tracked
    return msgspec.structs.replace(
        tracked, left=spec.per_run, run_asked=0, run_unread=0, run_usd=0.0
    )


def lacking(tracked: Tracked, count: int) -> list[int]:
    """The items to ask next, at most `count`; none when the run is over."""
    count = min(count, tracked.left)
    if tracked.accepted is None:
        return [item for item, known in enumerate(tracked.answers) if known is None][:count]
    items = len(tracked.answers)
    return [_drawn(tracked, tracked.draws + number, items) for number in range(count)]


def is_over(tracked: Tracked) -> bool:
    """Whether the run under way has asked all that it is to ask."""
    return not lacking(tracked, 1)


def taken_in(
    tracked: Tracked, spec: ScoresSpec, batch: Sequence[Asked], level: float, now: float
) -> Tracked:
    """Take in the answers to the items of `lacking`, as many of the first ones as there are.

    Args:
        level: The evidence that is an alarm (`level_of`).
    """
    answers, tests, found = list(tracked.answers), dict(tracked.tests), dict(tracked.found)
    for asked in batch:
        answers[asked.item] = asked.value
        for measure, worse in asked.worse.items():
            test = evidence_of(spec, measure, tests)
            test.update(worse)
            tests[measure] = test.state()
            if measure not in found and test.log_e_above >= level:
                found[measure] = now
    usd, day = math.fsum(asked.usd for asked in batch), day_of(now)
    is_same_day = day == tracked.day
    return msgspec.structs.replace(
        tracked,
        answers=tuple(answers),
        tests=tests,
        found=found,
        draws=tracked.draws + (0 if tracked.accepted is None else len(batch)),
        left=max(0, tracked.left - len(batch)),
        run_asked=tracked.run_asked + len(batch),
        run_unread=tracked.run_unread + sum(asked.value == UNREAD for asked in batch),
        run_usd=tracked.run_usd + usd,
        tries=0,
        failing_since=None,
        failure="",
        day=day,
        spent_usd=usd + (tracked.spent_usd if is_same_day else 0.0),
        sent=len(batch) + (tracked.sent if is_same_day else 0),
        sent_in_all=tracked.sent_in_all + len(batch),
        usd_in_all=tracked.usd_in_all + usd,
    )


def gives_up(tracked: Tracked) -> bool:
    """Whether the next item is asked for the last time."""
    return tracked.tries + 1 >= TRIES


def failed(
    tracked: Tracked,
    spec: ScoresSpec,
    why: str,
    now: float,
    *,
    ever: bool,
    usd: float = 0.0,
    others: bool = False,
) -> Tracked:
    """An item was not answered; the run is gone on with later.

    Args:
        ever: The release cannot be asked at all: it is tried again in the next run.
        usd: What answers have cost that are not kept.
        others: Whether other items were answered.
    """
    day = day_of(now)
    # An item that is left alone at the end of a run has nobody to be compared with.
    is_try = others or (tracked.left == 1 and tracked.run_asked > 0) or tracked.tries > 0
    wait_s = spec.interval_s if ever else min(RETRY_S, spec.interval_s)
    return msgspec.structs.replace(
        tracked,
        due_at=now + wait_s,
        failing_since=now if tracked.failing_since is None else tracked.failing_since,
        failure=why[:FAILURE_CHARS],
        tries=tracked.tries + is_try,
        day=day,
        spent_usd=usd + (tracked.spent_usd if day == tracked.day else 0.0),
        sent=tracked.sent if day == tracked.day else 0,
        run_usd=tracked.run_usd + usd,
        usd_in_all=tracked.usd_in_all + usd,
    )


def over(tracked: Tracked, spec: ScoresSpec, values: tuple[Value, ...], now: float) -> Tracked:
    """The run has ended: what it showed is kept, and accepted if nothing was before.

    Args:
        values: By the release's latest answers.
    """
    known = sum(answer is not None for answer in tracked.answers)
    run = Run(
        now, tracked.release, tracked.name, tracked.run_asked, tracked.run_unread, known,
        tracked.run_usd, values,
    )  # fmt: skip
    accepted = tracked.accepted
    answers = tuple(answer for answer in tracked.answers if answer is not None)
    if accepted is None and known and len(answers) == len(tracked.answers):
        accepted = Accepted(tracked.release, tracked.name, now, values, answers)
    is_late = tracked.due_at + spec.interval_s <= now
    return msgspec.structs.replace(
        tracked,
        left=0,
        due_at=(now if is_late else tracked.due_at) + spec.interval_s,
        runs=(*tracked.runs, run)[-RUNS_MAX:],
        accepted=accepted,
    )


def accept(tracked: Tracked, now: float) -> Tracked:
    """A person has seen the scores: this release's own are accepted, once all items are asked."""
    return msgspec.structs.replace(
        tracked, accepted=None, tests={}, found={}, left=0, tries=0, due_at=now
    )


def level_of(spec: ScoresSpec, alpha: float) -> float:
    """The evidence that is an alarm, as a logarithm: each measure has an equal share of alpha."""
    return math.log(sum(len(MEASURES[each.benchmark]) for each in spec.benchmarks) / alpha)


def evidence_of(spec: ScoresSpec, measure: str, tests: Mapping[str, GapState]) -> GapTest:
    """The evidence of a measure so far."""
    made = GapTest(tolerance=spec.worse_by / SPANS.get(measure, 1.0))
    if measure in tests:
        made.restore(tests[measure])
    return made


def _drawn(tracked: Tracked, number: int, items: int) -> int:
    # Only the same items again after a restart are asked for, not that they cannot be foretold.
    seed = f"{tracked.suite} {tracked.release} {number}"
    return random.Random(seed).randrange(items)  # noqa: S311
