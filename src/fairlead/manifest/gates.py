"""The manifest's `gates`: suite, scorer, and what a release must reach."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator
from pydantic_core import SchemaError, SchemaValidator, core_schema

from fairlead.manifest.values import FilePath, Label, Share, Strict, existing_file, shown, wrong

SCHEMA_BYTES_MAX = 1 << 20
SuiteFormat = Literal["yaml", "jsonl", "csv"]
FORMATS: dict[str, SuiteFormat] = {
    ".yaml": "yaml", ".yml": "yaml", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv",
}  # fmt: skip


class ExactScorer(Strict):
    """1 when the answer is the expected text (or one of several)."""

    kind: Literal["exact"] = Field(description="The answer is the expected text.")
    ignore_case: bool = Field(default=False, description="Take A and a for the same.")
    strip: bool = Field(default=True, description="Leave out white space at both ends.")


class ContainsScorer(Strict):
    """The share of the expected texts that the answer contains."""

    kind: Literal["contains"] = Field(description="The answer contains the expected text.")
    ignore_case: bool = Field(default=False, description="Take A and a for the same.")


def _linear_pattern(value: object) -> object:
    """Check that it compiles in the engine that matches in linear time (as the scorer will)."""
    if isinstance(value, str):
        try:
            SchemaValidator(core_schema.str_schema(pattern=value, regex_engine="rust-regex"))
        except SchemaError as error:
            why = str(error).strip().splitlines()[-1].strip().removeprefix("error: ")
            raise wrong(f"is not a regular expression: {why}") from None
    return value


class RegexScorer(Strict):
    """1 when the pattern is found in the answer."""

    kind: Literal["regex"] = Field(description="A pattern is found in the answer.")
    pattern: Annotated[str, BeforeValidator(_linear_pattern)] | None = Field(
        default=None,
        max_length=1_000,
        description=(
            "Regular expression (linear-time syntax: no look-around, no back-references); each "
            "case's expected value if not given."
        ),
    )


def _schema_document(value: object, info: ValidationInfo) -> object:
    """A JSON Schema written in place, or read from the file that is named."""
    if not isinstance(value, str):
        return value
    path = existing_file(value, info)
    try:
        with path.open("rb") as file:
            data = file.read(SCHEMA_BYTES_MAX + 1)
    except OSError as error:
        raise wrong(f"cannot be read: {value}: {error.strerror}") from None
    if len(data) > SCHEMA_BYTES_MAX:
        raise wrong(f"is larger than {SCHEMA_BYTES_MAX} bytes: {value}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise wrong(f"is not JSON: {value}: {error}") from None
    if not isinstance(document, dict):
        raise wrong(f"must hold a JSON object: {value}")
    return document


class JsonSchemaScorer(Strict):
    """1 when the answer is JSON that its schema accepts."""

    kind: Literal["json_schema"] = Field(description="The answer is JSON that a schema accepts.")
    json_schema: Annotated[
        dict[str, Any],
        BeforeValidator(_schema_document),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
    ] = Field(
        alias="schema",
        description="JSON Schema (2020-12) written here, or the path of a JSON file with it.",
    )


class JsonFieldScorer(Strict):
    """1 when one field of the JSON answer has the expected value."""

    kind: Literal["json_field"] = Field(
        description="One field of the JSON answer has the expected value."
    )
    field: str = Field(
        min_length=1,
        max_length=200,
        description="Name of the field; `a.b` is field b within a, `a.0` the first item of a.",
    )


class NumericScorer(Strict):
    """1 when the last number in the answer is near enough to the expected one."""

    kind: Literal["numeric"] = Field(
        description="The last number in the answer is near the expected one."
    )
    absolute: float = Field(default=0.0, ge=0, description="Largest difference allowed.")
    relative: float = Field(
        default=0.0, ge=0, description="Or this times the expected number, if that is more."
    )


def _kind_alone(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


Scorer = Annotated[
    Annotated[
        ExactScorer | ContainsScorer | RegexScorer | JsonSchemaScorer | JsonFieldScorer
        | NumericScorer,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_kind_alone),
]  # fmt: skip


class Columns(Strict):
    """Names of the columns (CSV) or keys (JSONL, YAML) of a suite."""

    input: str = Field(
        default="input", min_length=1, description="Column of the question, or of the messages."
    )
    expected: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the expected value; `expected`, if there is one, when not given.",
    )
    id: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the case's name; `id`, if there is one, when not given.",
    )
    tags: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Column of the tags by which results are broken down (`;` between several); `tags`, "
            "if there is one, when not given."
        ),
    )


class NonInferiority(Strict):
    """Comparison with the champion on the same cases."""

    margin: float = Field(
        ge=0, lt=1, description="How much lower than the champion's the mean score may be."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Confidence of each (one-sided) bound."
    )


class Gate(Strict):
    """A rule that a release must pass before it gets traffic."""

    name: Label = Field(description="Name of the gate.")
    suite: FilePath = Field(
        description="File with the cases (.yaml, .jsonl or .csv), relative to this file."
    )
    columns: Columns = Field(
        default_factory=Columns, description="How the suite's columns are called."
    )
    scorer: Scorer = Field(description="How an answer is scored; the kind alone may be given.")
    cases: int | None = Field(
        default=None,
        ge=1,
        description="Use at most so many cases: always the same ones, chosen by hash.",
    )
    minimum: Share | None = Field(default=None, description="Least mean score.")
    non_inferiority: NonInferiority | None = Field(
        default=None, description="Comparison with the champion; skipped for a first release."
    )
    errors_at_most: Share = Field(
        default=0.05,
        description="Share of cases that may end without an answer; more is inconclusive.",
    )
    concurrency: int = Field(
        default=8, ge=1, le=256, description="Cases that are asked at the same time."
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> Gate:
        if self.suite.suffix.lower() not in FORMATS:
            raise wrong(
                f"must end in .yaml, .jsonl or .csv, not {shown(self.suite.suffix)}", at=("suite",)
            )
        if self.minimum is None and self.non_inferiority is None:
            raise wrong('asks for nothing: give "minimum" or "non_inferiority"')
        return self

    @property
    def suite_format(self) -> SuiteFormat:
        """How the suite is written, by its file's name."""
        return FORMATS[self.suite.suffix.lower()]

    @property
    def scorer_document(self) -> dict[str, Any]:
        """The scorer as JSON: `kind` and its settings."""
        document: dict[str, Any] = self.scorer.model_dump(by_alias=True, exclude_none=True)
        return document


def check_gates(gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """Gates are known by name, so that no two may share one."""
    names: set[str] = set()
    for index, gate in enumerate(gates):
        if gate.name in names:
            raise wrong(f'"{gate.name}" is the name of an earlier gate', at=(index, "name"))
        names.add(gate.name)
    return gates
