"""The metrics file of `fairlead rollout replay`: which metrics, and how they are judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fairlead.manifest.loading import check, read_text
from fairlead.manifest.values import Share, Strict
from fairlead.manifest.vocabulary import Vocabulary


class MetricEntry(Strict):
    """One metric."""

    name: str = Field(min_length=1, max_length=100, description="As observations name it.")
    kind: Literal["binary", "latency", "tokens", "cost"] = Field(
        default="binary", description="Bad or not, or one amount per unit of which more is worse."
    )
    bad: bool = Field(default=True, description="Which value of a binary metric is the bad one.")
    margin: float = Field(
        default=0.05,
        gt=0,
        le=10,
        description="By how much the canary must be shown not to be worse to be promoted: a rate "
        "of a binary metric, a ratio of others (0.1 is 10 % more).",
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        lt=10,
        description="By how much it may be worse before it is rolled back, likewise.",
    )
    weight: float = Field(
        default=1.0, gt=0, le=1e6, description="In the average evidence for a rollback."
    )
    budget: Share | None = Field(
        default=None,
        description="Highest rate of a binary metric whatever the champion's is, for what must "
        "hardly ever happen.",
    )
    expected: Share = Field(
        default=0.05, description="The champion's rate as far as known; it steers the bets."
    )
    expected_units: float = Field(
        default=100.0, ge=1, le=1e9, description="How many observations that is worth."
    )
    inverse: bool = Field(default=False, description="Less of an amount is the worse.")
    promotes: bool = Field(
        default=True, description="Promotion needs evidence by it; else it can only roll back."
    )
    missing: Literal["worst", "skip"] = Field(
        default="worst",
        description="A unit without a line of this metric counts as the worst there is, or, where "
        "the metric does not apply to it, as nothing.",
    )


class SuiteEntry(Strict):
    """One suite that was run again while releases got their traffic."""

    name: str = Field(min_length=1, max_length=64, description="As pairs name it.")
    margin: float = Field(
        default=0.05,
        gt=0,
        le=0.5,
        description="How much worse the mean score must be shown not to be, to be promoted.",
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="How much worse it may be before the canary is rolled back.",
    )
    promotes: bool = Field(
        default=True, description="Promotion needs evidence by it; else it can only roll back."
    )
    incomplete: bool = Field(
        default=False,
        description="Not all its pairs were kept, and none is given: there is no promotion then.",
    )


class MetricsFile(Strict):
    """All metrics of a rollout, and its error rates."""

    metrics: list[MetricEntry] = Field(min_length=1, max_length=50, description="The metrics.")
    alpha: float = Field(
        default=0.01,
        ge=1e-10,
        le=0.5,
        description="Highest probability to roll back a canary that is worse in no metric.",
    )
    beta: float = Field(
        default=0.05,
        ge=1e-10,
        le=0.5,
        description="Highest probability to promote one that is worse by the margin in a metric.",
    )
    judged_at: int | None = Field(
        default=None,
        ge=1,
        description="Units after which the verdict is taken, and not before, as in the live "
        "rollout that was exported.",
    )
    strata: Annotated[tuple[str, ...], Field(strict=False, max_length=40)] | None = Field(
        default=None,
        description="Names of the strata of risk, as observations give them in `stratum`. An "
        "export has a list here, be it empty; one without is of an older build.",
    )
    suites: tuple[SuiteEntry, ...] = Field(
        default=(),
        strict=False,
        max_length=10,
        description="Suites that were run again, of which there are pairs.",
    )


def load_metrics(path: Path) -> MetricsFile:
    """Read and check; raises ManifestError, one line `path:line: what is wrong` per mistake."""
    text = read_text(path, hint="docs/verdicts.md has one to start from")
    return check(
        text, path, MetricsFile, Vocabulary("the metrics file", MetricsFile.model_json_schema())
    )
