"""Every operation on files of the store: nothing else here writes, renames or deletes.

A service may be called anything. Its folder has its name as far as that is plain, and else a hash:
nothing in a name can lead out of the store, or collide on a disk that ignores case.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from fairlead.domain.errors import StorageFailed
from fairlead.telemetry.schema import HOUR_S

SUFFIX = ".parquet"
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_CHUNK = 1 << 20


class Folder:
    """The places and the files below one folder. Each method raises StorageFailed."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.catalogue = self.root / "catalogue.db"
        self.data = self.root / "data"
        self.damaged = self.root / "damaged"
        self.tmp = self.root / "tmp"
        self.spill = self.tmp / "spill"

    def create(self) -> None:
        """Make the folders, and clear away what a former life was writing."""
        with self._telling(self.root, "cannot be made"):
            for folder in (self.root, self.data, self.damaged, self.tmp):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self.tmp.iterdir():
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()

    def temporary(self, suffix: str) -> Path:
        """A new name for a file that is being written."""
        return self.tmp / f"{secrets.token_hex(8)}{suffix}"

    def place(self, kind: str, hour: int, service: str) -> str:
        """A new name, relative to `data`, for a file of this hour (since 1970) and service."""
        when = time.strftime("%Y-%m-%dT%H", time.gmtime(hour * HOUR_S))
        return f"{kind}/{when}/{_plain(service)}/{secrets.token_hex(8)}{SUFFIX}"

    def publish(self, temporary: Path, place: str) -> None:
        """Give a written file its name, so that it outlives a crash of the machine."""
        target = self.data / place
        with self._telling(target, "cannot be written"):
            sync(temporary)
            above = (target.parent.parent.parent, target.parent.parent, target.parent)
            for folder in above:
                folder.mkdir(mode=0o700, exist_ok=True)
            rename(temporary, target)
            for folder in above:
                sync(folder)

    def remove(self, place: str) -> None:
        """Delete a file, and folders that are empty then. One that is gone is fine."""
        target = self.data / place
        with self._telling(target, "cannot be deleted"):
            with contextlib.suppress(FileNotFoundError):
                unlink(target)
            for folder in (target.parent, target.parent.parent):
                try:
                    folder.rmdir()
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                        raise
                    break

    def set_aside(self, place: str) -> None:
        """Move a damaged file to `damaged/`. One that is gone is fine."""
        target = self.damaged / place.replace("/", "~")
        with self._telling(target, "cannot be set aside"), contextlib.suppress(FileNotFoundError):
            rename(self.data / place, target)

    def everything(self) -> Iterator[str]:
        """Places of all data files there are."""
        with self._telling(self.data, "cannot be listed"):
            for path in self.data.glob(f"*/*/*/*{SUFFIX}"):
                yield str(path.relative_to(self.data))

    def is_sound(self, place: str, size: int, checksum: int) -> bool:
        """Whether the file is there and has the bytes that were written."""
        try:
            return measure(self.data / place) == (size, checksum)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.EIO:  # the disk cannot read it any more
                return False
            raise StorageFailed(f"{place}: cannot be read: {error.strerror}") from error

    @contextlib.contextmanager
    def _telling(self, path: Path, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFailed(f"{path}: {what}: {error.strerror}") from error


def discard(path: Path) -> None:
    """Delete a temporary file if it can be; the next start does else."""
    with contextlib.suppress(OSError):
        unlink(path)


def write(path: Path, data: bytes) -> None:
    """Write a temporary file; raises OSError."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(data)


def measure(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file; raises OSError."""
    size = checksum = 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            size += len(data)
            checksum = zlib.crc32(data, checksum)
    return size, checksum


def rename(source: Path, target: Path) -> None:
    """Raises OSError."""
    os.rename(source, target)


def unlink(path: Path) -> None:
    """Raises OSError."""
    os.unlink(path)


def sync(path: Path) -> None:
    """Have a file or a folder on the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(service: str) -> str:
    if _PLAIN.fullmatch(service):
        return service
    return f"~{hashlib.sha256(service.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
