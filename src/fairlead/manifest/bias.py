"""The manifest's `bias`: pairs of requests that are asked, and segments of the users."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fairlead.manifest.values import FilePath, GivenPath, Label, Strict, shown, wrong

BUILTIN = ("name", "gender", "origin", "age", "dialect")
TEMPLATES_MAX = 2_000
_TEMPLATES = ("templates", "known", "templates_file")
_NAME = r"^[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?$"

Name = Annotated[str, Field(pattern=_NAME)]
Text = Annotated[str, Field(min_length=1, max_length=4_000)]
Texts = Annotated[
    tuple[Text, ...],
    Field(strict=False, min_length=1, max_length=500),
]


class KnownTemplate(Strict):
    """A request with a known answer."""

    text: Text = Field(description='As in templates, such as "I am {age}. What is 2 + 2?".')
    expected: Text = Field(
        description="What a correct answer contains, as whole words in any case."
    )


class Segment(Strict):
    """Some of the live users: compared with all others, and watched for drift by themselves."""

    name: Label = Field(description="What it is called in alerts.")
    keys: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        strict=False,
        min_length=1,
        max_length=100,
        description="Names of the API keys with which they come.",
    )


class Scores(Strict):
    """Published benchmarks by which the champion is scored again and again. The files are yours."""

    bbq: GivenPath | None = Field(
        default=None,
        description="Folder with BBQ's files (*.jsonl), or one of them, relative to this file.",
    )
    crows: GivenPath | None = Field(
        default=None, description="CrowS-Pairs' file, crows_pairs_anonymized.csv."
    )
    items: int = Field(
        default=600,
        ge=20,
        le=5_000,
        description="Items of each that are asked: always the same ones, chosen by hash.",
    )
    every_minutes: float = Field(
        default=1_440.0, ge=0.02, le=10_080, description="Time from one run to the next."
    )
    per_run: int = Field(default=200, ge=1, le=5_000, description="Items of each that a run asks.")
    worse_by: float = Field(
        default=0.05,
        ge=0.01,
        le=0.5,
        description="By so much a score may be worse than the accepted one.",
    )
    usd_per_day: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="No more items of a benchmark on a (UTC) day on which they have cost so much.",
    )

    @model_validator(mode="after")
    def _names_one(self) -> Scores:
        if self.bbq is None and self.crows is None:
            raise wrong("need `bbq`, `crows` or both")
        return self


class Bias(Strict):
    """Are all treated alike? `bias: {}` asks the built-in pairs, in English."""

    attributes: dict[Name, dict[Name, Texts]] = Field(
        default_factory=dict,
        max_length=10,
        description="By attribute and group, the texts that stand for the group; those at the same "
        "place of two groups are a pair. The first group is what the others are compared with.",
    )
    templates: tuple[Text, ...] = Field(
        default=(),
        strict=False,
        max_length=TEMPLATES_MAX,
        description='Requests with the place of one attribute: "My name is {name}. Can I ...?".',
    )
    known: tuple[KnownTemplate, ...] = Field(
        default=(),
        strict=False,
        max_length=TEMPLATES_MAX,
        description="Requests of which it is known what a correct answer contains.",
    )
    templates_file: FilePath | None = Field(
        default=None, description="File with more of them, one in each line."
    )
    details: dict[Name, Texts] = Field(
        default_factory=dict,
        max_length=10,
        description="Other places in templates; each of their texts makes another request.",
    )
    builtin: tuple[Literal["name", "gender", "origin", "age", "dialect"], ...] | None = Field(
        default=None,
        strict=False,
        max_length=5,
        description="Built-in attributes with their own templates; all five if no attributes are "
        "given, else none.",
    )
    outcomes: tuple[Literal["refusal", "length", "sentiment", "correctness"], ...] = Field(
        default=("refusal", "length", "sentiment", "correctness"),
        strict=False,
        min_length=1,
        max_length=4,
        description="In what the answers of a pair are compared; correctness in `known` ones.",
    )
    every_minutes: float = Field(
        default=60.0, ge=0.02, le=10_080, description="Time from one round to the next."
    )
    pairs: int = Field(
        default=24,
        ge=0,
        le=1_000,
        description="Pairs in each round, over all attributes; 0 for segments alone.",
    )
    alpha: float = Field(
        default=0.01,
        ge=1e-9,
        le=0.5,
        description=(
            "Probability of ever reporting a release that treats all alike: of the pairs, and as "
            "much again of the scores."
        ),
    )
    max_tokens: int | None = Field(
        default=200,
        ge=1,
        le=100_000,
        description="Sent with each request; null for the release's own.",
    )
    usd_per_day: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="No more pairs on a (UTC) day on which they have cost so much.",
    )
    timeout_seconds: float = Field(
        default=60.0, ge=0.1, le=3_600, description="How long one answer may take."
    )
    segments: tuple[Segment, ...] = Field(
        default=(),
        strict=False,
        max_length=20,
        description="Parts of the live users that are compared with all others, and whose drift is "
        "watched by itself (the first eight, where `capture` keeps prompts).",
    )
    scores: Scores | None = Field(
        default=None, description="Published benchmarks by which it is scored on a schedule."
    )

    @field_validator("segments")
    @classmethod
    def _names_differ(cls, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        for index, segment in enumerate(segments):
            if segment.name in [other.name for other in segments[:index]]:
                raise wrong(
                    f"{shown(segment.name)} is the name of an earlier segment", at=(index, "name")
                )
        return segments

    @model_validator(mode="after")
    def _fits(self) -> Bias:
        given = [name for name in _TEMPLATES if getattr(self, name)]
        if self.attributes and not given:
            raise wrong("need `templates`, `known` or `templates_file`", at=("attributes",))
        if given and not self.attributes:
            raise wrong("needs `attributes`, whose places it has", at=(given[0],))
        if self.pairs == 0 and not self.segments and self.scores is None:
            what = "is 0 and there are no segments and no scores: nothing is compared"
            raise wrong(what, at=("pairs",))
        if self.builtin is not None and len(set(self.builtin)) != len(self.builtin):
            raise wrong("names one twice", at=("builtin",))
        if self.builtin == () and not self.attributes:
            raise wrong("names none, and there are no attributes", at=("builtin",))
        return self

    @property
    def builtin_names(self) -> tuple[str, ...]:
        """Which built-in attributes are asked."""
        if self.builtin is not None:
            return self.builtin
        return () if self.attributes else BUILTIN
