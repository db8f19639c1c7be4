"""Whether a JSON value plainly breaks a JSON Schema, in bounded time: for each answer, in passing.

Looked at are types, enum and const, properties and which are required, items, lengths and limits,
`allOf`, `anyOf`, `oneOf` and references within the schema: what structured outputs of the usual
APIs know. Every other keyword is passed over, and so is what would take more than `STEPS_MAX`
looks. So a value that is said to break its schema breaks it by any validator, and one that is not
may still break it by what is passed over (patterns, formats, `not`, conditions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.json_types import TYPES
from fairlead.domain.sized_cache import kept_by_size

STEPS_MAX = 4_000
DEPTH_MAX = 64
SCHEMA_BYTES_MAX = 32 * 1024
KEPT_BYTES_MAX = 512 * 1024
"""Of schemas that are kept ready: of some hundreds of tools, or of a few that are very large."""
_REFERENCE = "#"


class _TooMuch(Exception):
    """It takes more looks than there may be."""


class Shape:
    """A schema, as far as it is looked at."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema

    def is_broken_by(self, value: Any) -> bool:
        """Whether this value plainly breaks it."""
        try:
            return _Look(self._schema).breaks(self._schema, value, 0)
        except _TooMuch:
            return False


@kept_by_size(KEPT_BYTES_MAX)
def shape_of(schema: bytes) -> Shape | None:
    """A schema as it was sent; None for one that is too large, or no object."""
    if len(schema) > SCHEMA_BYTES_MAX:
        return None
    try:
        return Shape(decode_json(schema, dict[str, Any]))
    except msgspec.DecodeError:
        return None


class _Look:
    """One value under one schema."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = STEPS_MAX

    def breaks(self, schema: Any, value: Any, depth: int) -> bool:
        self._spend(1)
        if schema is False:
            return True
        if not isinstance(schema, dict):
            return False
        if depth > DEPTH_MAX:
            raise _TooMuch
        if "$ref" in schema:
            # What stands beside a reference counts in some drafts only.
            return self.breaks(self._target(schema["$ref"]), value, depth + 1)
        if value is None and schema.get("nullable") is True:
            return False
        return (
            _has_wrong_type(schema.get("type"), value)
            or self._is_none_of(schema, value)
            or self._breaks_parts(schema, value, depth)
            or (isinstance(value, dict) and self._breaks_object(schema, value, depth))
            or (isinstance(value, list) and self._breaks_array(schema, value, depth))
            or (isinstance(value, str) and _is_beyond(schema, "Length", len(value)))
            or (TYPES["number"](value) and _is_out_of_range(schema, value))
        )

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _TooMuch

    def _target(self, reference: Any) -> Any:
        """What a reference within the schema means; one that leads nowhere says nothing."""
        if not isinstance(reference, str) or not reference.startswith(_REFERENCE):
            return True
        found: Any = self._root
        for part in reference[1:].split("/")[1:]:
            self._spend(1)
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                return True
            found = found[name]
        return found if reference in (_REFERENCE, "#/") or "/" in reference else True

    def _is_none_of(self, schema: Mapping[str, Any], value: Any) -> bool:
        if "const" in schema and schema["const"] != value:
            return True
        given = schema.get("enum")
        if not isinstance(given, list):
            return False
        self._spend(len(given))
        return value not in given

    def _breaks_parts(self, schema: Mapping[str, Any], value: Any, depth: int) -> bool:
        every = schema.get("allOf")
        if isinstance(every, list) and any(self.breaks(s, value, depth + 1) for s in every):
            return True
        for name in ("anyOf", "oneOf"):
            some = schema.get(name)
            # Of `oneOf`, that it fits more than one cannot be said by a part of the keywords.
            if (
                isinstance(some, list)
                and some
                and all(self.breaks(s, value, depth + 1) for s in some)
            ):
                return True
        return False

    def _breaks_object(
        self, schema: Mapping[str, Any], value: Mapping[str, Any], depth: int
    ) -> bool:
        required = schema.get("required")
        if isinstance(required, list):
            self._spend(len(required))
            if any(isinstance(name, str) and name not in value for name in required):
                return True
        if _is_beyond(schema, "Properties", len(value)):
            return True
        given = schema.get("properties")
        known = given if isinstance(given, dict) else {}
        more = True if "patternProperties" in schema else schema.get("additionalProperties", True)
        return any(
            self.breaks(known.get(name, more), part, depth + 1) for name, part in value.items()
        )

    def _breaks_array(self, schema: Mapping[str, Any], value: list[Any], depth: int) -> bool:
        if _is_beyond(schema, "Items", len(value)):
            return True
        items = schema.get("items", True)
        if "prefixItems" in schema or isinstance(items, list):
            return False
        return any(self.breaks(items, part, depth + 1) for part in value)


def _has_wrong_type(types: Any, value: Any) -> bool:
    names = [types] if isinstance(types, str) else types
    if not isinstance(names, list) or not names:
        return False
    checks = [TYPES.get(name) if isinstance(name, str) else None for name in names]
    return all(check is not None and not check(value) for check in checks)


def _is_beyond(schema: Mapping[str, Any], what: str, count: int) -> bool:
    least: Any = schema.get(f"min{what}")
    most: Any = schema.get(f"max{what}")
    return (TYPES["number"](least) and count < least) or (TYPES["number"](most) and count > most)


def _is_out_of_range(schema: Mapping[str, Any], value: float) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    limits: tuple[tuple[str, Callable[[Any], bool]], ...] = (
        ("minimum", lambda limit: value < limit),
        ("maximum", lambda limit: value > limit),
        ("exclusiveMinimum", lambda limit: value <= limit),
        ("exclusiveMaximum", lambda limit: value >= limit),
    )
    return any(
        TYPES["number"](schema.get(name)) and is_out(schema[name]) for name, is_out in limits
    )
