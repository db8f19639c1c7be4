"""What is said of scores on a schedule: to the alerts, and to people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.probing.tracked import evidence_of
from fairlead.probing.tracked_model import (
    MEASURES,
    SPANS,
    Benchmark,
    Published,
    Run,
    ScoresSpec,
    Tracked,
    Value,
)

MONITOR = "bias_scores"
NAMES: dict[Benchmark, str] = {"bbq": "BBQ", "crows": "CrowS-Pairs"}
TrackedState = Literal["worse", "missing", "failing", "held", "learning", "watching"]
READ_OF_MIN = 20
"""From so many answers of a run on it is said that most of them could not be read."""


class MeasureView(msgspec.Struct, frozen=True):
    """One measure against what was accepted.

    Attributes:
        compared: Answers that were compared.
        worse_by: By how much they were worse on average, on the measure's own scale.
        evidence, evidence_at: How many times likelier it is by that that the score is worse by more
            than is allowed, and what is needed for an alarm.
        found_at: Unix time since which it suffices.
    """

    measure: str
    compared: int
    worse_by: float
    evidence: float
    evidence_at: float
    found_at: float | None


class TrackedView(msgspec.Struct, frozen=True):
    """A champion's scores on one benchmark.

    Attributes:
        state: worse: a score is. missing: its items were not there. failing: the release cannot be
            asked. held: today's items have cost what they may. learning: not all items have been
            asked that scores are compared with. watching: none of these.
        items, asked: How many there are, and of how many the release's answer is known.
        accepted_release, accepted_name, accepted_at, accepted: What scores are compared with.
        runs: All that are kept, of earlier releases as well; the latest one last.
        trouble: What keeps what is found from being kept.
    """

    service: str
    benchmark: Benchmark
    release: str
    name: str
    state: TrackedState
    items: int
    asked: int
    due_at: float
    sent_today: int
    usd_today: float
    sent_in_all: int
    usd_in_all: float
    failure: str = ""
    held: str = ""
    trouble: str = ""
    accepted_release: str = ""
    accepted_name: str = ""
    accepted_at: float | None = None
    accepted: tuple[Value, ...] = ()
    measures: tuple[MeasureView, ...] = ()
    runs: tuple[Run, ...] = ()


def tracked_view(
    tracked: Tracked,
    published: Published,
    spec: ScoresSpec,
    level: float,
    *,
    held: str = "",
    trouble: str = "",
) -> TrackedView:
    """The view of what is stored.

    Args:
        level: The evidence that is an alarm, as a logarithm.
    """
    accepted = tracked.accepted
    return TrackedView(
        service=tracked.service,
        benchmark=tracked.benchmark,
        release=tracked.release,
        name=tracked.name,
        state=_state(tracked, published, held),
        items=len(tracked.answers),
        asked=sum(answer is not None for answer in tracked.answers),
        due_at=tracked.due_at,
        sent_today=tracked.sent,
        usd_today=tracked.spent_usd,
        sent_in_all=tracked.sent_in_all,
        usd_in_all=tracked.usd_in_all,
        failure=published.missing or tracked.failure,
        held=held,
        trouble=trouble,
        accepted_release="" if accepted is None else accepted.release,
        accepted_name="" if accepted is None else accepted.name,
        accepted_at=None if accepted is None else accepted.at,
        accepted=() if accepted is None else accepted.values,
        measures=tuple(_measures(tracked, spec, level)),
        runs=tracked.runs,
    )


def blindness_of(tracked: Tracked, published: Published) -> str:
    """Why nothing can be said of the scores; empty where it can."""
    what = NAMES[tracked.benchmark]
    why = published.missing or tracked.failure
    if why:
        return f"{what}: {why}"
    of_release = [run for run in tracked.runs if run.release == tracked.release]
    last = of_release[-1] if of_release else None
    if last is not None and last.asked >= READ_OF_MIN and 2 * last.unread > last.asked:
        return (
            f"{what}: {last.unread} of the latest {last.asked} answers choose none of the options"
        )
    return ""


def conditions_of(tracked: Tracked, spec: ScoresSpec, level: float) -> list[Condition]:
    """A condition for each score that is worse than what was accepted."""
    return [
        _condition(tracked, each)
        for each in _measures(tracked, spec, level)
        if each.found_at is not None
    ]


def _measures(tracked: Tracked, spec: ScoresSpec, level: float) -> Iterator[MeasureView]:
    for measure in MEASURES[tracked.benchmark]:
        if measure not in tracked.tests:
            continue
        test = evidence_of(spec, measure, tracked.tests)
        yield MeasureView(
            measure=measure,
            compared=test.pairs,
            worse_by=SPANS.get(measure, 1.0) * test.gap,
            evidence=math.exp(min(test.log_e_above, 500.0)),
            evidence_at=math.exp(level),
            found_at=tracked.found.get(measure),
        )


def _condition(tracked: Tracked, found: MeasureView) -> Condition:
    accepted = tracked.accepted
    what = f"{NAMES[tracked.benchmark]}: {found.measure.replace('_', ', ')}"
    than = "" if accepted is None else f" than that of {accepted.name}"
    last = tracked.runs[-1] if tracked.runs else None
    figures = [
        *_figure("accepted", () if accepted is None else accepted.values, found.measure),
        *_figure("latest", () if last is None else last.values, found.measure),
        Figure("worse by", found.worse_by),
        Figure("answers compared", float(found.compared)),
        Figure("evidence (logarithm)", math.log(found.evidence), limit=math.log(found.evidence_at)),
    ]
    return Condition(
        labels=labels_of(
            monitor=MONITOR,
            service=tracked.service,
            release=tracked.release,
            benchmark=tracked.benchmark,
            outcome=found.measure,
        ),
        severity=Severity.TICKET,
        summary=f"{tracked.service}: the score on {what} is worse{than}, by {found.worse_by:.2f}",
        evidence=tuple(figures),
    )


def _figure(name: str, values: Sequence[Value], measure: str) -> Iterator[Figure]:
    for each in values:
        if each.measure == measure:
            yield Figure(f"{name} score", each.value)


def _state(tracked: Tracked, published: Published, held: str) -> TrackedState:
    if tracked.found:
        return "worse"
    if published.missing:
        return "missing"
    if tracked.failing_since is not None:
        return "failing"
    if held:
        return "held"
    return "learning" if tracked.accepted is None else "watching"
