"""Writes down how far the observer is (`fairlead.wire.observing`), about once a second.

It is for others to look at. A disk that refuses it holds up no record.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from fairlead.domain.errors import StorageFailed
from fairlead.observer.spool import Batch, spool_folders
from fairlead.wire.observing import ObserverStanding, encode_standing
from fairlead.wire.spool import SEGMENT_SUFFIX

TELL_EVERY_S = 1.0


class Taken(msgspec.Struct):
    """What was taken into the store in this life, in records and damaged frames."""

    requests: int = 0
    feedback: int = 0
    samples: int = 0
    damaged: int = 0

    def add(self, batch: Batch, damaged: int) -> None:
        """Count a batch that the store has."""
        self.requests += len(batch.requests)
        self.feedback += len(batch.feedback)
        self.samples += len(batch.samples)
        self.damaged += damaged


class StandingFile:
    """See the head of this file.

    Args:
        path: The file; None to write nothing.
        archived_until: What the archive has of the spools with these boot ids, as Unix time; None
            without an archive.
        traces: Requests by what became of their spans.
    """

    def __init__(
        self,
        path: Path | None,
        spool_dir: Path,
        archived_until: Callable[[Collection[str]], float] | None = None,
        traces: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._path = path
        self._dir = spool_dir
        self._archived_until = archived_until
        self._traces = traces
        self._started_at = time.time()
        self._told_at = float("-inf")
        self.failures = 0

    def tell(self, taken: Taken, *, at_once: bool = False) -> None:
        """Write it, if it is time to."""
        now = time.monotonic()
        if self._path is None or (now - self._told_at < TELL_EVERY_S and not at_once):
            return
        self._told_at = now
        with contextlib.suppress(OSError, StorageFailed):
            _replace(self._path, encode_standing(self._standing(taken)))

    def _standing(self, taken: Taken) -> ObserverStanding:
        boots = spool_folders(self._dir)
        until = None if self._archived_until is None else self._archived_until(boots)
        return ObserverStanding(
            at=time.time(),
            started_at=self._started_at,
            requests=taken.requests,
            feedback=taken.feedback,
            samples=taken.samples,
            damaged=taken.damaged,
            failures=self.failures,
            spools=len(boots),
            spool_bytes=sum(_bytes(self._dir / boot) for boot in boots),
            archives=until is not None,
            archived_until=until or 0.0,
            traces=self._traces(),
        )


def _bytes(folder: Path) -> int:
    """What the segments of a spool have together; 0 for one that goes just now."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sum(
            entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if entry.name.endswith(SEGMENT_SUFFIX)
        )
    return 0


def _replace(path: Path, data: bytes) -> None:
    """As a whole, and for its owner alone; raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    temporary.replace(path)
