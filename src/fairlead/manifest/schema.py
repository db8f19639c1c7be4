"""The manifest's JSON Schema, generated from the models, for editors."""

from __future__ import annotations

import functools
from typing import Any

from fairlead.manifest.models import Manifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of `fairlead.yaml`."""
    schema = Manifest.model_json_schema(by_alias=True, mode="validation")
    definitions = schema["$defs"]
    replicas = definitions["Replicas"]
    definitions["Replicas"] = {
        "title": replicas.pop("title"),
        "description": replicas.pop("description"),
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 256}, replicas],
    }
    gate = definitions["Gate"]["properties"]
    kinds = list(gate["scorer"]["discriminator"]["mapping"])
    gate["scorer"]["oneOf"].insert(
        0, {"enum": [k for k in kinds if _needs_no_more(definitions, k)]}
    )
    _relax(schema)
    return {"$schema": DIALECT, **schema, "title": "fairlead.yaml"}


def _needs_no_more(definitions: dict[str, Any], kind: str) -> bool:
    return any(
        definition.get("properties", {}).get("kind", {}).get("const") == kind
        and definition.get("required") == ["kind"]
        for definition in definitions.values()
    )


def _relax(schema: Any) -> None:
    """Engines are told apart by a `kind` that may be left out, which `oneOf` cannot express."""
    if isinstance(schema, dict):
        schema.pop("discriminator", None)
        if "oneOf" in schema:
            schema["anyOf"] = schema.pop("oneOf")
        for part in schema.values():
            _relax(part)
    elif isinstance(schema, list):
        for part in schema:
            _relax(part)


@functools.cache
def _schema() -> dict[str, Any]:
    return manifest_schema()


def keys_at(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that a mapping at this place of a manifest may have (`loc` as pydantic gives it)."""
    candidates = [_schema()]
    for element in loc:
        inner = [part for c in candidates for part in _inside(c, element)]
        tagged = [c for c in candidates if _kind_of(c) == element]
        candidates = [e for part in inner for e in _alternatives(part)] or tagged or candidates
    return list(dict.fromkeys(key for c in candidates for key in c.get("properties", {})))


def _inside(schema: dict[str, Any], element: str | int) -> list[dict[str, Any]]:
    if isinstance(element, int):
        return [schema["items"]] if "items" in schema else []
    part = schema.get("properties", {}).get(element)
    return [part] if part is not None else []


def _kind_of(schema: dict[str, Any]) -> object:
    return schema.get("properties", {}).get("kind", {}).get("const")


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schema itself, or what it refers to and chooses from."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _alternatives(_schema()["$defs"][name])
    if "anyOf" in schema:
        return [a for part in schema["anyOf"] for a in _alternatives(part)]
    return [schema]


def places_of(key: str) -> list[str]:
    """Where in a manifest a key of this name may stand, as dotted paths of mappings."""
    found: list[str] = []

    def walk(schema: dict[str, Any], path: str) -> None:
        for part in _alternatives(schema):
            properties = part.get("properties", {})
            if key in properties and path not in found:
                found.append(path)
            for name, inner in properties.items():
                walk(inner, f"{path}.{name}" if path else name)
            if "items" in part:
                walk(part["items"], f"{path}[]")

    walk(_schema(), "")
    return found
