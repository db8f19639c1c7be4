"""The gateway file's JSON Schema, generated from the models, for editors."""

from __future__ import annotations

import functools
from typing import Any

from fairlead.manifest.gateway_file.models import NO_KEYS, NOT_RECORDED, GatewayFile
from fairlead.manifest.schema import DIALECT, relax
from fairlead.manifest.vocabulary import Vocabulary


def gateway_file_schema() -> dict[str, Any]:
    """The JSON Schema of `gateway.yaml`."""
    schema = GatewayFile.model_json_schema(by_alias=True, mode="validation")
    definitions, properties = schema["$defs"], schema["properties"]
    replica = definitions["Replica"]
    definitions["Replica"] = {
        "title": replica.pop("title"),
        "description": replica.pop("description"),
        "anyOf": [replica["properties"]["url"], replica],
    }
    keys = properties["keys"]
    properties["keys"] = {
        "title": keys.pop("title"),
        "description": keys.pop("description"),
        "anyOf": [{"const": NO_KEYS}, {"type": "array", "minItems": 1, **_array_of(keys)}],
    }
    schema["required"] = ["keys", *schema["required"]]
    properties["listen"]["default"] = "127.0.0.1:7600"
    properties["spool"]["default"] = NOT_RECORDED
    relax(schema)
    return {"$schema": DIALECT, **schema, "title": "gateway.yaml"}


def _array_of(keys: dict[str, Any]) -> dict[str, Any]:
    return {name: keys[name] for name in ("items", "maxItems")}


@functools.cache
def gateway_file_vocabulary() -> Vocabulary:
    """The keys of `gateway.yaml`."""
    return Vocabulary("the gateway file", gateway_file_schema())
