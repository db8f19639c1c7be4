"""The JSON Schema says what the loader does, for editors and for the reference page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fairlead.manifest import manifest_schema, starting_point

EXAMPLES = Path(__file__).parents[2] / "examples"


def _properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            yield name, part
        for part in schema.values():
            yield from _properties(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _properties(part)


def _accepts(text: str) -> bool:
    document = yaml.safe_load(text)
    validator = jsonschema.Draft202012Validator(manifest_schema())
    return validator.is_valid(document)


def test_it_is_a_json_schema_and_can_be_written_as_json() -> None:
    schema = json.loads(json.dumps(manifest_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)


def test_every_key_is_described() -> None:
    described = dict(_properties(manifest_schema()))
    assert {"service", "model", "minimum", "share", "queue", "kind"} <= set(described)
    lacking = [name for name, part in _properties(manifest_schema()) if "description" not in part]
    assert lacking == []


def test_it_accepts_the_starting_point_and_the_examples() -> None:
    assert _accepts(starting_point("banking"))
    for file in sorted(EXAMPLES.glob("*/*.yaml")):
        assert _accepts(file.read_text()), file.name


BASE = "service: a\nrelease: {model: m.gguf"


@pytest.mark.parametrize(
    "text",
    [
        BASE + "}",
        BASE + "}\nreplicas: 2",
        BASE + ", engine: {}}",
        BASE + ", engine: {settings: {threads: 1}}}",
        BASE + ", engine: {kind: remote, settings: {slots: 8}}}",
        BASE + ", sampling: {stop: x}}",
        BASE + ", sampling: {stop: [x, y]}}",
        BASE + "}\ngates: [{name: g, suite: s.csv, scorer: exact, minimum: 1}]",
        BASE + "}\nlimits: {body_bytes: 8MiB}",
    ],
)
def test_it_accepts_the_short_forms(text: str) -> None:
    assert _accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        "service: a",
        BASE + ", modle: x}",
        BASE + ", engine: {settings: {ctx: 1}}}",
        BASE + ", engine: {kind: vllm}}",
        BASE + ", sampling: {stop: [1]}}",
        BASE + "}\nreplicas: 0",
        BASE + "}\ngates: [{name: g, suite: s.csv, scorer: exat, minimum: 1}]",
        BASE + "}\ngates: [{name: g, suite: s.csv, scorer: json_field, minimum: 1}]",
        BASE + "}\nlimits: {body_bytes: 8 mib}",
        BASE + "}\nrollout: {steps: [{share: 10}]}",
    ],
)
def test_it_refuses_what_the_loader_refuses(text: str) -> None:
    assert not _accepts(text)
