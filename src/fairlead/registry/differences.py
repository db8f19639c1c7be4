"""What differs between two releases, field by field, in values that a person can read."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.domain.release import Release, WeightsModel, short
from fairlead.registry.entries import Difference

NONE = "(none)"


def differences(a: Release, b: Release) -> list[Difference]:
    """Fields that are not equal, sorted by path."""
    before, after = _fields(a), _fields(b)
    if isinstance(a.model, WeightsModel) and isinstance(b.model, WeightsModel):
        _pair_single_files(before, after)
    return [
        Difference(path, before.get(path, NONE), after.get(path, NONE))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _fields(release: Release) -> dict[str, str]:
    fields: dict[str, str] = {}
    content = msgspec.to_builtins(release)
    if isinstance(release.model, WeightsModel):
        content["model"].pop("files")
        for file in release.model.files:
            fields[f"model.files[{file.name}]"] = f"{short(file.digest)} ({file.size:,} bytes)"
    guardrails = {one.pop("name"): one for one in content.pop("guardrails", [])}
    for name, guardrail in guardrails.items():
        _flatten(f"guardrails.{name}", {"action": "flag", **guardrail}, fields)
    _flatten("", content, fields)
    return fields


def _flatten(path: str, value: Any, fields: dict[str, str]) -> None:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            _flatten(f"{path}.{key}" if path else str(key), item, fields)
        return
    if value is None and not path.startswith("sampling."):
        return
    fields[path] = value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _pair_single_files(before: dict[str, str], after: dict[str, str]) -> None:
    """Put a model that is one file on both sides on one line, although its name changed."""
    keys = [[k for k in fields if k.startswith("model.files[")] for fields in (before, after)]
    if any(len(found) != 1 for found in keys) or keys[0] == keys[1]:
        return
    for fields, (key,) in zip((before, after), keys, strict=True):
        name = key.removeprefix("model.files[").removesuffix("]")
        fields["model.file"] = f"{name} {fields.pop(key)}"
