"""Verdicts on answers as Prometheus sees them, so that it can watch a promise of quality, too."""

from __future__ import annotations

from fairlead.gateway.records.metric_families import Family, FamilyState
from fairlead.monitoring.counting import Count

LATE_S = 900.0
"""A verdict of longer ago is none of now; samples that are older are not judged either."""


class JudgedMetrics:
    """Counts what the promise of quality counts, of each service, since control began.

    Prometheus sees a verdict when it is read, which is when its judge, and the questions before it,
    are done. A control that is killed reads again what came within the last half minute and was not
    kept; such verdicts count twice.
    """

    def __init__(self) -> None:
        self._total = Family(
            "fairlead_control_judged_answers_total",
            "counter",
            "Answers that a judge has graded, as the promise of quality counts them.",
            ("service",),
        )
        self._bad = Family(
            "fairlead_control_judged_answers_bad_total",
            "counter",
            "Those of them that were graded as bad.",
            ("service",),
        )

    def begin(self, service: str) -> None:
        """Show zeros: Prometheus does not see the first step of a series that begins above."""
        self._total.inc((service,), 0.0)
        self._bad.inc((service,), 0.0)

    def add(self, service: str, verdict: Count, now: float) -> None:
        """One that has been read now, in Unix seconds."""
        if now - verdict.minute > LATE_S:
            return
        self._total.inc((service,), verdict.total)
        self._bad.inc((service,), verdict.bad)

    def states(self) -> list[FamilyState]:
        """The metrics."""
        return [self._total.state(), self._bad.state()]
