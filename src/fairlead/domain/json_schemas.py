"""JSON Schema checks of answers, bounded: nothing is fetched, and neither a pattern nor a schema
that refers to itself in many ways can run away.

`violation` says what an answer breaks, for whoever has time; for the gateway `json_fitting` says
only whether it fits.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.patterns import BadPattern, check_pattern, found
from fairlead.domain.sized_cache import kept_by_size

DRAFTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
)
"""That are known; the first one where a schema names none."""
STEPS_MAX = 1_000_000
"""Keywords, and values that these list, that are looked at for one answer; see `_counted`."""
KEPT_BYTES_MAX = 1024 * 1024
"""Of schemas that are kept ready."""
_NAMED = ("properties", "$defs", "definitions", "dependentSchemas")
_DATA = ("enum", "const", "examples", "default")
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_UNEVALUATED = frozenset({"unevaluatedProperties", "unevaluatedItems"})
REFERENCE_STEPS = 25
"""Following a reference takes as long as so many other keywords."""
_steps = threading.local()


class BadSchema(ValueError):
    """The schema cannot be used; the message says why."""


def violation(schema: Mapping[str, Any], answer: Any) -> str | None:
    """What the answer breaks first, in words; None when it is valid. Raises BadSchema."""
    from jsonschema.exceptions import ValidationError, best_match
    from referencing.exceptions import Unresolvable

    _steps.left = STEPS_MAX
    try:
        errors: Iterator[ValidationError] = _validator(msgspec.json.encode(schema)).iter_errors(
            answer
        )
        worst = best_match(errors)
    except Unresolvable as error:
        raise BadSchema(f"a reference leads nowhere: {error.ref}") from None
    except RecursionError:
        raise BadSchema("schema and answer are nested too deeply") from None
    if worst is None:
        return None
    place = "/".join(str(part) for part in worst.absolute_path)
    return f"{place or 'the answer'}: {worst.message[:200]}"


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises BadSchema when this is not a JSON Schema that can be used."""
    try:
        _validator(msgspec.json.encode(schema))
    except (RecursionError, msgspec.DecodeError):
        raise BadSchema("nested too deeply") from None


def rules_of(encoded: bytes) -> tuple[str, dict[str, Any]]:
    """The name of a schema's draft, and the schema without it; what is not bounded is refused.

    That all else in it is as it should be is `check_schema`'s to say: it takes long.

    Raises:
        BadSchema: It cannot be used.
        msgspec.DecodeError: It is no JSON object.
    """
    schema = decode_json(encoded, dict[str, Any])
    draft = str(schema.get("$schema", DRAFTS[0])).rstrip("#")
    if draft not in DRAFTS:
        raise BadSchema(f"$schema must be one of {', '.join(DRAFTS)}")
    rules = {key: part for key, part in schema.items() if key != "$schema"}
    _check_parts(rules)
    _check_references(rules)
    return draft, rules


@functools.cache
def _drafts() -> dict[str, tuple[Any, Any]]:
    """The drafts by their names: as they are, and as answers are validated by them here."""
    import jsonschema
    from jsonschema import validators

    extend: Callable[..., Any] = validators.extend
    libraries = (
        jsonschema.Draft202012Validator,
        jsonschema.Draft201909Validator,
        jsonschema.Draft7Validator,
    )
    return {
        name: (
            draft,
            extend(draft, {k: _counted(k, c) for k, c in {**draft.VALIDATORS, **_OWN}.items()}),
        )
        for name, draft in zip(DRAFTS, libraries, strict=True)
    }


@kept_by_size(KEPT_BYTES_MAX)
def _validator(encoded: bytes) -> Any:
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    name, rules = rules_of(encoded)
    draft, counting = _drafts()[name]
    try:
        draft.check_schema(rules)
    except SchemaError as error:
        raise BadSchema(error.message[:200]) from None
    return counting(rules, registry=Registry())


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not found(pattern, instance):
        yield ValidationError(f"{instance[:60]!r} does not match {pattern!r}")


_OWN: dict[str, Callable[..., Any]] = {"pattern": _pattern}


def _counted(keyword: str, check: Callable[..., Any]) -> Callable[..., Any]:
    """A keyword's check that counts: thirty references are enough to ask for 2**30 of them."""
    steps = REFERENCE_STEPS if keyword in _REFERENCES else 1

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _steps.left -= steps + (len(value) if isinstance(value, list) else 0)
        if _steps.left < 0:
            raise BadSchema("it takes too many steps to tell whether this answer fits")
        return check(validator, value, instance, schema)

    return counted


def _check_references(schema: dict[str, Any]) -> None:
    """What a reference leads to has to be checked, and followed where steps are counted."""
    told: set[str] = set()
    parts: list[Any] = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            told |= part.keys()
            parts += part.values()
            for key in _REFERENCES & part.keys():
                places = unquote(str(part[key])).split("/")
                if any(at in _DATA and before not in _NAMED for before, at in pairwise(places)):
                    raise BadSchema(f"{key} leads into a value, which is no schema")
    if told & _REFERENCES and told & _UNEVALUATED:
        raise BadSchema("unevaluatedProperties and unevaluatedItems do not go with references")


def _check_parts(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _check_parts(part)
    if not isinstance(schema, dict):
        return
    if "$schema" in schema:  # A part would be looked at without any bound.
        raise BadSchema("$schema belongs to the schema as a whole; take it out of its parts")
    if "patternProperties" in schema:
        raise BadSchema("patternProperties is not supported; use propertyNames or properties")
    if isinstance(schema.get("pattern"), str):
        try:
            check_pattern(schema["pattern"])
        except BadPattern as error:
            raise BadSchema(f"the pattern {schema['pattern']!r}: {error}") from None
    for key, part in schema.items():
        if key in _NAMED and isinstance(part, dict):
            for named in part.values():
                _check_parts(named)
        elif key not in _DATA:
            _check_parts(part)
