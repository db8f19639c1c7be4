"""The manifest's JSON Schema, generated from the models, for editors."""

from __future__ import annotations

import functools
from typing import Any

from fairlead.manifest.models import Manifest
from fairlead.manifest.vocabulary import Vocabulary

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
    relax(schema)
    return {"$schema": DIALECT, **schema, "title": "fairlead.yaml"}


def _needs_no_more(definitions: dict[str, Any], kind: str) -> bool:
    return any(
        definition.get("properties", {}).get("kind", {}).get("const") == kind
        and definition.get("required") == ["kind"]
        for definition in definitions.values()
    )


def relax(schema: Any) -> None:
    """Engines are told apart by a `kind` that may be left out, which `oneOf` cannot express."""
    if isinstance(schema, dict):
        schema.pop("discriminator", None)
        if "oneOf" in schema:
            schema["anyOf"] = schema.pop("oneOf")
        for part in schema.values():
            relax(part)
    elif isinstance(schema, list):
        for part in schema:
            relax(part)


@functools.cache
def manifest_vocabulary() -> Vocabulary:
    """The keys of `fairlead.yaml`."""
    return Vocabulary("the manifest", manifest_schema())
