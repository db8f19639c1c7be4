"""What a service declares to be judged by, beside the failures that every rollout is judged by."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.metrics import Metric, MetricKind
from fairlead.rollout.sources import SOURCES, Source

FEEDBACK = "feedback"
FEEDBACK_NAME_MAX = 64
METRIC_NAME_MAX = 64
DECLARED_MAX = 20
UNCONFIRMED = " unconfirmed"
"""Behind the name of a metric of feedback: its second outcome."""

Worse = Literal["higher", "lower"]


class FeedbackRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which feedback makes a request a failure.

    Attributes:
        name: Name of the feedback that clients post.
        good_at_least: A value below it is a failure.
        required: No feedback is a failure too, and there is no promotion by evidence unless most
            requests of both sides have it.
        sampled: It is given by a judge model on a sample that is chosen without knowing the arm:
            what is not in the sample has no outcome of this kind, rather than a bad one.
    """

    name: str
    good_at_least: float = 0.5
    required: bool = False
    sampled: bool = False


class DeclaredMetric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One metric of live requests. Raises InvalidInput when it does not make sense.

    Attributes:
        source: One of `fairlead.rollout.sources.SOURCES`, or `feedback`.
        feedback: Which feedback, for that source only.
        worse: Which change of an amount is the bad one; more, for most.
        margin, tolerance, weight, budget: As in `fairlead.rollout.metrics.Metric`.
        promotes: Promotion needs evidence by it, too; else it can only roll back.
    """

    name: str
    source: str
    margin: float
    tolerance: float = 0.0
    weight: float = 1.0
    budget: float | None = None
    worse: Worse = "higher"
    promotes: bool = True
    feedback: FeedbackRule | None = None

    def __post_init__(self) -> None:
        where = f"metric {ascii(self.name)[:80]}"
        if not 0 < len(self.name) <= METRIC_NAME_MAX or UNCONFIRMED in self.name:
            raise InvalidInput(
                f"{where}: a name has 1 to {METRIC_NAME_MAX} characters, without {UNCONFIRMED!r}"
            )
        if self.source not in SOURCES and self.source != FEEDBACK:
            raise InvalidInput(
                f"{where}: source {ascii(self.source)[:80]} is not one of "
                f"{', '.join([*SOURCES, FEEDBACK])}"
            )
        if (self.source == FEEDBACK) != (self.feedback is not None):
            raise InvalidInput(f"{where}: feedback is for the source {FEEDBACK!r}, which needs it")
        if self.feedback is not None:
            check_feedback(where, self.feedback)
        if self.worse == "lower" and (self.from_gateway is None or not self.from_gateway.both_ways):
            raise InvalidInput(f"{where}: worse: lower makes no sense for {self.source}")
        self.tests(0.0)  # raises for figures that do not fit

    @property
    def from_gateway(self) -> Source | None:
        """Its source in the gateway's records; None for feedback."""
        return SOURCES.get(self.source)

    @property
    def sampled(self) -> bool:
        """Whether a judge model gives it, on a sample."""
        return self.feedback is not None and self.feedback.sampled

    @property
    def kind(self) -> MetricKind:
        """What its values are."""
        source = self.from_gateway
        return MetricKind.BINARY if source is None else source.kind

    def tests(self, failures_tolerated: float, prior_rate: float = 0.05) -> list[Metric]:
        """What is tested of it: one metric, or the two outcomes of a feedback.

        Args:
            failures_tolerated: How much more often the canary may fail. A failed request is bad in
                every rate, so what is tolerated of failures is tolerated of rates as well.
        """
        more = failures_tolerated if self.kind is MetricKind.BINARY else 0.0
        names = [self.name] if self.feedback is None else [self.name, self.name + UNCONFIRMED]
        return [
            Metric(
                name=name,
                kind=self.kind,
                margin=min(self.margin + more, 0.5) if more else self.margin,
                tolerance=self.tolerance + more,
                weight=self.weight / len(names),
                budget=self.budget if name == self.name else None,
                expected=prior_rate,
                expected_units=PRIOR_UNITS,
                inverse=self.worse == "lower",
                promotes=self.promotes,
            )
            for name in names
        ]


PRIOR_UNITS = 20.0
"""What the expected rate of a declared metric is worth: it is a guess."""


def check_feedback(where: str, rule: FeedbackRule) -> None:
    """Raises InvalidInput."""
    if not 0 < len(rule.name) <= FEEDBACK_NAME_MAX:
        raise InvalidInput(f"{where}: feedback.name must have 1 to {FEEDBACK_NAME_MAX} characters")


def check_declared(metrics: tuple[DeclaredMetric, ...], taken: tuple[str, ...]) -> None:
    """Raises InvalidInput for too many, or a name that is there twice."""
    if len(metrics) > DECLARED_MAX:
        raise InvalidInput(f"metrics: {len(metrics)} of them; at most {DECLARED_MAX}")
    names = set(taken)
    for metric in metrics:
        if metric.name in names:
            raise InvalidInput(f"metrics: the name {metric.name!r} is there twice, or is ours")
        names.add(metric.name)
    if {"format", "json"} <= {metric.source for metric in metrics}:
        raise InvalidInput(
            "metrics: json and format are both declared",
            hint="json is for all answers, and says all that format does",
        )


def facts_of(metrics: tuple[DeclaredMetric, ...]) -> tuple[str, ...]:
    """What the gateway has to look for in answers so that these can be judged."""
    sources = [metric.from_gateway for metric in metrics]
    return tuple(sorted({s.fact for s in sources if s is not None and s.fact is not None}))
