"""Files that commands write where they are told to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from fairlead.domain.errors import StorageFailed


class AskedCase(Protocol):
    """What was asked, by a request of this id, and why it is suggested."""

    @property
    def request(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def tags(self) -> tuple[str, ...]: ...


def write_file(path: Path, data: bytes) -> None:
    """Write a file; raises StorageFailed."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageFailed(f"{path}: cannot be written: {error.strerror}") from None


def case_lines(cases: Iterable[AskedCase]) -> bytes:
    """A suite's cases without an answer, as JSONL."""
    return b"".join(
        msgspec.json.encode(
            {"id": one.request, "input": one.text, "expected": None, "tags": one.tags}
        )
        + b"\n"
        for one in cases
    )
