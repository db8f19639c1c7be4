"""A file of a model before it is in the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Advance = Callable[[int], None]
"""Called with how many bytes of a file are done."""


class Sink(Protocol):
    """Takes a file's bytes in order."""

    size: int
    """Bytes taken since the beginning or the last `restart`."""

    def write(self, data: bytes) -> None:
        """Append."""

    def restart(self) -> None:
        """Forget what came before."""


class SourceFile(Protocol):
    """One file, local or remote."""

    @property
    def name(self) -> str:
        """File name, without folders."""

    @property
    def label(self) -> str:
        """Where it is, for messages."""

    @property
    def size(self) -> int:
        """Bytes."""

    def check(self) -> None:
        """Refuse, before it is copied, what can be seen to be wrong at once."""

    def known_digest(self, advance: Advance) -> str | None:
        """Digest of the content where that costs less than copying it."""

    def copy_into(self, sink: Sink, advance: Advance) -> None:
        """Hand over the content, and check it against all that the source says of it."""
