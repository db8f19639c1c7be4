"""JSON Schema checks of answers, bounded: nothing is fetched and no pattern can run away."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from fairlead.domain.patterns import BadPattern, check_pattern, found

_NAMED = ("properties", "$defs", "definitions", "dependentSchemas")
_DATA = ("enum", "const", "examples", "default")


class BadSchema(ValueError):
    """The schema cannot be used; the message says why."""


def violation(schema: Mapping[str, Any], answer: Any) -> str | None:
    """What the answer breaks first, in words; None when it is valid. Raises BadSchema."""
    from jsonschema.exceptions import ValidationError, best_match
    from referencing.exceptions import Unresolvable

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


def fits(schema: Mapping[str, Any], answer: Any) -> bool:
    """Whether the answer is valid: as `violation`, without saying why. Raises BadSchema."""
    from referencing.exceptions import Unresolvable

    try:
        return bool(_validator(msgspec.json.encode(schema)).is_valid(answer))
    except Unresolvable as error:
        raise BadSchema(f"a reference leads nowhere: {error.ref}") from None
    except RecursionError:
        raise BadSchema("schema and answer are nested too deeply") from None


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises BadSchema when this is not a JSON Schema that can be used."""
    try:
        _validator(msgspec.json.encode(schema))
    except RecursionError:
        raise BadSchema("nested too deeply") from None


@functools.lru_cache(maxsize=16)
def _validator(encoded: bytes) -> Any:
    import jsonschema
    from jsonschema import validators
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    drafts: dict[str, Any] = {
        draft.META_SCHEMA["$id"].rstrip("#"): draft
        for draft in (
            jsonschema.Draft202012Validator,
            jsonschema.Draft201909Validator,
            jsonschema.Draft7Validator,
        )
    }
    schema = msgspec.json.decode(encoded)
    named = schema.get("$schema", jsonschema.Draft202012Validator.META_SCHEMA["$id"])
    draft = drafts.get(str(named).rstrip("#"))
    if draft is None:
        raise BadSchema(f"$schema must be one of {', '.join(drafts)}")
    try:
        draft.check_schema(schema)
    except SchemaError as error:
        raise BadSchema(error.message[:200]) from None
    _check_patterns(schema)
    extend: Callable[..., Any] = validators.extend
    return extend(draft, {"pattern": _pattern})(schema, registry=Registry())


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not found(pattern, instance):
        yield ValidationError(f"{instance[:60]!r} does not match {pattern!r}")


def _check_patterns(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _check_patterns(part)
    if not isinstance(schema, dict):
        return
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
                _check_patterns(named)
        elif key not in _DATA:
            _check_patterns(part)
