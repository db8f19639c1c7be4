"""Kinds of values that several parts of a manifest have: shares, sizes, names, files."""

from __future__ import annotations

import itertools
import os
import re
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from fairlead.domain.outbound import without_credentials
from fairlead.domain.receivers import SECRETS
from fairlead.domain.variables import NAME_PATTERN, OWN, variable_problem

NEIGHBOURS_MAX = 1_000
_SIZE = re.compile(r"(\d{1,12})\s*(B|KiB|MiB|GiB|kB|MB|GB)?")
_UNITS = {
    None: 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip
_SERVICE = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class Strict(BaseModel):
    """Base of all parts: unknown keys and wrong types are errors, nothing is converted silently."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def wrong(message: str, *, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """A problem in words that follow the place (`must be ...`); `at` leads to it from here."""
    return PydanticCustomError("manifest", "{text}", {"text": message, "at": at})


def parse_share(value: object) -> float:
    """A share as a number from 0 to 1, from such a number or from text like `10%`."""
    share = -1.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        share = float(value)
    elif isinstance(value, str) and value.endswith("%"):
        try:
            share = float(Decimal(value[:-1].strip()) / 100)
        except InvalidOperation:
            share = -1.0
    if not 0.0 <= share <= 1.0:
        raise wrong(
            f'must be a share: a percentage such as "10%" or a number from 0 to 1, '
            f"not {shown(value)}"
        )
    return share


def parse_size(value: object) -> int:
    """Bytes, from a whole number or from text like `8MiB`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong(f'must be a size such as "8MiB" or a number of bytes, not {shown(value)}')
    return int(match[1]) * _UNITS[match[2]]


def parse_service(value: object) -> str:
    """The name of a service."""
    if not isinstance(value, str) or not _SERVICE.fullmatch(value):
        raise wrong(
            "must be a name of lower-case letters, digits, '-', '_' and '.', at most 63 of them, "
            f"not {shown(value)}"
        )
    return value


def is_label(value: str) -> bool:
    """Whether it can name something within a file."""
    return _LABEL.fullmatch(value) is not None


def parse_label(value: object) -> str:
    """A name of something within the manifest."""
    if not isinstance(value, str) or not is_label(value):
        raise wrong(
            "must be a name of letters, digits, '-', '_' and '.', at most 63 of them, "
            f"not {shown(value)}"
        )
    return value


def existing_file(value: object, info: ValidationInfo, *, folder: bool = False) -> Path:
    """The path of a file that is there; relative to the manifest's folder (context `base`).

    With `folder`, it may be a folder too.
    """
    if not isinstance(value, str) or not value or "\0" in value:
        raise wrong(f"must be the path of a file, not {shown(value)}")
    base: Path = info.context["base"] if info.context else Path()
    path = base / value
    try:
        if path.is_file() or (folder and path.is_dir()):
            return path
        if path.is_dir():
            raise wrong(f"is a folder, not a file: {shown(value)}")
        if path.exists():
            raise wrong(f"is not a regular file (a device, a pipe or a socket): {shown(value)}")
    except OSError as error:
        raise wrong(
            f"cannot be looked at: {shown(value)}: {os.strerror(error.errno or 0)}"
        ) from None
    raise wrong(f"names a file that is not there: {shown(value)}{_near_file(path, value)}")


def given_path(value: object, info: ValidationInfo) -> Path:
    """The path of a file or a folder that need not be there; relative to the manifest's folder."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise wrong(f"must be the path of a file or a folder, not {shown(value)}")
    base: Path = info.context["base"] if info.context else Path()
    return base / value


def _near_file(path: Path, value: str) -> str:
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, NEIGHBOURS_MAX)]
    except OSError:
        return f" (there is no folder {shown(str(Path(value).parent))} either)"
    near = nearest(path.name, names)
    return f' (did you mean "{Path(value).parent / near}"?)' if near else ""


def _variable(value: object) -> object:
    if isinstance(value, str) and (problem := variable_problem(value)):
        raise wrong(problem)
    return value


def nearest(name: str, names: list[str]) -> str | None:
    """The one of the names that is most like this one, if any is like it at all."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    found = get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def shown(value: object) -> str:
    """A value as an error message shows it, short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            text = without_credentials(value)
            text = text if len(text) <= 60 else text[:60] + "…"
            return f'"{text}"' if text.isprintable() else ascii(text)
        case int() | float():
            return repr(value)[:40]
        case dict():
            return "a mapping"
        case _:
            return "a list"


_PERCENT = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%$"}
Share = Annotated[
    float,
    BeforeValidator(parse_share),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, _PERCENT]}),
]
"""A share, written as `10%` or `0.1`."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^[0-9]+\s*(B|KiB|MiB|GiB|kB|MB|GB)?$"},
            ]
        }
    ),
]
"""A size, written as `8MiB` or in bytes."""

ServiceName = Annotated[
    str,
    BeforeValidator(parse_service),
    WithJsonSchema({"type": "string", "pattern": f"^{_SERVICE.pattern}$"}),
]
Label = Annotated[
    str,
    BeforeValidator(parse_label),
    WithJsonSchema({"type": "string", "pattern": f"^{_LABEL.pattern}$"}),
]
FilePath = Annotated[Path, BeforeValidator(existing_file), WithJsonSchema({"type": "string"})]
"""A file that exists, written relative to the manifest's folder."""
GivenPath = Annotated[Path, BeforeValidator(given_path), WithJsonSchema({"type": "string"})]
"""A file or a folder, written relative to the manifest's folder; it need not be there."""
EnvName = Annotated[
    str,
    BeforeValidator(_variable),
    Field(pattern=NAME_PATTERN),
    WithJsonSchema({"type": "string", "pattern": f"^(?!{OWN}|{SECRETS}){NAME_PATTERN[1:]}"}),
]
"""An environment variable whose value is sent to others: none of fairlead's own secrets."""
