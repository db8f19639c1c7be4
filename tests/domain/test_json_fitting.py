"""What fits a schema: as the library for it says, in bounded steps, with pauses."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.domain.json_fitting import PATTERN_WORK_MAX, PAUSE_STEPS, fits, fitting
from fairlead.domain.json_ready import KEYWORDS, ready
from fairlead.domain.json_schemas import BadSchema

DRAFTS: dict[str, Any] = {
    "https://json-schema.org/draft/2020-12/schema": jsonschema.Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    "http://json-schema.org/draft-07/schema#": jsonschema.Draft7Validator,
}
PAUSE_S_MAX = 0.25
"""For what takes some milliseconds on a machine with nothing else to do."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab", 0.0, 2.5]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
COUNTS = st.integers(0, 3)
NAMES = st.lists(st.sampled_from("abc"), unique=True, max_size=2)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "const": VALUES,
    "minimum": COUNTS, "maximum": COUNTS, "exclusiveMinimum": COUNTS, "exclusiveMaximum": COUNTS,
    "multipleOf": st.sampled_from([1, 2, 0.5, 1.5]),
    "minLength": COUNTS, "maxLength": COUNTS,
    "minItems": COUNTS, "maxItems": COUNTS,
    "minProperties": COUNTS, "maxProperties": COUNTS,
    "pattern": st.sampled_from(["a", "^b", "^$"]),
    "required": NAMES,
    "dependentRequired": st.dictionaries(st.sampled_from("abc"), NAMES, max_size=2),
    "minContains": COUNTS, "maxContains": COUNTS,
    "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y", "#x"]),
}  # fmt: skip
OF_ONE = (
    "additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else",
)  # fmt: skip
OF_MANY = ("prefixItems", "allOf", "anyOf", "oneOf")
OF_NAMED = ("properties", "dependentSchemas")


@st.composite
def schemas(draw: st.DrawFn, depth: int = 2) -> Any:
    if depth == 0 or draw(st.integers(0, 9)) == 0:
        return draw(st.booleans() | st.just({}))
    inner = schemas(depth - 1)
    made: dict[str, Any] = {}
    names = [*PLAIN, *OF_ONE, *OF_MANY, *OF_NAMED]
    for name in draw(st.lists(st.sampled_from(names), max_size=4, unique=True)):
        if name in PLAIN:
            made[name] = draw(PLAIN[name])
        elif name in OF_ONE:
            made[name] = draw(inner)
        elif name in OF_MANY:
            made[name] = draw(st.lists(inner, min_size=1, max_size=3))
        else:
            made[name] = draw(st.dictionaries(st.sampled_from("abc"), inner, max_size=2))
    return made


def _of_draft_7(schema: Any) -> Any:
    """The same with what draft 7 calls otherwise."""
    if isinstance(schema, list):
        return [_of_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {"dependentSchemas": "dependencies", "prefixItems": "items"}
    if isinstance(schema.get("prefixItems"), list):
        renamed["items"] = "additionalItems"
    return {
        renamed.get(name, name): "#/$defs/x" if part == "#x" else _of_draft_7(part)
        for name, part in schema.items()
    }


@settings(max_examples=1_000, deadline=None)
@given(
    schema=schemas(), x=schemas(1), y=schemas(1), value=VALUES, draft=st.sampled_from(list(DRAFTS))
)
def test_it_says_what_the_library_says(schema: Any, x: Any, y: Any, value: Any, draft: str) -> None:
    """Of all three drafts."""
    named = {"$anchor": "x", "allOf": [x]}
    given: Any = {"$schema": draft, "$defs": {"x": named, "y": y}, "allOf": [schema]}
    if draft.startswith("http:"):
        given = _of_draft_7(given)
    try:
        theirs = DRAFTS[draft](given).is_valid(value)
    except RecursionError:
        return  # A reference leads back to itself.
    assert fits(json.dumps(given).encode(), value) == theirs


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"const": 1}, 1.0, True),
        ({"const": [0]}, [0.0], [False]),
        ({"enum": [{"a": [True]}]}, {"a": [True]}, {"a": [1]}),
        ({"type": "integer"}, 1e300, 0.5),
        ({"type": "number"}, 1, True),
        ({"multipleOf": 0.5}, 10**400, 0.25),
        ({"multipleOf": 2.0**-1070}, 1e300, 2.0**-1072),
        ({"minContains": 0, "contains": False}, [], None),
        ({"contains": {"type": "null"}, "maxContains": 1}, [None], [None, None]),
        ({"prefixItems": [{}], "items": False}, [1], [1, 2]),
        ({"$defs": {"a": {"$id": "http://x/y", "$anchor": "z", "type": "null"}},
          "$ref": "http://x/y#z"}, None, 1),
        ({"$id": "http://x/r", "$dynamicAnchor": "node", "type": ["object", "null"],
          "additionalProperties": {"$dynamicRef": "#node"}}, {"a": {"b": None}}, {"a": {"b": 1}}),
        ({"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": True,
          "type": "object", "additionalProperties": {"$recursiveRef": "#"}}, {"a": {}}, {"a": 1}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a",
          "type": "null", "definitions": {"a": {"type": "string"}}}, "x", None),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": ["b"]}},
         {"a": 1, "b": 1}, {"a": 1}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{}, {"type": "null"}],
          "additionalItems": False}, [1, None], [1, None, 2]),
    ],
)  # fmt: skip
def test_what_fits_and_what_does_not(schema: Any, good: Any, bad: Any) -> None:
    encoded = json.dumps(schema).encode()
    assert fits(encoded, good)
    assert bad is None or not fits(encoded, bad)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"patternProperties": {"a": {}}}, {"a": 1}),
        ({"items": {"uniqueItems": True}}, [[1, 1]]),
        ({"$ref": "#/nowhere"}, 1),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {}),
        ({"$ref": "#/allOf", "allOf": [{}]}, 1),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, 1),
        ({"pattern": "ab"}, "x" * PATTERN_WORK_MAX),
    ],
)
def test_what_cannot_be_told_in_bounded_time_is_said(schema: Any, value: Any) -> None:
    with pytest.raises(BadSchema):
        fits(json.dumps(schema).encode(), value, 100_000)


def _doubling(depth: int) -> dict[str, Any]:
    parts = {
        f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]}
        for n in range(depth)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**parts, f"a{depth}": {"type": "string"}}}


SLOW: list[tuple[Any, Any]] = [
    (_doubling(20), list(range(5_000))),
    (_doubling(20), "x" * 120_000 + "y"),
    ({"items": {"enum": list(range(3_000))}}, [2_999] * 4_000),
    ({"items": {"anyOf": [*[{"type": "null"}] * 500, {}]}}, [1] * 4_000),
    ({"allOf": [{"items": {}}] * 1_000}, [{}] * 4_900),
    ({"allOf": [{"additionalProperties": {}}] * 1_000}, {str(n): 1 for n in range(1_600)}),
    ({"items": {"properties": {f"p{n}": {} for n in range(1_000)}}}, [{"p1": 1}] * 1_600),
    ({"allOf": [{"not": {"contains": {"type": "string"}}}] * 300}, [None] * 4_000),
    ({"items": {"enum": [[[[n]]] for n in range(1_000)]}}, [[[[-1]]]] * 1_200),
    ({"allOf": [{"pattern": "[ab]*a[ab]{150}c"}] * 100}, "ab" * 10_000),
    ({"contains": {"const": {"a": [1] * 2_000}}}, [{"a": [1] * 1_900}] * 2),
]


@pytest.mark.parametrize(("schema", "value"), SLOW)
def test_whatever_takes_long_pauses_often(schema: Any, value: Any) -> None:
    """No part of it takes long by itself, and the whole of it is bounded."""
    encoded = json.dumps(schema).encode()
    ready(encoded)  # once for all answers
    check = fitting(encoded, value, 100_000)
    pauses, longest = 0, 0.0
    while True:
        began = time.process_time()
        try:
            next(check)
        except (StopIteration, BadSchema):
            break
        finally:
            longest = max(longest, time.process_time() - began)
        pauses += 1
    assert longest < PAUSE_S_MAX
    assert pauses <= 100_000 // PAUSE_STEPS + 1


def test_a_short_answer_is_held_against_its_schema_without_a_pause() -> None:
    schema = {"type": "object", "required": ["intent"], "properties": {"intent": {"enum": ["a"]}}}
    check = fitting(json.dumps(schema).encode(), {"intent": "a"})
    with pytest.raises(StopIteration) as end:
        next(check)
    assert end.value.value is True


def test_the_keywords_of_each_draft_are_those_of_the_library() -> None:
    for draft, library in DRAFTS.items():
        assert KEYWORDS[draft.rstrip("#")] == library.VALIDATORS.keys() - {"format"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 3}, {"type": "objekt"}, {"enum": 1}, {"properties": [1]}, {"allOf": {"a": 1}},
        {"items": 1}, {"required": 1}, {"minimum": "a"}, {"maxLength": None}, {"pattern": 1},
        {"$ref": 1}, {"multipleOf": "a"}, {"dependentSchemas": 1}, {"if": 1, "then": 1},
    ],
)  # fmt: skip
def test_what_is_no_schema_is_said_when_it_is_used(schema: Any) -> None:
    """Of a release that was made elsewhere: whoever ships has it checked before."""
    for value in ({"a": 1}, [1], "a", 1):
        try:
            fits(json.dumps(schema).encode(), value)
        except BadSchema:
            break
    else:
        pytest.fail("it was taken for a schema")
