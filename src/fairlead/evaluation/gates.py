"""Gates: from two releases' results on the same cases to a verdict. No I/O, no clock.

The rule for the minimum is the mean score itself; for scores of 0 and 1 its exact interval
(Clopper, Pearson 1934) is told with it. Non-inferiority compares case by case and is decided by
the one-sided bounds of `fairlead.stats.paired`: neither bound beyond the margin is inconclusive.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from fairlead.domain.verdicts import GateOutcome, GateVerdict
from fairlead.evaluation.runner import CaseResult
from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.paired import PairedResult, non_inferiority

WORST = 3
MORE_CASES_MAX = 1_000_000
_SEVERITY = (GateOutcome.PASS, GateOutcome.INCONCLUSIVE, GateOutcome.ERROR, GateOutcome.FAIL)


class GateRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release must reach.

    Attributes:
        minimum: Least mean score; None for no minimum.
        margin: How much lower than the champion's the mean score may be; None for no comparison.
        confidence: Of each one-sided bound of the comparison, and of the interval that is told.
        errors_at_most: Share of cases that may end in an error; more is inconclusive.
    """

    name: str
    minimum: float | None = None
    margin: float | None = None
    confidence: float = 0.95
    errors_at_most: float = 0.05

    @property
    def compares_with_champion(self) -> bool:
        """Whether the champion's results are needed, if there is a champion."""
        return self.margin is not None


class _Finding(NamedTuple):
    """What one part of a gate says."""

    outcome: GateOutcome
    reason: str
    numbers: Mapping[str, Any]


def decide_gate(
    gate: GateRule, candidate: Sequence[CaseResult], champion: Sequence[CaseResult] | None
) -> GateVerdict:
    """Decide one gate.

    Args:
        candidate: One result for each case.
        champion: The champion's results on the same cases; None when there is no champion, and
            then only the minimum counts.

    The outcome is the worst of the parts: fail, else error, else inconclusive, else pass.
    """
    scored = [(result, result.score) for result in candidate if result.score is not None]
    if not scored:
        return GateVerdict(
            gate.name, GateOutcome.ERROR, _nothing_scored(candidate), {"cases": len(candidate)}
        )
    findings = [_mean(gate, candidate, [value for _, value in scored])]
    if gate.margin is not None and champion is not None:
        findings.append(_comparison(gate, gate.margin, candidate, champion))
    elif gate.margin is not None:
        findings.append(_Finding(GateOutcome.PASS, "no champion to compare with yet", {}))
    outcome = max((finding.outcome for finding in findings), key=_SEVERITY.index)
    reasons = [finding.reason for finding in findings if finding.outcome is outcome]
    numbers = {key: value for finding in findings for key, value in finding.numbers.items()}
    if outcome is not GateOutcome.PASS:
        worst = _worst(candidate, champion)
        numbers |= worst
        reasons += _worst_words(worst)
    return GateVerdict(gate.name, outcome, "; ".join(reasons), numbers)


def _nothing_scored(candidate: Sequence[CaseResult]) -> str:
    if not candidate:
        return "there are no cases"
    return f"none of {len(candidate)} cases could be evaluated: {candidate[0].error}"


def _mean(gate: GateRule, candidate: Sequence[CaseResult], scores: Sequence[float]) -> _Finding:
    """The mean score against the minimum, and the share of errors against what is allowed."""
    n, errors = len(scores), len(candidate) - len(scores)
    mean = math.fsum(scores) / n
    numbers: dict[str, Any] = {"cases": len(candidate), "errors": errors, "mean": mean}
    told = f"mean score {_percent(mean)} on {n} cases"
    if all(value in (0.0, 1.0) for value in scores):
        right = round(math.fsum(scores))
        lower, upper = clopper_pearson(right, n, gate.confidence)
        numbers |= {"right": right, "interval": [lower, upper]}
        told = (
            f"{right} of {n} right, {_percent(mean)} "
            f"({_percent(gate.confidence)} interval {_percent(lower)} to {_percent(upper)})"
        )
    if gate.minimum is not None:
        numbers["minimum"] = gate.minimum
        # With every case that has no score taken for right: a fail that no answer could avert.
        if (math.fsum(scores) + errors) / len(candidate) < gate.minimum:
            return _Finding(
                GateOutcome.FAIL, f"{told}: below the minimum {_percent(gate.minimum)}", numbers
            )
    if errors > gate.errors_at_most * len(candidate):
        first = next(result.error for result in candidate if result.score is None)
        reason = (
            f"{errors} of {len(candidate)} cases ended in an error, at most "
            f"{_percent(gate.errors_at_most)} may: {first}"
        )
        return _Finding(GateOutcome.INCONCLUSIVE, reason, numbers)
    if gate.minimum is None:
        return _Finding(GateOutcome.PASS, told, numbers)
    if mean < gate.minimum:
        return _Finding(
            GateOutcome.FAIL, f"{told}: below the minimum {_percent(gate.minimum)}", numbers
        )
    return _Finding(
        GateOutcome.PASS, f"{told}: at least the minimum {_percent(gate.minimum)}", numbers
    )


def _comparison(
    gate: GateRule, margin: float, candidate: Sequence[CaseResult], champion: Sequence[CaseResult]
) -> _Finding:
    theirs = {result.case: result.score for result in champion}
    pairs = [
        (other, result.score)
        for result in candidate
        if result.score is not None and (other := theirs.get(result.case)) is not None
    ]
    if not pairs:
        return _Finding(
            GateOutcome.ERROR, "no case has a score of both candidate and champion", {"pairs": 0}
        )
    result = non_inferiority(
        [old for old, _ in pairs], [new for _, new in pairs], margin, gate.confidence
    )
    numbers: dict[str, Any] = {
        "pairs": result.n,
        "champion_mean": math.fsum(old for old, _ in pairs) / result.n,
        "difference": result.difference,
        "lower": result.lower,
        "upper": result.upper,
        "p_value": result.p_value,
        "discordant": result.discordant,
        "margin": margin,
        "confidence": gate.confidence,
    }
    told = (
        f"{_points(result.difference)} against the champion on the same {result.n} cases "
        f"(bounds {_points(result.lower)} and {_points(result.upper)}, "
        f"{_percent(gate.confidence)} each)"
    )
    unpaired = len(candidate) - result.n
    if unpaired > 2 * gate.errors_at_most * len(candidate):
        reason = f"{unpaired} of {len(candidate)} cases lack a score of one of the two releases"
        return _Finding(GateOutcome.INCONCLUSIVE, reason, numbers)
    if result.lower >= -margin:
        return _Finding(
            GateOutcome.PASS, f"{told}: not worse by {_points(margin, sign='')}", numbers
        )
    if result.upper < -margin:
        return _Finding(
            GateOutcome.FAIL, f"{told}: worse by more than {_points(margin, sign='')}", numbers
        )
    more = _more_cases(result, margin)
    numbers["more_cases"] = more
    advice = (
        f"about {more:,} more cases would decide"
        if more is not None
        else "no affordable number of cases would decide: the difference is the margin itself"
    )
    reason = f"{told}: cannot tell whether it is worse by {_points(margin, sign='')}; {advice}"
    return _Finding(GateOutcome.INCONCLUSIVE, reason, numbers)


def _more_cases(result: PairedResult, margin: float) -> int | None:
    """Cases to add until the nearer bound clears the margin, if the difference stays as it is.

    A bound's distance from the difference shrinks with the square root of the number of cases.
    None when that would be more than `MORE_CASES_MAX`.
    """
    distance = result.difference + margin
    bound = result.lower if distance >= 0 else result.upper
    half = abs(result.difference - bound)
    if abs(distance) < half / math.sqrt(1 + MORE_CASES_MAX / result.n):
        return None
    more = math.ceil(result.n * ((half / distance) ** 2 - 1))
    return max(1, more if more < 100 else round(more, 1 - len(str(more)) + 1))


def _worst(
    candidate: Sequence[CaseResult], champion: Sequence[CaseResult] | None
) -> dict[str, list[Any]]:
    """Where most is lost, by tag and by case, against the champion's score or else against 1.

    Cases are named by their ids only, never by their texts.
    """
    theirs = {result.case: result.score for result in champion or ()}
    by_tag: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    cases: list[tuple[float, str]] = []
    for result in candidate:
        if result.score is None:
            continue
        reference = theirs.get(result.case)
        loss = (1.0 if reference is None else reference) - result.score
        for tag in result.tags:
            by_tag[tag].append((loss, result.score))
        if loss > 0:
            cases.append((-loss, result.case))
    tags = [
        (math.fsum(loss for loss, _ in pairs) / len(pairs), tag, pairs)
        for tag, pairs in by_tag.items()
    ]
    tags.sort(key=lambda entry: (-entry[0], -len(entry[2]), entry[1]))
    return {
        "worst_tags": [
            {
                "tag": tag,
                "mean": math.fsum(value for _, value in pairs) / len(pairs),
                "lost": lost,
                "cases": len(pairs),
            }
            for lost, tag, pairs in tags[:WORST]
            if lost > 0
        ],
        "worst_cases": [case for _, case in sorted(cases)[:WORST]],
    }


def _worst_words(worst: Mapping[str, list[Any]]) -> list[str]:
    words = []
    if worst["worst_tags"]:
        tags = [
            f"{entry['tag']} ({_percent(entry['mean'])} on {entry['cases']})"
            for entry in worst["worst_tags"]
        ]
        words.append(f"worst: {', '.join(tags)}")
    if worst["worst_cases"]:
        words.append(f"such as case {', '.join(worst['worst_cases'])}")
    return words


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def _points(difference: float, *, sign: str = "+") -> str:
    """A difference of two shares, in percentage points."""
    text = f"{100 * difference:{sign}.1f}".removesuffix(".0")
    return f"{text} points"
