"""What the children of `fairlead up` print: one file for each, bounded."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from fairlead.app.state import open_private

LOG_BYTES_MAX = 8 * 1024 * 1024
LAST_WORDS_BYTES = 8192
LAST_WORDS_SHOWN = 300


class ChildLogs:
    """The logs in one folder, by the names of the children."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._silent_until: dict[str, int] = {}

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """For a process that is about to begin."""
        log = self._log(name)
        bound_log(log)
        with open_private(log, "ab") as output:
            # What was printed before is of an earlier process.
            self._silent_until[name] = output.tell()
            yield output

    def last_words(self, name: str) -> str:
        """The last line that says anything, of the present process; "" for none."""
        return last_words(self._log(name), self._silent_until.get(name, 0))

    def bound(self, names: Iterable[str]) -> None:
        """Shorten those that have grown too long."""
        for name in names:
            bound_log(self._log(name))

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def bound_log(path: Path) -> None:
    """Keep at most one earlier log file beside the present one.

    The process that appends to it goes on in the same file, at its new end; a line that it prints
    in just this moment may be lost. On a full disk the earlier part is given up.
    """
    try:
        if path.stat().st_size <= LOG_BYTES_MAX:
            return
    except OSError:
        return
    earlier = path.with_suffix(".log.1")
    try:
        with path.open("rb") as source, open_private(earlier, "wb") as copy:
            shutil.copyfileobj(source, copy)
    except OSError:
        with contextlib.suppress(OSError):
            earlier.unlink()
    with contextlib.suppress(OSError):
        os.truncate(path, 0)


def last_words(log: Path, since: int) -> str:
    """The last line that says anything in a log; `since`, unless it has become shorter again."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - LAST_WORDS_BYTES))
            lines = file.read(LAST_WORDS_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return ""
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(c for c in words if c.isprintable())[:LAST_WORDS_SHOWN]
