"""Writes this worker's spool: its folder, its lock, its segments. Format: `fairlead.wire.spool`."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol

from fairlead.gateway.limits import SEGMENT_BYTES_MAX
from fairlead.gateway.settings import WorkerSettings
from fairlead.wire.spool import ALIVE_FILE, MAGIC, segment_name


class Spool(Protocol):
    """Where a recorder writes."""

    @property
    def keeps(self) -> bool:
        """Whether anything is written; if not, records need not even be made."""

    def write(self, data: bytes) -> None:
        """Append; raises OSError."""

    def close(self) -> None:
        """Nothing more comes."""


class NullSpool:
    """For a gateway that records nothing."""

    keeps = False

    def write(self, data: bytes) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing is open."""


class SpoolWriter:
    """Appends whole batches of frames: after an error nothing of the batch is in the file.

    The folder is made with the first write, so a full disk at start does not keep the worker from
    serving. It appears under its name with its lock already held: a reader that finds it unlocked
    knows that its worker is dead.
    """

    keeps = True

    def __init__(self, folder: Path, *, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        self._folder = folder
        self._segment_bytes_max = segment_bytes_max
        self._alive = -1
        self._segment = -1
        self._number = 0
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append; raises OSError when the disk refuses, and can be called again then."""
        if self._alive < 0:
            self._make_folder()
        if self._segment >= 0 and self._size + len(data) > self._segment_bytes_max:
            self._close_segment()
        if self._segment < 0:
            self._open_segment()
        try:
            _write_all(self._segment, data)
        except OSError:
            self._take_back()
            raise
        self._size += len(data)

    def close(self) -> None:
        """Flush to the disk and let go of the lock."""
        if self._segment >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._segment)
            self._close_segment()
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    def _make_folder(self) -> None:
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden = self._folder.with_name(f".{self._folder.name}.new")
        hidden.mkdir(mode=0o700, exist_ok=True)
        alive = os.open(hidden / ALIVE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(self._folder)
        except OSError:
            os.close(alive)
            raise
        self._alive = alive

    def _open_segment(self) -> None:
        path = self._folder / segment_name(self._number + 1)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        segment = os.open(path, flags, 0o600)
        try:
            _write_all(segment, MAGIC)
        except OSError:
            os.close(segment)
            path.unlink(missing_ok=True)
            raise
        self._segment = segment
        self._number += 1
        self._size = len(MAGIC)

    def _close_segment(self) -> None:
        os.close(self._segment)
        self._segment = -1

    def _take_back(self) -> None:
        """Cut off what was written of a failed batch, and go on in a new segment.

        A reader may have seen whole frames of the batch already. It would be out of step with
        frames written over them; in a new segment they come again under the same ids.
        """
        with contextlib.suppress(OSError):
            os.ftruncate(self._segment, self._size)
        self._close_segment()


def _write_all(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def spool_of(settings: WorkerSettings) -> Spool:
    """Where a worker's records go."""
    if settings.spool_dir is None:
        return NullSpool()
    return SpoolWriter(Path(settings.spool_dir) / settings.boot)
