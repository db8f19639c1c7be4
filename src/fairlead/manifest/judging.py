"""The manifest's `capture` and `judge`: what is kept of live traffic, and which model grades it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from fairlead.domain.capture import (
    BYTES_MAX,
    PATTERNS_MAX,
    PER_MINUTE_MAX,
    REDACTIONS,
    Redaction,
)
from fairlead.domain.judging import RUBRIC, RUBRIC_CHARS_MAX
from fairlead.domain.pattern_size import size_problem
from fairlead.domain.patterns import PATTERN_CHARS_MAX, BadPattern, check_pattern
from fairlead.manifest.release import Price
from fairlead.manifest.sources import RemoteSource, is_remote, parse_source
from fairlead.manifest.values import EnvName, ServiceName, Share, Size, Strict, shown, wrong


def _pattern(value: object) -> object:
    if isinstance(value, str):
        if problem := size_problem(value):
            raise wrong(f"cannot be used: {problem}")
        try:
            check_pattern(value)
        except BadPattern as error:
            raise wrong(f"is not a regular expression: {error}") from None
    return value


class Capture(Strict):
    """A sample of prompts and answers. Nothing is kept without this section."""

    share: Share = Field(
        description="Share of the units (sessions, users or keys) whose requests are kept."
    )
    prompts: bool = Field(default=True, description="Keep what is asked.")
    answers: bool = Field(default=True, description="Keep what is answered.")
    size: Size = Field(
        default=16 * 1024,
        ge=64,
        le=BYTES_MAX,
        description="Most that is kept of a prompt, and of an answer; the rest is cut.",
    )
    per_minute: int = Field(
        default=60,
        ge=1,
        le=PER_MINUTE_MAX,
        description="Most samples in a minute; further requests of it are not kept.",
    )
    retention_hours: float = Field(
        default=72.0, gt=0.0003, le=2_160, description="Samples are deleted after so long."
    )
    redact: tuple[Redaction, ...] = Field(
        default=REDACTIONS,
        strict=False,
        max_length=len(REDACTIONS),
        description=(
            "What is replaced before anything is written: e-mail addresses, phone numbers, card "
            "numbers, IBANs, and API keys, tokens and passwords."
        ),
    )
    patterns: tuple[
        Annotated[
            str, Field(min_length=1, max_length=PATTERN_CHARS_MAX), BeforeValidator(_pattern)
        ],
        ...,
    ] = Field(
        default=(),
        strict=False,
        max_length=PATTERNS_MAX,
        description=(
            "Regular expressions of what is replaced besides (linear-time syntax: no look-around, "
            "no back-references)."
        ),
    )

    @model_validator(mode="after")
    def _keeps_something(self) -> Capture:
        if self.share <= 0.0:
            raise wrong(f"must be above 0%, not {shown(self.share)}", at=("share",))
        if not self.prompts and not self.answers:
            raise wrong("keeps neither prompts nor answers; leave it out")
        return self


def _remote(value: object, info: ValidationInfo) -> object:
    if not is_remote(value):
        raise wrong(f"must have the form openai://host/v1?model=NAME, not {shown(value)}")
    return parse_source(value, info)


RemoteModelSource = Annotated[
    RemoteSource, BeforeValidator(_remote), WithJsonSchema({"type": "string", "minLength": 1})
]


class Budget(Strict):
    """What judging may cost. When it is used up, the queue stands, and says so."""

    usd_per_day: float | None = Field(
        default=None, ge=0, le=1e6, description="USD in a day (UTC); needs a price."
    )
    usd_per_rollout: float | None = Field(
        default=None, ge=0, le=1e6, description="USD for one rollout; needs a price."
    )
    per_day: int | None = Field(
        default=10_000, ge=0, le=10**9, description="Questions in a day (UTC)."
    )
    per_rollout: int | None = Field(
        default=5_000, ge=0, le=10**9, description="Questions for one rollout."
    )


class LiveJudge(Strict):
    """The judge model grades the champion's live answers outside rollouts, too."""

    share: Share = Field(
        default=1.0, description="Share of the units in the sample (`capture`) that are judged."
    )
    per_day: int | None = Field(
        default=1_000,
        ge=1,
        le=10**9,
        description="Questions in a day (UTC), spread over it; at most half of `judge.budget`'s.",
    )
    usd_per_day: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="USD in a day (UTC), spread over the day; needs `judge.price`.",
    )

    @model_validator(mode="after")
    def _judges_something(self) -> LiveJudge:
        if self.share <= 0.0:
            raise wrong(f"must be above 0%, not {shown(self.share)}", at=("share",))
        return self


class Judge(Strict):
    """A model that grades sampled answers, without knowing which release gave them."""

    service: ServiceName | None = Field(
        default=None, description="Another service of this installation, whose champion grades."
    )
    model: RemoteModelSource | None = Field(
        default=None,
        description=(
            "Or a model elsewhere: openai://host/v1?model=NAME "
            "(openai+http:// without TLS, on loopback only)."
        ),
    )
    api_key_env: EnvName | None = Field(
        default=None,
        description="Environment variable that holds the provider's key.",
    )
    api_key_file: str | None = Field(
        default=None,
        pattern=r"^/[^\x00]{1,1023}$",
        description="Absolute path of a file with the provider's key.",
    )
    price: Price | None = Field(default=None, description="What its tokens cost.")
    rubric: str = Field(
        default=RUBRIC,
        min_length=1,
        max_length=RUBRIC_CHARS_MAX,
        description="What makes an answer good, in words that the judge is given.",
    )
    scale: tuple[int, int] = Field(
        default=(1, 5), strict=False, description="Lowest and highest score, whole numbers."
    )
    good_at_least: float = Field(default=4.0, description="Scores from here on count as good.")
    share: Share = Field(
        default=1.0, description="Share of the units in the sample whose answers are graded."
    )
    timeout_seconds: float = Field(
        default=60.0, ge=0.1, le=3_600, description="How long one question may take."
    )
    concurrency: int = Field(default=2, ge=1, le=64, description="Questions at the same time.")
    attempts: int = Field(
        default=3,
        ge=1,
        le=10,
        description="How often it is asked until it is left without a score.",
    )
    max_tokens: int = Field(default=256, ge=8, le=8_192, description="Tokens of one verdict.")
    budget: Budget = Field(default_factory=Budget, description="What judging may cost.")

    @model_validator(mode="after")
    def _parts_fit(self) -> Judge:
        if (self.service is None) == (self.model is None):
            raise wrong("needs either a service or a model")
        if self.model is None and (self.api_key_env or self.api_key_file):
            raise wrong("has a provider's key, but no model")
        if self.api_key_env and self.api_key_file:
            raise wrong("has api_key_env and api_key_file; give one of them")
        low, high = self.scale
        if not 1 <= high - low <= 1_000:
            raise wrong("must rise, by at most 1000", at=("scale",))
        if not low <= self.good_at_least <= high:
            raise wrong(f"must be on the scale, from {low} to {high}", at=("good_at_least",))
        if self.share <= 0.0:
            raise wrong(f"must be above 0%, not {shown(self.share)}", at=("share",))
        budget = self.budget
        if self.price is None and (budget.usd_per_day, budget.usd_per_rollout) != (None, None):
            raise wrong("has a bound in USD, which needs judge.price", at=("budget",))
        return self
