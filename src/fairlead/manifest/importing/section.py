"""Reading a foreign file so that nothing is dropped in silence.

Every key of it is either taken or listed with its line: `Section.end` lists what nobody took.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from fairlead.manifest.lines import Path, dotted

NO_COUNTERPART = "has no counterpart here"
_LIES_THERE = (
    "; a secret in clear text lies there and is not copied: replace it, since it lay in a file"
)
_SECRET_NAME = re.compile(r"(key|secret|password|token|credentials?)(_?\d+)?$", re.IGNORECASE)
_SECRET_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_ELSEWHERE = ("os.environ/", "env::", "dynamic::", "path::", "path_from_env::", "sdk", "file::")
_PLACEHOLDERS = frozenset(
    {"", "none", "null", "empty", "dummy", "fake", "fake-key", "no-key", "not-needed", "anything"}
)


def is_amount(value: object) -> bool:
    """Whether it is a number that can be a weight, a time or a count."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1e9


def is_placeholder(key: str) -> bool:
    """Whether it stands where a key is wanted that nobody checks."""
    return key.strip().lower() in _PLACEHOLDERS


def holds_secret(name: str, value: Any) -> bool:
    """Whether a value, or one in it, looks like a secret in clear text."""
    if isinstance(value, dict):
        return any(holds_secret(str(key), inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(holds_secret(name, inner) for inner in value)
    if not isinstance(value, str) or value.startswith(_ELSEWHERE) or is_placeholder(value):
        return False
    return bool(_SECRET_NAME.search(name) or _SECRET_URL.search(value))


class Loss(NamedTuple):
    """Something that could not be carried over. Losses sort by line."""

    line: int
    what: str
    why: str


class Losses:
    """The list, as it grows.

    Args:
        lines: The line of each place in the file.
    """

    def __init__(self, lines: Mapping[Path, int]) -> None:
        self._lines = lines
        self._found: dict[Loss, None] = {}

    def add(self, path: Path, why: str) -> None:
        """Note that what is at this place is lost, or comes out differently."""
        self._found[Loss(self.line_of(path), dotted(path), why)] = None

    def line_of(self, path: Path) -> int:
        """The line of a place, or of what it is in."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    @property
    def sorted(self) -> list[Loss]:
        """All of them, in the order of the file."""
        return sorted(self._found)


class Section:
    """A mapping of the file.

    Args:
        why: Why a key of a certain name is lost, where there is more to say than that it is.
    """

    def __init__(
        self, data: object, path: Path, losses: Losses, *, why: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.losses = losses
        self._why = why or {}
        self._data = data
        self._left: dict[str, Any] = {}
        if isinstance(data, dict):
            self._left = dict(data)
        elif data is not None:
            losses.add(path, "is not a mapping")

    def __contains__(self, key: str) -> bool:
        return key in self._left

    @property
    def keys(self) -> list[str]:
        """What has not been taken yet."""
        return list(self._left)

    def take(self, key: str) -> Any:
        """The value, which is dealt with by that; None when it is not there."""
        return self._left.pop(key, None)

    def peek(self, key: str) -> Any:
        """The value, which is still to be dealt with."""
        return self._left.get(key)

    def text(self, key: str) -> str:
        """The value if it is text and not empty; anything else is listed as lost."""
        value = self.take(key)
        if value is not None and (not isinstance(value, str) or not value):
            self.losses.add((*self.path, key), "is not text")
            return ""
        return value or ""

    def number(self, key: str) -> float | None:
        """The value if it is a number; anything else is listed as lost."""
        value = self.take(key)
        if value is None:
            return None
        if not is_amount(value):
            self.losses.add((*self.path, key), "is not a number from 0 to a billion")
            return None
        return float(value)

    def section(self, key: str, *, why: Mapping[str, str] | None = None) -> Section:
        """A mapping in this one."""
        return Section(self.take(key), (*self.path, key), self.losses, why=why)

    def lose(self, key: str, why: str) -> None:
        """The value is lost for this reason, if it is there at all."""
        if key in self._left:
            secret = _LIES_THERE if holds_secret(key, self._left.pop(key)) else ""
            self.losses.add((*self.path, key), why + secret)

    def lose_all(self, why: str) -> None:
        """The whole section is lost, also what was taken of it."""
        secret = _LIES_THERE if holds_secret("", self._data) else ""
        self._left.clear()
        self.losses.add(self.path, why + secret)

    def end(self, why: str = NO_COUNTERPART) -> None:
        """List what nobody took."""
        for key in self.keys:
            self.lose(key, self._why.get(key, why))
