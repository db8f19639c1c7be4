"""Scorers: how good an answer is, from 0 to 1.

Each kind is one struct and one function, declared once in `_KINDS`. A scorer sees the answer's text
and the case's expected value and nothing else. What it cannot judge raises CannotScore: that is a
mistake in the suite or the scorer, never a bad answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.json_schemas import BadSchema, check_schema, violation
from fairlead.domain.patterns import BadPattern, check_pattern, found
from fairlead.domain.release import sha256_digest
from fairlead.evaluation.cases import Suite

ANSWER_CHARS_MAX = 200_000
PROBLEMS_MAX = 20
VERSION = 1
"""Part of each scorer's digest; raised when a scorer comes to score the same answer differently."""


class Exact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="exact"):
    """1 when the answer is the expected text, or one of a list of texts."""

    ignore_case: bool = False
    strip: bool = True


class Contains(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="contains"
):
    """The share of the expected texts (one, or a list) that the answer contains."""

    ignore_case: bool = False


class Regex(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="regex"):
    """1 when the pattern (the case's expected value if None) is found in the answer."""

    pattern: str | None = None


class JsonSchema(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="json_schema"
):
    """1 when the answer is JSON that the schema (draft 2020-12) accepts."""

    schema: dict[str, Any]


class JsonField(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="json_field"
):
    """1 when a field of the JSON answer equals the expected value.

    `field` is a path: `a.b` is field b within a, `a.0` the first item of a. Expected text also
    equals a number, boolean or null that is written the same, since CSV has text only.
    """

    field: str


class Numeric(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numeric"
):
    """1 when the last number in the answer is within max(absolute, relative * |expected|)."""

    absolute: float = 0.0
    relative: float = 0.0


Scorer = Exact | Contains | Regex | JsonSchema | JsonField | Numeric


class Score(NamedTuple):
    """A score in [0, 1] and why it is not 1 (empty when it is)."""

    value: float
    reason: str = ""


class CannotScore(ValueError):
    """Scorer and expected value do not fit each other; says nothing of the answer."""


def score(scorer: Scorer, answer: str, expected: Any) -> Score:
    """Score one answer; raises CannotScore."""
    if len(answer) > ANSWER_CHARS_MAX:
        return Score(0.0, f"an answer of {len(answer)} characters, {ANSWER_CHARS_MAX} are scored")
    kind: Callable[[Any, str, Any], Score] = _KINDS[type(scorer)]
    return kind(scorer, answer, expected)


def scorer_digest(scorer: Scorer) -> str:
    """`sha256:<hex>` under which results by this scorer are kept."""
    return sha256_digest(msgspec.json.encode([VERSION, scorer], order="sorted"))


def check_scorer(scorer: Scorer, suite: Suite) -> None:
    """Raises InvalidInput when the scorer cannot score some of the suite's cases, naming them."""
    problems: list[str] = []
    try:
        if isinstance(scorer, JsonSchema):
            check_schema(scorer.schema)
        if isinstance(scorer, Regex) and scorer.pattern is not None:
            check_pattern(scorer.pattern)
    except (BadSchema, BadPattern) as error:
        raise InvalidInput(f"the scorer cannot be used: {error}") from None
    for number, case in enumerate(suite.cases, start=1):
        try:
            score(scorer, "", case.expected)
        except CannotScore as error:
            problems.append(f"case {number} ({case.id}): {error}")
            if len(problems) >= PROBLEMS_MAX:
                break
    if problems:
        raise InvalidInput("\n".join(problems))


def _exact(scorer: Exact, answer: str, expected: Any) -> Score:
    def normal(text: str) -> str:
        text = text.strip() if scorer.strip else text
        return text.casefold() if scorer.ignore_case else text

    texts = _texts(expected)
    if normal(answer) in (normal(text) for text in texts):
        return Score(1.0)
    return Score(0.0, f"{_cut(answer)} is not {' or '.join(_cut(text) for text in texts[:3])}")


def _contains(scorer: Contains, answer: str, expected: Any) -> Score:
    def normal(text: str) -> str:
        return text.casefold() if scorer.ignore_case else text

    texts = _texts(expected)
    within = normal(answer)
    lacking = [text for text in texts if normal(text) not in within]
    if not lacking:
        return Score(1.0)
    return Score(
        1 - len(lacking) / len(texts), f"lacks {', '.join(_cut(text) for text in lacking[:3])}"
    )


def _regex(scorer: Regex, answer: str, expected: Any) -> Score:
    pattern = expected if scorer.pattern is None else scorer.pattern
    if not isinstance(pattern, str):
        raise CannotScore("the expected value must be a pattern (text)")
    try:
        if found(pattern, answer):
            return Score(1.0)
    except BadPattern as error:
        raise CannotScore(f"the pattern {_cut(pattern)}: {error}") from None
    return Score(0.0, f"{_cut(pattern)} is not found in {_cut(answer)}")


def _json_schema(scorer: JsonSchema, answer: str, expected: Any) -> Score:
    parsed = _json(answer)
    if isinstance(parsed, Score):
        return parsed
    try:
        broken = violation(scorer.schema, parsed.value)
    except BadSchema as error:
        raise CannotScore(f"the schema: {error}") from None
    return Score(0.0, broken) if broken else Score(1.0)


def _json_field(scorer: JsonField, answer: str, expected: Any) -> Score:
    if expected is None:
        raise CannotScore("there is no expected value")
    parsed = _json(answer)
    if isinstance(parsed, Score):
        return parsed
    value = parsed.value
    for step in scorer.field.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step[:9]) < len(value):
            value = value[int(step[:9])]
        else:
            return Score(0.0, f"the answer has no field {scorer.field}")
    if _same(value, expected):
        return Score(1.0)
    return Score(0.0, f"{scorer.field} is {_cut(_text(value))}, not {_cut(_text(expected))}")


def _numeric(scorer: Numeric, answer: str, expected: Any) -> Score:
    wanted = _number(expected)
    if wanted is None:
        raise CannotScore("the expected value must be a number")
    numbers = _NUMBER.findall(answer)
    given = _number(numbers[-1]) if numbers else None
    if given is None:
        return Score(0.0, f"no number in {_cut(answer)}")
    if abs(given - wanted) <= max(scorer.absolute, scorer.relative * abs(wanted)):
        return Score(1.0)
    return Score(0.0, f"{given:g} is not near enough to {wanted:g}")


_KINDS: dict[type[Any], Callable[[Any, str, Any], Score]] = {
    Exact: _exact,
    Contains: _contains,
    Regex: _regex,
    JsonSchema: _json_schema,
    JsonField: _json_field,
    Numeric: _numeric,
}

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?")


class _Parsed(NamedTuple):
    value: Any


def _json(answer: str) -> _Parsed | Score:
    try:
        return _Parsed(msgspec.json.decode(answer))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return Score(0.0, f"not JSON: {_cut(answer)}")


def _texts(expected: Any) -> Sequence[str]:
    texts = [_text(item) for item in (expected if isinstance(expected, list) else [expected])]
    if expected is None or not texts or "" in texts:
        raise CannotScore("there is no expected value")
    return texts


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _same(value: Any, expected: Any) -> bool:
    if isinstance(value, bool) != isinstance(expected, bool):
        return isinstance(expected, str) and expected == _text(value)
    if value == expected:
        return True
    return isinstance(expected, str) and not isinstance(value, str) and expected == _text(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value.replace(",", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
