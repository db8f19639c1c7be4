"""A release's `guardrails`: what its prompts and answers must not have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from fairlead.domain.capture import REDACTIONS, Redaction
from fairlead.domain.guardrail import (
    CHARACTERS_MAX,
    GUARDRAILS_MAX,
    PATTERN_CHARS_MAX,
    PATTERNS_MAX,
    PHRASE_CHARS_MAX,
    PHRASES_MAX,
    TOO_LARGE,
    is_name,
    pattern_problem,
    phrase_problem,
    schema_problem,
    too_large,
)
from fairlead.domain.guardrail import Guardrail as Declared
from fairlead.manifest.values import Strict, nearest, shown, wrong

KINDS = ("deny", "pii", "injection", "max_characters", "schema")


def _name(value: object) -> object:
    if isinstance(value, str) and not is_name(value):
        raise wrong(
            "must be a name of lower-case letters, digits, '-' and '_', at most 40 of them, "
            f"not {shown(value)}"
        )
    return value


def _phrase(value: object) -> object:
    if isinstance(value, str) and (problem := phrase_problem(value)):
        raise wrong(f"cannot be used: {problem}")
    return value


def _pattern(value: object) -> object:
    if isinstance(value, str) and (problem := pattern_problem(value)):
        raise wrong(f"cannot be used: {problem}")
    return value


def _redaction(value: object) -> object:
    if not isinstance(value, str) or value in REDACTIONS:
        return value
    near = nearest(value, list(REDACTIONS))
    known = f'did you mean "{near}"?' if near else f"there are: {', '.join(REDACTIONS)}"
    raise wrong(f"is nothing that can be looked for: {shown(value)} ({known})")


class Pattern(Strict):
    """A regular expression that is denied."""

    pattern: Annotated[str, BeforeValidator(_pattern)] = Field(
        max_length=PATTERN_CHARS_MAX,
        description=(
            "Regular expression without look-around and back-references; (?i) for any case."
        ),
    )


Phrase = Annotated[
    str,
    BeforeValidator(_phrase),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": PHRASE_CHARS_MAX}),
]


class Guardrail(Strict):
    """One guardrail. Exactly one of deny, pii, injection, max_characters and schema is given."""

    name: Annotated[str, BeforeValidator(_name)] = Field(
        max_length=40, description="Names it in records, metrics and errors."
    )
    on: Literal["prompt", "answer"] = Field(description="What is looked at.")
    action: Literal["flag", "block"] = Field(
        default="flag", description="Whether a hit is only recorded, or ends the request."
    )
    deny: list[Phrase | Pattern] | None = Field(
        default=None,
        min_length=1,
        max_length=PHRASES_MAX,
        description=(
            "Phrases that are found whatever their case and spacing, also inside of words, and "
            f"patterns ({{pattern: ...}}, at most {PATTERNS_MAX})."
        ),
    )
    pii: list[Annotated[Redaction, BeforeValidator(_redaction)]] | None = Field(
        default=None,
        min_length=1,
        max_length=len(REDACTIONS),
        description="What of persons and secrets is looked for; card and iban by their checksums.",
    )
    injection: Literal[True] | None = Field(
        default=None, description="Look for signs of well-known attempts at prompt injection."
    )
    max_characters: int | None = Field(
        default=None, ge=1, le=CHARACTERS_MAX, description="More characters than these are a hit."
    )
    json_schema: dict[str, Any] | None = Field(
        default=None,
        alias="schema",
        description="An answer that is no JSON, or does not fit this JSON Schema, is a hit.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Guardrail:
        given = [kind for kind in KINDS if self._of(kind) is not None]
        if len(given) != 1:
            said = " and ".join(given) if given else "none of them is there"
            raise wrong(f"must have exactly one of {', '.join(KINDS)}: {said}")
        if self.injection and self.on != "prompt":
            raise wrong("is looked for in prompts only", at=("injection",))
        if self.json_schema is not None:
            if self.on != "answer":
                raise wrong("is for answers only", at=("schema",))
            if problem := schema_problem(self.json_schema, len(_encoded(self.json_schema))):
                text = problem.removeprefix("schema: ")
                raise wrong(f"cannot be used: {text}", at=("schema",))
        patterns = [one for one in self.deny or () if isinstance(one, Pattern)]
        if len(patterns) > PATTERNS_MAX:
            raise wrong(f"has {len(patterns)} patterns; at most {PATTERNS_MAX}", at=("deny",))
        return self

    def _of(self, kind: str) -> object:
        return getattr(self, "json_schema" if kind == "schema" else kind)

    @property
    def declared(self) -> Declared:
        """The same as a release has it."""
        denied = self.deny or []
        return Declared(
            name=self.name,
            on=self.on,
            action=self.action,
            phrases=tuple(one for one in denied if isinstance(one, str)),
            patterns=tuple(one.pattern for one in denied if isinstance(one, Pattern)),
            pii=tuple(sorted(set(self.pii or ()))),
            injection=bool(self.injection),
            max_characters=self.max_characters or 0,
            schema="" if self.json_schema is None else _encoded(self.json_schema).decode(),
        )


def _encoded(schema: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(schema, order="sorted")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise wrong(f"cannot be stored: {error}", at=("schema",)) from None


def _distinct(value: object) -> object:
    if not isinstance(value, list):
        return value
    seen = set[str]()
    for index, one in enumerate(value):
        name = one.get("name") if isinstance(one, dict) else getattr(one, "name", None)
        if not isinstance(name, str):
            continue
        if name in seen:
            raise wrong(f"is that of an earlier guardrail: {shown(name)}", at=(index, "name"))
        seen.add(name)
    return value


def _within_all(given: list[Guardrail]) -> list[Guardrail]:
    beyond = too_large(guardrail.declared for guardrail in given)
    if beyond is not None:
        raise wrong(f"cannot be used: {TOO_LARGE}", at=beyond)
    return given


Guardrails = Annotated[
    list[Guardrail],
    BeforeValidator(_distinct),
    Field(max_length=GUARDRAILS_MAX),
    AfterValidator(_within_all),
]
"""Guardrails with names of their own."""
