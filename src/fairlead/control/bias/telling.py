"""What is said of a champion's pairs: to the alerts, and to people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import QUOTE_CHARS_MAX, Condition, Figure, labels_of
from fairlead.probing.bias import Finding, findings, is_complete
from fairlead.probing.bias_model import Biasing, BiasSpec
from fairlead.probing.bias_pairs import Plan
from fairlead.stats.any_time import mean_bounds, paired_bounds
from fairlead.stats.monitors.counterfactual import LENGTH_SCALE

MONITOR = "bias"
BiasState = Literal["gaps", "failing", "held", "complete", "watching"]
_UNITS = {"refusal": "%", "correctness": "%", "length": "characters", "sentiment": ""}


class GapView(msgspec.Struct, frozen=True):
    """Two groups in one outcome: shares in [0, 1]; on average, characters, or sentiment in [-1, 1].

    Attributes:
        gap, gap_least, gap_most: The other group's outcome against the first one's, and an interval
            that holds with 95 % at all times together: a difference of shares or of sentiment, or
            by what part answers are longer (0.1: 10 %).
        evidence, evidence_at: How many times likelier the gap makes the answers, and what is
            needed for an alarm.
        found_at: Unix time since which it suffices.
        examples: The latest pairs that differ: both requests, both answers, each shortened.
    """

    attribute: str
    first: str
    group: str
    outcome: str
    pairs: int
    discordant: int
    first_mean: float
    other_mean: float
    gap: float
    gap_least: float
    gap_most: float
    evidence: float
    evidence_at: float
    found_at: float | None
    examples: tuple[tuple[str, str, str, str], ...]


class BiasView(msgspec.Struct, frozen=True):
    """What is known of a champion by its pairs.

    Attributes:
        state: gaps: at least one is shown. failing: the pairs are not answered. held: today's have
            cost what they may. complete: all have been asked. watching: none of these.
        pairs, pairs_in_all: With both answers so far, and how many there are to ask.
        unanswered: Those that were given up, one answer being missing.
        trouble: What keeps what is found from being kept.
    """

    service: str
    release: str
    name: str
    state: BiasState
    pairs: int
    pairs_in_all: int
    unanswered: int
    due_at: float
    sent_today: int
    usd_today: float
    sent_in_all: int
    usd_in_all: float
    failure: str = ""
    held: str = ""
    trouble: str = ""
    gaps: tuple[GapView, ...] = ()


def bias_view(
    name: str, biasing: Biasing, spec: BiasSpec, plan: Plan, held: str, trouble: str
) -> BiasView:
    """The view of what is stored.

    Args:
        name: The release's.
    """
    found = list(findings(biasing, spec, plan))
    return BiasView(
        service=biasing.service,
        release=biasing.release,
        name=name,
        state=_state(biasing, plan, found, held),
        pairs=biasing.pairs,
        pairs_in_all=plan.pairs,
        unanswered=biasing.unanswered,
        due_at=biasing.due_at,
        sent_today=biasing.sent,
        usd_today=biasing.spent_usd,
        sent_in_all=biasing.sent_in_all,
        usd_in_all=biasing.usd_in_all,
        failure=biasing.failure,
        held=held,
        trouble=trouble,
        gaps=tuple(_gap(each) for each in found),
    )


def conditions_of(biasing: Biasing, spec: BiasSpec, plan: Plan) -> list[Condition]:
    """A condition for each gap that is shown."""
    return [
        _condition(biasing, each)
        for each in findings(biasing, spec, plan)
        if each.found_at is not None
    ]


def _condition(biasing: Biasing, found: Finding) -> Condition:
    scale = 100.0 if _UNITS[found.outcome] == "%" else 1.0
    unit = _UNITS[found.outcome]
    return Condition(
        labels=labels_of(
            monitor=MONITOR,
            service=biasing.service,
            release=biasing.release,
            attribute=found.attribute,
            group=found.group,
            outcome=found.outcome,
        ),
        severity=Severity.TICKET,
        summary=f"{biasing.service}: {_said(found)}",
        evidence=(
            Figure(f"{found.outcome} of {found.group}", scale * found.other_mean, unit),
            Figure(f"{found.outcome} of {found.first}", scale * found.first_mean, unit),
            Figure("pairs", float(found.pairs)),
            Figure("pairs that differ", float(found.discordant)),
            Figure("evidence (logarithm)", found.evidence, limit=found.evidence_at),
        ),
        quotes=tuple(_quotes(found)),
    )


def _quotes(found: Finding) -> Iterator[str]:
    """The latest pair that differs."""
    for last in found.examples[-1:]:
        for group, asked, answered in (
            (found.group, last.other, last.other_answer),
            (found.first, last.first, last.first_answer),
        ):
            yield f'{group}: "{asked}": "{answered}"'[:QUOTE_CHARS_MAX]


def _said(found: Finding) -> str:
    who = f"{found.group} ({found.attribute})"
    if found.outcome == "length":
        more = "longer" if found.gap > 0.0 else "shorter"
        means = f"{found.other_mean:.0f} against {found.first_mean:.0f} characters"
        return f"answers to {who} are {more} than those to {found.first}: {means}"
    if found.outcome == "sentiment":
        more = "friendlier" if found.gap > 0.0 else "less friendly"
        means = f"{found.other_mean:+.2f} against {found.first_mean:+.2f}, from -1 to 1"
        return f"answers to {who} sound {more} than those to {found.first}: {means}"
    more = "more" if found.gap > 0.0 else "less"
    what = "refuses" if found.outcome == "refusal" else "is right with"
    means = f"{found.other_mean:.1%} against {found.first_mean:.1%} of {found.pairs} pairs"
    return f"it {what} {who} {more} often than {found.first}: {means}"


def _interval(found: Finding) -> tuple[float, float, float]:
    """The gap, and its bounds at any time."""
    total = found.gap * found.pairs
    if found.outcome == "length":
        low, high = mean_bounds(total, found.pairs)
        gap, least, most = (math.expm1(LENGTH_SCALE * each) for each in (found.gap, low, high))
        return gap, least, most
    if found.outcome == "sentiment":
        low, high = mean_bounds(total, found.pairs)
        return 2.0 * found.gap, 2.0 * low, 2.0 * high
    more = (found.discordant + total) / 2.0
    return found.gap, *paired_bounds(more, found.discordant - more, found.pairs)


def _gap(found: Finding) -> GapView:
    gap, least, most = _interval(found)
    return GapView(
        attribute=found.attribute,
        first=found.first,
        group=found.group,
        outcome=found.outcome,
        pairs=found.pairs,
        discordant=found.discordant,
        first_mean=found.first_mean,
        other_mean=found.other_mean,
        gap=gap,
        gap_least=least,
        gap_most=most,
        evidence=math.exp(min(found.evidence, 500.0)),
        evidence_at=math.exp(found.evidence_at),
        found_at=found.found_at,
        examples=tuple(
            (each.first, each.other, each.first_answer, each.other_answer)
            for each in found.examples
        ),
    )


def _state(biasing: Biasing, plan: Plan, found: Sequence[Finding], held: str) -> BiasState:
    if any(each.found_at is not None for each in found):
        return "gaps"
    if biasing.failing_since is not None:
        return "failing"
    if held:
        return "held"
    return "complete" if is_complete(biasing, plan) else "watching"
