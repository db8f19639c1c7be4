"""Durable writes, free space and locks on the file system.

A write that was acknowledged survives a power cut: content is fsynced before it gets its name,
and the folder is fsynced after.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fairlead.domain.errors import Conflict, StorageFailed

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_POLL_S = 0.02


def free_bytes(path: Path) -> int:
    """Bytes that may still be written to the file system of `path`."""
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize


def require_space(path: Path, needed: int) -> None:
    """Raise `StorageFailed` when fewer than `needed` bytes are free at `path`."""
    free = free_bytes(path)
    if free < needed:
        raise _full(path, needed, free)


@contextlib.contextmanager
def storing(path: Path, needed: int) -> Iterator[None]:
    """Translate the system's errors from writing about `needed` bytes below `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _full(path, needed, free_bytes(path), reason=error.strerror) from error
        raise StorageFailed(f"{path}: {error}") from error


def _full(path: Path, needed: int, free: int, *, reason: str | None = None) -> StorageFailed:
    cause = f" ({reason})" if reason else ""
    return StorageFailed(
        f"not enough room at {path}{cause}: {needed:,} bytes are needed, {free:,} are free",
        hint="free some space (`fairlead release gc` removes unused releases); nothing was changed",
    )


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a new file and fsync it; the folder is the caller's to fsync."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of the data, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool, wait_s: float, busy: Callable[[], str]) -> Iterator[None]:
    """Hold the lock file `path`; the kernel frees it when the process ends, however it ends.

    Raises:
        Conflict: Someone else held it for `wait_s` seconds; `busy` says what that means.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Conflict(busy(), hint="try again when it has ended") from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)
