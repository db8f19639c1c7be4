"""From promises to conditions: what an objective's assessment says to people."""

from __future__ import annotations

from fairlead.monitoring.burning import (
    BURN,
    MINUTE_S,
    RANK,
    Assessment,
    Bucket,
    Burn,
    Severity,
    assess,
)
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.monitoring.objectives import AVAILABILITY_DEFAULT, Objective, ObjectiveKind

MONITOR = "slo"
KEEP_S = 300.0
"""The same as the Prometheus rules keep an alert firing for."""


def conditions_of(service: str, found: Assessment) -> tuple[Condition, ...]:
    """The conditions of an objective whose budget burns, the gravest first.

    One for each severity, told apart by the label `burn`: a page ends minutes after an outage, the
    ticket about the budget that it has cost hours later.
    """
    by_severity: dict[Severity, Burn] = {}
    for burn in found.burns:
        if burn.is_burning:
            by_severity.setdefault(burn.pair.severity, burn)
    return tuple(
        _condition(service, found, by_severity[severity])
        for severity in sorted(by_severity, key=RANK.__getitem__)
    )


def self_test() -> str:
    """Find an outage in counts made for it, and nothing in good ones; empty if so."""
    promise = Objective(ObjectiveKind.AVAILABILITY, AVAILABILITY_DEFAULT)
    hour = [MINUTE_S * (at + 1) for at in range(60)]
    good = [Bucket(float(end), 100.0, 0.0) for end in hour]
    outage = [*good[:50], *(Bucket(float(end), 100.0, 100.0) for end in hour[50:])]
    if assess(promise, good, hour[-1]).severity is not None:
        return "an alarm without one bad request"
    if assess(promise, outage, hour[-1]).severity is not Severity.PAGE:
        return "no page in an outage of ten minutes"
    return ""


def _condition(service: str, found: Assessment, worst: Burn) -> Condition:
    objective, pair = found.objective, worst.pair
    is_cost = objective.kind is ObjectiveKind.COST
    figures = [
        Figure(f"burn rate over {_span(pair.long_s)}", worst.long or 0.0, limit=pair.factor),
        Figure(f"burn rate over {_span(pair.short_s)}", worst.short or 0.0, limit=pair.factor),
        Figure("requests in that time", worst.total),
        Figure("spent on them" if is_cost else "of them bad", worst.bad, "USD" if is_cost else ""),
    ]
    if found.budget_left is not None:
        figures.append(Figure("error budget left", found.budget_left * 100.0, "%"))
    if found.gone_in_s is not None:
        figures.append(Figure("gone at this rate in", found.gone_in_s / 3_600.0, "h"))
    return Condition(
        labels=labels_of(
            monitor=MONITOR,
            service=service,
            slo=objective.kind.value,
            burn=BURN[pair.severity],
        ),
        severity=pair.severity,
        summary=(
            f"{service}: {_said(found, worst)} in {_span(pair.long_s)}: {objective.kind} burns its "
            f"error budget {worst.long or 0.0:.3g} times as fast as {objective.words} allows"
        ),
        evidence=tuple(figures),
        keep_s=KEEP_S,
    )


def _said(found: Assessment, worst: Burn) -> str:
    """The share and of how many: `17% of 1,200 requests failed`."""
    kind = found.objective.kind
    if kind is ObjectiveKind.COST:
        return f"{worst.total:,.0f} requests cost {worst.bad / worst.total:.3g} USD on average"
    return f"{100.0 * worst.bad / worst.total:.3g}% of {worst.total:,.0f} {_BAD[kind]}"


_BAD = {
    ObjectiveKind.AVAILABILITY: "requests failed",
    ObjectiveKind.TTFT: "requests had a late first token",
    ObjectiveKind.ITL: "requests had slow tokens",
    ObjectiveKind.LATENCY: "requests were late",
    ObjectiveKind.QUALITY: "judged answers were bad",
}


def _span(seconds: int) -> str:
    return f"{seconds / 3_600:g} h" if seconds >= 3_600 else f"{seconds / 60:g} min"
