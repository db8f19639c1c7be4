"""Reads an engine's settings from a release into that engine's own frozen dataclass.

A field of the dataclass declares a setting once: its type, its default, and in its metadata the
range and what it means. Only the standard library is used: replicas import this.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from fairlead.domain.errors import InvalidInput

SettingValue = bool | int | float | str
TYPE_NAMES = {"bool": "true or false", "int": "a whole number", "str": "a text"}


class Dataclass(Protocol):
    """Any dataclass type, for typing."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


SettingsT = TypeVar("SettingsT", bound=Dataclass)


def setting(
    default: SettingValue,
    doc: str,
    *,
    least: int | None = None,
    most: int | None = None,
) -> Any:
    """Declare one setting; `least` and `most` bound a number, or the length of a text."""
    return dataclasses.field(default=default, metadata={"doc": doc, "least": least, "most": most})


def read_settings(
    kind: type[SettingsT], given: Mapping[str, SettingValue], engine: str
) -> SettingsT:
    """Build the dataclass from what the release says.

    Raises:
        InvalidInput: a setting is unknown, of the wrong type or out of range.
    """
    known = kind.__dataclass_fields__
    for name, value in given.items():
        if name not in known:
            raise _unknown(name, list(known), engine)
        _check(name, value, known[name], engine)
    return kind(**given)


def _unknown(name: str, known: list[str], engine: str) -> InvalidInput:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"Did you mean `{nearest[0]}`? " if nearest else ""
    return InvalidInput(
        f"engine {engine}: unknown setting `{name}`",
        hint=f"{meant}Known settings: {', '.join(sorted(known))}.",
    )


def _check(name: str, value: SettingValue, field: dataclasses.Field[Any], engine: str) -> None:
    wanted = str(field.type)
    if type(value).__name__ != wanted:
        raise InvalidInput(
            f"engine {engine}: setting `{name}` is {value!r}, but has to be {TYPE_NAMES[wanted]}",
            hint=field.metadata["doc"],
        )
    measured = len(value) if isinstance(value, str) else int(value)
    least, most = field.metadata["least"], field.metadata["most"]
    if (least is not None and measured < least) or (most is not None and measured > most):
        what = "length of setting" if isinstance(value, str) else "setting"
        raise InvalidInput(
            f"engine {engine}: {what} `{name}` is {measured}, but has to be "
            f"from {0 if least is None else least} to {most}",
            hint=field.metadata["doc"],
        )
