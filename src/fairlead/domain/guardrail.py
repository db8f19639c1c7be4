"""Guardrails: what a release's prompts and answers must not have. Part of the release.

Each is of one kind, on prompts or on answers, and either flags (the request goes on, and its record
says so) or blocks. How they are looked for is in `fairlead.domain.guarding`. All of them are
bounded, and take time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from fairlead.domain.capture import REDACTIONS, Redaction
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import InvalidInput
from fairlead.domain.json_schemas import BadSchema, check_schema
from fairlead.domain.pattern_size import BYTES_MAX, SMALLER, size_of, size_problem
from fairlead.domain.patterns import BadPattern, check_pattern

GUARDRAILS_MAX = 16
"""Of one release."""
PHRASES_MAX = 100
PHRASE_CHARS_MAX = 200
PATTERNS_MAX = 10
PATTERN_CHARS_MAX = 200
REPEATS_MAX = 200
"""Product of the counted repetitions of a pattern, such as `{2,40}`: each of them is unrolled."""
PATTERNS_BYTES_MAX = 4 * BYTES_MAX
"""What the patterns of all guardrails of a release may take up, as `pattern_size` estimates it."""
TOO_LARGE = (
    "with this one the patterns of all guardrails take up more than "
    f"{PATTERNS_BYTES_MAX // 1024**2} MiB when they are compiled, which is the most; {SMALLER}"
)
CHARACTERS_MAX = 10_000_000
SCHEMA_BYTES_MAX = 16 * 1024
On = Literal["prompt", "answer"]
Action = Literal["flag", "block"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?")
_COUNTED = re.compile(r"\{\s*(\d+)\s*(?:,\s*(\d*)\s*)?\}")
_REFERENCES = ("$ref", "$dynamicRef")
_SCHEMAS = "//json-schema.org/"
"""What schemas themselves have to fit: to hold an answer against that is not bounded."""
_QUADRATIC = ("uniqueItems", "unevaluatedItems", "unevaluatedProperties")


class Guardrail(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One guardrail.

    Attributes:
        phrases: Any of these in the text is a hit, whatever its case and spacing.
        patterns: So is a match of any of these regular expressions (`fairlead.domain.patterns`).
        pii: So is anything of these kinds (`fairlead.domain.redaction`).
        injection: So is a sign of an attempt at prompt injection (`fairlead.domain.injection`).
        max_characters: So are more characters; 0 for any number.
        schema: So is an answer that is no JSON, or JSON that does not fit this JSON Schema (its
            text); empty for none.
    """

    name: str
    on: On
    action: Action = "flag"
    phrases: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    pii: tuple[Redaction, ...] = ()
    injection: bool = False
    max_characters: int = 0
    schema: str = ""


def check_guardrails(guardrails: Sequence[Guardrail]) -> None:
    """Raises InvalidInput with the place of what cannot be."""
    if len(guardrails) > GUARDRAILS_MAX:
        raise InvalidInput(f"guardrails: {len(guardrails)} of them; at most {GUARDRAILS_MAX}")
    names = set[str]()
    for index, guardrail in enumerate(guardrails):
        why = problem_of(guardrail)
        if not why and guardrail.name in names:
            why = "name: that of an earlier guardrail"
        if why:
            raise InvalidInput(f"guardrails[{index}].{why}")
        names.add(guardrail.name)
    if (beyond := too_large(guardrails)) is not None:
        index, key = beyond
        raise InvalidInput(f"guardrails[{index}].{key}: {TOO_LARGE}")


def too_large(guardrails: Iterable[Guardrail]) -> tuple[int, str] | None:
    """The guardrail, and its key, with which the patterns of all become too large together."""
    total = 0
    for index, guardrail in enumerate(guardrails):
        total += sum(size_of(pattern).bytes for pattern in patterns_of(guardrail))
        if total > PATTERNS_BYTES_MAX:
            return index, "schema" if guardrail.schema else "deny"
    return None


def patterns_of(guardrail: Guardrail) -> tuple[str, ...]:
    """All regular expressions of one, those of its schema as well."""
    if not guardrail.schema:
        return guardrail.patterns
    schema = decode_json(guardrail.schema.encode(errors="replace"), dict[str, Any])
    return tuple(_patterns_in(schema))


def problem_of(guardrail: Guardrail) -> str:
    """What is wrong with one, as `field: why`; empty if nothing is."""
    if not is_name(guardrail.name):
        return "name: must be of lower-case letters, digits, '-' and '_', at most 40 of them"
    denies = bool(guardrail.phrases or guardrail.patterns)
    kinds = {
        "deny": denies,
        "pii": bool(guardrail.pii),
        "injection": guardrail.injection,
        "max_characters": guardrail.max_characters != 0,
        "schema": bool(guardrail.schema),
    }
    given = [kind for kind, is_given in kinds.items() if is_given]
    if len(given) != 1:
        place = given[1] if given else "name"
        said = " and ".join(given) or "none of them"
        return f"{place}: exactly one of {', '.join(kinds)} is needed, not {said}"
    if guardrail.injection and guardrail.on != "prompt":
        return "injection: is looked for in prompts only"
    if guardrail.schema and guardrail.on != "answer":
        return "schema: is for answers only"
    return _problem_of_kind(guardrail)


def tightened(guardrails: Sequence[Guardrail], names: Collection[str]) -> tuple[Guardrail, ...]:
    """The same, of which those of these names block."""
    return tuple(
        msgspec.structs.replace(one, action="block") if one.name in names else one
        for one in guardrails
    )


def flagging(guardrails: Sequence[Guardrail]) -> tuple[str, ...]:
    """Names of those that only flag."""
    return tuple(one.name for one in guardrails if one.action == "flag")


def is_name(text: str) -> bool:
    """Whether it can name a guardrail."""
    return _NAME.fullmatch(text) is not None


def _problem_of_kind(guardrail: Guardrail) -> str:
    if unknown := [kind for kind in guardrail.pii if kind not in REDACTIONS]:
        return f"pii: {unknown[0]!r} is none of {', '.join(REDACTIONS)}"
    if not 0 <= guardrail.max_characters <= CHARACTERS_MAX:
        return f"max_characters: must be from 1 to {CHARACTERS_MAX}"
    if guardrail.schema:
        return _problem_of_schema(guardrail.schema)
    if len(guardrail.phrases) > PHRASES_MAX or len(guardrail.patterns) > PATTERNS_MAX:
        return f"deny: at most {PHRASES_MAX} phrases and {PATTERNS_MAX} patterns"
    for problem in (
        *map(phrase_problem, guardrail.phrases),
        *map(pattern_problem, guardrail.patterns),
    ):
        if problem:
            return f"deny: {problem}"
    return ""


def phrase_problem(phrase: str) -> str:
    """What is wrong with a phrase; empty if nothing is."""
    if not phrase.strip() or len(phrase) > PHRASE_CHARS_MAX:
        return f"a phrase has from 1 to {PHRASE_CHARS_MAX} characters, and not only spaces"
    return ""


def pattern_problem(pattern: str) -> str:
    """What is wrong with a pattern; empty if nothing is."""
    if not pattern or len(pattern) > PATTERN_CHARS_MAX:
        return f"a pattern has from 1 to {PATTERN_CHARS_MAX} characters"
    repeats = 1
    for least, most in _COUNTED.findall(pattern):
        repeats *= max(1, int(most or least))
    if repeats > REPEATS_MAX:
        return (
            f"a pattern repeats up to {repeats} times, all {{}} multiplied; at most {REPEATS_MAX}"
        )
    if problem := size_problem(pattern):
        return problem
    try:
        check_pattern(pattern)
    except BadPattern as error:
        return f"a pattern cannot be used: {error}"
    return ""


def _problem_of_schema(text: str) -> str:
    try:
        schema = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        return f"schema: {error}"
    return schema_problem(schema, len(text.encode(errors="replace")))


def schema_problem(schema: dict[str, Any], size: int) -> str:
    """What is wrong with a JSON Schema of so many bytes, as `schema: why`; empty if nothing is."""
    if size > SCHEMA_BYTES_MAX:
        return f"schema: {size} bytes as JSON; at most {SCHEMA_BYTES_MAX}"
    # Before anything compiles them: one can take megabytes.
    patterns = list(_patterns_in(schema))
    if len(patterns) > PATTERNS_MAX:
        return f"schema: {len(patterns)} patterns; at most {PATTERNS_MAX}"
    for problem in map(pattern_problem, patterns):
        if problem:
            return f"schema: {problem}"
    try:
        check_schema(schema)
    except BadSchema as error:
        return f"schema: {error}"
    for word in _REFERENCES:
        if any(_SCHEMAS in str(reference) for reference in _values(schema, word)):
            return f"schema: {word} must lead to a part of this schema itself"
    for word in _QUADRATIC:
        if any(True for _ in _values(schema, word)):
            return f"schema: {word} takes too long on the gateway; take it out"
    return ""


def _patterns_in(schema: dict[str, Any]) -> Iterator[str]:
    return (each for each in _values(schema, "pattern") if isinstance(each, str))


def _values(schema: Any, word: str) -> Iterator[Any]:
    """What stands under this word, anywhere in it."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if word in part:
                yield part[word]
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
