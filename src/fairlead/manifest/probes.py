"""The manifest's `probes`: how a provider is watched for changes that nobody shipped."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fairlead.manifest.gates import FORMATS, Columns, Scorer, SuiteFormat
from fairlead.manifest.receivers import Url
from fairlead.manifest.values import FilePath, Strict, shown, wrong


class Probes(Strict):
    """A pinned set of questions that the champion is asked again and again."""

    suite: FilePath = Field(
        description="File with the probes (.yaml, .jsonl or .csv), relative to this file."
    )
    columns: Columns = Field(
        default_factory=Columns, description="How the suite's columns are called."
    )
    scorer: Scorer | None = Field(
        default=None,
        description="How answers to cases with an expected value are scored, to be compared, too.",
    )
    requests: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Cases that are asked in each round: always the same ones, chosen by hash.",
    )
    interval_minutes: float = Field(
        default=60.0, ge=0.02, le=10_080, description="Time from one round to the next."
    )
    reference_rounds: int = Field(
        default=24,
        ge=8,
        le=1_000,
        description=(
            "Rounds that are the reference: the first quarter is what answers are compared with, "
            "the rest says how far they differ while nothing changes."
        ),
    )
    temperature: float | None = Field(
        default=0.0, ge=0, le=2, description="Sent with each probe; null for the release's own."
    )
    seed: int | None = Field(
        default=1, ge=0, lt=2**32, description="Sent with each probe; null for the release's own."
    )
    alpha: float = Field(
        default=0.01,
        ge=1e-9,
        le=0.5,
        description="Probability of ever reporting a provider that has not changed.",
    )
    usd_per_day: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="No more probes on a (UTC) day on which they have cost so much.",
    )
    on_change: Literal["alert", "fallback"] = Field(
        default="alert",
        description=(
            "alert: a change is told. fallback: the service's fallbacks answer as well, until "
            "somebody accepts it or another release is shipped."
        ),
    )
    webhooks: tuple[Url, ...] = Field(
        default=(), strict=False, max_length=10, description="Told of a change, by POST."
    )
    timeout_seconds: float = Field(
        default=60.0, ge=0.1, le=3_600, description="How long one answer may take."
    )

    @field_validator("suite")
    @classmethod
    def _has_a_format(cls, suite: FilePath) -> FilePath:
        if suite.suffix.lower() not in FORMATS:
            raise wrong(f"must end in .yaml, .jsonl or .csv, not {shown(suite.suffix)}")
        return suite

    @property
    def suite_format(self) -> SuiteFormat:
        """How the suite is written, by its file's name."""
        return FORMATS[self.suite.suffix.lower()]
