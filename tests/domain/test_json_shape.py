"""A value is said to break its schema only if it does, and never after more than so many looks."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.json_shape import KEPT_BYTES_MAX, SCHEMA_BYTES_MAX, Shape, shape_of

ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "item": {"enum": ["tea", "coffee"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "notes": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 2},
        "to": {"$ref": "#/$defs/place"},
        "how": {"anyOf": [{"const": "post"}, {"type": "null"}]},
    },
    "required": ["item", "count"],
    "additionalProperties": False,
    "$defs": {"place": {"type": ["string", "null"], "minLength": 2}},
}
GOOD: dict[str, Any] = {"item": "tea", "count": 2}


@pytest.mark.parametrize(
    "more",
    [
        {}, {"notes": ["hot", "now"]}, {"to": None}, {"to": "Ulm"}, {"how": "post"}, {"how": None},
        {"count": 3.0},
    ],
)  # fmt: skip
def test_what_keeps_to_a_schema_breaks_nothing(more: dict[str, Any]) -> None:
    assert not Shape(ORDER).is_broken_by(GOOD | more)
    jsonschema.validate(GOOD | more, ORDER)


@pytest.mark.parametrize(
    "wrong",
    [
        {"item": "milk"}, {"count": 0}, {"count": 1.5}, {"count": True}, {"count": "2"},
        {"notes": "hot"}, {"notes": ["a", "b", "c"]}, {"notes": ["much too long a note"]},
        {"to": "U"}, {"to": 7}, {"how": "fax"}, {"size": 1},
    ],
)  # fmt: skip
def test_what_breaks_it_is_seen(wrong: dict[str, Any]) -> None:
    assert Shape(ORDER).is_broken_by(GOOD | wrong)
    assert not jsonschema.Draft202012Validator(ORDER).is_valid(GOOD | wrong)


def test_what_is_required_has_to_be_there() -> None:
    assert Shape(ORDER).is_broken_by({"item": "tea"})
    assert Shape(ORDER).is_broken_by([])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab", 0.5, 2.0]),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from("abc"), part),
    max_leaves=6,
)
TYPE = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object", "?"])
LIMIT = st.integers(0, 3)


def _schemas(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    parts = st.lists(part, min_size=1, max_size=3)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPE.filter(lambda name: name != "?"),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        "properties": st.dictionaries(st.sampled_from("abc"), part),
        "required": st.lists(st.sampled_from("abc"), unique=True),
        "additionalProperties": part,
        "patternProperties": st.just({"a": True}),
        "items": part,
        "prefixItems": parts,
        "allOf": parts, "anyOf": parts, "oneOf": parts, "not": part, "if": part, "then": part,
        "minLength": LIMIT, "maxLength": LIMIT, "minItems": LIMIT, "maxItems": LIMIT,
        "minProperties": LIMIT, "maxProperties": LIMIT,
        "minimum": LIMIT, "maximum": LIMIT, "exclusiveMinimum": LIMIT, "exclusiveMaximum": LIMIT,
        "$ref": st.sampled_from(["#", "#/properties/a", "#/$defs/x"]),
    }  # fmt: skip
    return st.fixed_dictionaries({}, optional=keywords)


@given(st.recursive(st.booleans() | st.just({}), _schemas, max_leaves=8), VALUES)
def test_nothing_is_said_to_break_a_schema_that_it_keeps(schema: Any, value: Any) -> None:
    """By a validator of the whole standard, whatever else the schema says."""
    if not isinstance(schema, dict):
        return
    schema = schema | {"$defs": {"x": {"type": "string"}}}
    if not Shape(schema).is_broken_by(value):
        return
    try:
        valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    except (RecursionError, jsonschema.exceptions._WrappedReferencingError):
        return
    assert not valid


def test_a_schema_that_turns_in_circles_or_branches_without_end_says_nothing() -> None:
    """It is left after a bounded number of looks, in milliseconds."""
    circle = {"$ref": "#"}
    assert not Shape(circle).is_broken_by({})
    bush: Any = {"type": "string"}
    for _ in range(20):
        bush = {"anyOf": [bush, bush, bush]}
    started = time.process_time()
    assert not Shape(bush).is_broken_by(7)
    assert time.process_time() - started < 5.0  # A collection of garbage may come between.


def test_what_is_no_schema_is_looked_at_by_nobody() -> None:
    assert shape_of(b"[1]") is None
    assert shape_of(b"{") is None
    assert shape_of(json.dumps({"enum": ["x" * SCHEMA_BYTES_MAX]}).encode()) is None
    shape = shape_of(json.dumps(ORDER).encode())
    assert shape is not None
    assert shape is shape_of(json.dumps(ORDER).encode())


def test_schemas_of_many_tools_are_kept_and_of_large_ones_only_some() -> None:
    """Each is read once, as long as there is room for its bytes."""
    small = [json.dumps({"const": number}).encode() for number in range(200)]
    shapes = [shape_of(schema) for schema in small]
    assert all(shape_of(schema) is shape for schema, shape in zip(small, shapes, strict=True))
    for number in range(100):
        shape_of(json.dumps({"enum": [number, "x" * (SCHEMA_BYTES_MAX - 100)]}).encode())
    assert shape_of.bytes_kept <= KEPT_BYTES_MAX
