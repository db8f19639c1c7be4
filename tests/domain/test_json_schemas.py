"""Schemas of which no check could be bounded are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairlead.domain.json_fitting import fits
from fairlead.domain.json_schemas import BadSchema

VALUE = {"const": {"a": {"type": "null"}}}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "#/properties/y/const/a", "properties": {"y": VALUE}}, "leads into a value"),
        ({"$ref": "#/properties/y/%63onst/a", "properties": {"y": VALUE}}, "leads into a value"),
        (
            {"unevaluatedProperties": False, "$ref": "#/$defs/a", "$defs": {"a": {}}},
            "do not go with references",
        ),
    ],
)
def test_references_lead_to_what_was_checked_and_are_followed_where_steps_are_counted(
    schema: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadSchema, match=why):
        fits(json.dumps(schema).encode(), {})


def test_a_property_may_be_called_like_a_keyword_for_values() -> None:
    schema = {"properties": {"default": {}, "b": {"$ref": "#/properties/default"}}}
    assert fits(json.dumps(schema).encode(), {"b": 1})
