"""Which keys a kind of file knows, and where: by its JSON Schema."""

from __future__ import annotations

from typing import Any


class Vocabulary:
    """The keys of one kind of file.

    Args:
        title: What the file as a whole is called in messages.
        schema: Its JSON Schema.
    """

    def __init__(self, title: str, schema: dict[str, Any]) -> None:
        self.title = title
        self._schema = schema

    def keys_at(self, loc: tuple[str | int, ...]) -> list[str]:
        """The keys that a mapping at this place may have (`loc` as pydantic gives it)."""
        candidates = [self._schema]
        for element in loc:
            inner = [part for c in candidates for part in _inside(c, element)]
            tagged = [c for c in candidates if _kind_of(c) == element]
            candidates = (
                [e for part in inner for e in self._alternatives(part)] or tagged or candidates
            )
        return list(dict.fromkeys(key for c in candidates for key in c.get("properties", {})))

    def places_of(self, key: str) -> list[str]:
        """Where a key of this name may stand, as dotted paths of mappings."""
        found: list[str] = []

        def walk(schema: dict[str, Any], path: str) -> None:
            for part in self._alternatives(schema):
                properties = part.get("properties", {})
                if key in properties and path not in found:
                    found.append(path)
                for name, inner in properties.items():
                    walk(inner, f"{path}.{name}" if path else name)
                if "items" in part:
                    walk(part["items"], f"{path}[]")

        walk(self._schema, "")
        return found

    def _alternatives(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        """The schema itself, or what it refers to and chooses from."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self._alternatives(self._schema["$defs"][name])
        if "anyOf" in schema:
            return [a for part in schema["anyOf"] for a in self._alternatives(part)]
        return [schema]


def _inside(schema: dict[str, Any], element: str | int) -> list[dict[str, Any]]:
    if isinstance(element, int):
        return [schema["items"]] if "items" in schema else []
    part = schema.get("properties", {}).get(element)
    return [part] if part is not None else []


def _kind_of(schema: dict[str, Any]) -> object:
    return schema.get("properties", {}).get("kind", {}).get("const")
