"""Model files on this machine."""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairlead.domain.errors import Conflict, InvalidInput, NotFound
from fairlead.registry.layout import CHUNK, digest_of
from fairlead.registry.model_files import accept_file, check_name
from fairlead.registry.sources.selection import choose, choose_named
from fairlead.registry.sources.source_file import Advance, Sink, SourceFile

_LISTED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file."""

    path: Path
    size: int

    @property
    def name(self) -> str:
        """File name."""
        return self.path.name

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.path)

    def check(self) -> None:
        """Read the header in place."""
        with _opened(self.path) as fd:
            accept_file(fd, name=self.name, label=self.label)

    def known_digest(self, advance: Advance) -> str | None:
        """Reading costs less than copying."""
        with _opened(self.path) as fd:
            return digest_of(fd, advance)

    def copy_into(self, sink: Sink, advance: Advance) -> None:
        """Copy; raises `Conflict` when the file changes its size meanwhile."""
        with _opened(self.path) as fd:
            while chunk := os.pread(fd, CHUNK, sink.size):
                sink.write(chunk)
                advance(sink.size)
        if sink.size != self.size:
            raise Conflict(f"{self.path} changed while it was read")


def local_files(path: Path) -> list[SourceFile]:
    """The files of the model at `path`, a file or folder; the engine's file first.

    Raises:
        NotFound: There is nothing at the path; the hint has the nearest names.
        ModelFileRefused: It is not a model that can be taken.
        InvalidInput: It cannot be read, or is neither file nor folder.
    """
    state = _state(path)
    if stat.S_ISDIR(state.st_mode):
        folder, names = path, choose(_names(path), place=str(path))
    elif stat.S_ISREG(state.st_mode):
        check_name(path.name)
        folder, names = path.parent, choose_named(path.name, _names(path.parent), place=str(path))
    else:
        raise InvalidInput(f"{path} is neither a file nor a folder")
    files: list[SourceFile] = []
    for name in names:
        with _opened(folder / name) as fd:
            files.append(LocalFile(folder / name, os.fstat(fd).st_size))
    return files


def _state(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _names(path.parent), n=3)
        raise NotFound(
            f"model {path} does not exist",
            hint=f"did you mean {', '.join(near)}?" if near else None,
        ) from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as found:
            names = [item.name for item, _ in zip(found, range(_LISTED_MAX), strict=False)]
    except OSError:
        return []
    return sorted(names)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open for reading; a pipe or device is refused instead of waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"model {path} does not exist") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidInput(f"{path} is not a regular file")
        yield fd
    finally:
        os.close(fd)
