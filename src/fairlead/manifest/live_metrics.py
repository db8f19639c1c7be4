"""The manifest's `rollout.metrics`: what live requests are judged by, beside their failures."""

from __future__ import annotations

import contextlib
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from fairlead.manifest.values import Share, Strict, shown, wrong

SourceName = Literal[
    "errors", "ttft_ms", "itl_ms", "duration_ms", "prompt_tokens", "completion_tokens", "cost",
    "refusal", "format", "json", "guardrail_hits",
]  # fmt: skip
SUITE = "suite"
AMOUNTS = ("ttft_ms", "itl_ms", "duration_ms", "prompt_tokens", "completion_tokens", "cost")
BOTH_WAYS = ("prompt_tokens", "completion_tokens")
MORE_MAX = 10.0
_RATE_MARGIN_MAX = 0.5
SUITE_FIELDS = frozenset({"cases", "every_minutes", "unanswered_minutes"})


def parse_more(value: object) -> float:
    """How much more, as a ratio: `25%` or `0.25`."""
    given = value
    if isinstance(value, str) and value.strip().endswith("%"):
        with contextlib.suppress(ValueError):
            value = float(value.strip().removesuffix("%")) / 100
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f'must be written as "25%" or 0.25, not {shown(given)}')
    if not 0.0 <= value <= MORE_MAX:
        raise wrong(f"must be between 0% and {MORE_MAX:.0%}, not {shown(given)}")
    return float(value)


More = Annotated[
    float,
    BeforeValidator(parse_more),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": MORE_MAX},
                {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%$"},
            ]
        }
    ),
]


class LiveMetric(Strict):
    """One metric: a figure of the gateway, or what clients say."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="How verdicts call it; its source or its feedback if it is not given.",
    )
    source: SourceName | Literal["suite"] | None = Field(
        default=None,
        description=(
            "A figure of each request: errors; ttft_ms, itl_ms, duration_ms: milliseconds to the "
            "first token, between tokens, to the end; prompt_tokens, completion_tokens; cost: by "
            "`release.price`; refusal: the answer declines to help; format: the request asked for "
            "JSON, a schema or tools, and got something else; json: every answer is to be JSON; "
            "guardrail_hits: it hit a guardrail. suite: the cases of a gate, asked again of both "
            "releases while clients use them."
        ),
    )
    suite: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="With `source: suite`: name of the gate whose cases and scorer it has.",
    )
    cases: int = Field(
        default=50,
        ge=1,
        le=1_000,
        description="Cases of the suite that each run asks of both releases; each case once in a "
        "rollout.",
    )
    every_minutes: float | None = Field(
        default=None,
        ge=1,
        le=10_080,
        allow_inf_nan=False,
        description="Time from one run of the suite to the next; if not given, one at each step, "
        "and at the last step one after the other until there is a verdict.",
    )
    unanswered_minutes: float = Field(
        default=10.0,
        ge=1,
        le=10_080,
        allow_inf_nan=False,
        description="The rollout ends when nobody has answered any case of the suite for so long.",
    )
    feedback: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="In the place of a source: name of a feedback value that clients post.",
    )
    good_at_least: float = Field(
        default=1.0, description="Values of the feedback from here on count as good."
    )
    required: bool = Field(
        default=False,
        description="Nothing is promoted while most units are without this feedback.",
    )
    worse: Literal["higher", "lower"] = Field(
        default="higher",
        description="Which change is the bad one; `lower` for tokens that should not become fewer.",
    )
    margin: More | None = Field(
        default=None,
        description=(
            "Promotion needs evidence that the canary is not worse by this much: percentage points "
            "of a rate (the rollout's margin if not given), a ratio of others (25% if not given)."
        ),
    )
    tolerance: More | None = Field(
        default=None,
        description=(
            "How much worse it may be before it is rolled back, likewise; if not given, 0 for a "
            "rate and two fifths of the margin for others."
        ),
    )
    weight: float = Field(
        default=1.0,
        gt=0,
        le=1_000,
        allow_inf_nan=False,
        description="In the average evidence for a rollback; the failures have 1, and 2 with "
        "feedback.",
    )
    budget: Share | None = Field(
        default=None,
        description="Highest rate whatever the champion's is, for what must hardly ever happen.",
    )
    needed_to_promote: bool = Field(
        default=True,
        description="Promotion needs evidence by it, too. Else it can only roll back.",
    )

    @model_validator(mode="after")
    def _fits(self) -> LiveMetric:
        if (self.source is None) == (self.feedback is None):
            raise wrong("needs one of source and feedback, not both")
        if self.feedback is None and {"good_at_least", "required"} & self.model_fields_set:
            raise wrong("good_at_least and required are for a feedback")
        if (self.source == SUITE) != (self.suite is not None):
            raise wrong("source: suite needs suite, the name of a gate; and suite that source")
        if self.suite is None and SUITE_FIELDS & self.model_fields_set:
            raise wrong(f"{', '.join(sorted(SUITE_FIELDS))} are for source: suite")
        if self.suite is not None and {"budget", "weight", "worse"} & self.model_fields_set:
            raise wrong("budget, weight and worse are not for source: suite")
        if self.worse == "lower" and self.source not in BOTH_WAYS:
            raise wrong(f"lower is for {' and '.join(BOTH_WAYS)}", at=("worse",))
        if self.is_amount and self.budget is not None:
            raise wrong("is for rates, not for amounts", at=("budget",))
        if self.budget is not None and not 0.0 < self.budget <= _RATE_MARGIN_MAX:
            raise wrong("must be above 0% and at most 50%", at=("budget",))
        least, most = 0.0005, MORE_MAX if self.is_amount else _RATE_MARGIN_MAX
        if self.margin is not None and not least <= self.margin <= most:
            raise wrong(f"must be between {least:.2%} and {most:.0%}", at=("margin",))
        return self

    @property
    def is_amount(self) -> bool:
        """Whether it is an amount, of which the figures are ratios."""
        return self.source in AMOUNTS

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or self.suite or self.source or self.feedback or ""

    def margins(self, margin: float) -> tuple[float, float]:
        """Its margin and its tolerance; `margin` is the rollout's."""
        own = self.margin or (0.25 if self.is_amount else margin)
        if self.tolerance is not None:
            return own, self.tolerance
        return own, 0.4 * own if self.is_amount else 0.0


WATCHED = tuple(
    LiveMetric(source=source, margin=1.0, tolerance=0.5, weight=0.1, needed_to_promote=False)
    for source in ("ttft_ms", "duration_ms")
)
"""What is watched where nothing is declared: a release half as slow again, with nobody having said
that it may be, goes back. A small weight, because it must not cost the failures their speed."""


def check_metrics(metrics: tuple[LiveMetric, ...], margin: float, *, has_steps: bool) -> None:
    """Raises what pydantic shows, at the place of the mistake.

    Args:
        has_steps: Whether there are steps at which suites are run.
    """
    names = {"failed", "unconfirmed"}
    for index, metric in enumerate(metrics):
        if metric.called in names or metric.called.endswith(" unconfirmed"):
            raise wrong(
                f"the name {shown(metric.called)} is taken: give it a name of its own",
                at=("metrics", index, "name"),
            )
        if metric.suite is not None and metric.needed_to_promote and not has_steps:
            raise wrong(
                "a suite is run at the steps of a rollout, and this one has none: name a strategy "
                "with steps, or take it out",
                at=("metrics", index, "suite"),
            )
        names.add(metric.called)
        own, tolerance = metric.margins(margin)
        if own <= tolerance:
            raise wrong(
                f"must be above the tolerance, {tolerance:g}", at=("metrics", index, "margin")
            )
