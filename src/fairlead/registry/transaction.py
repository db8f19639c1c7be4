"""An addition to the layout: blobs are staged, then named with the index, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fairlead.domain.errors import Conflict
from fairlead.domain.release import sha256_digest
from fairlead.registry import oci
from fairlead.registry.disk import fsync_folder, storing, write_all
from fairlead.registry.layout import Layout

IndexChange = Callable[[list[dict[str, Any]]], tuple[dict[str, Any], ...]]
"""Index entries as they are in, as they shall be out."""


class StagedFile:
    """A file of about `expected` bytes being written into staging, hashed on the way."""

    def __init__(self, path: Path, expected: int) -> None:
        self.path = path
        self.size = 0
        self._expected = expected
        self._hasher = hashlib.sha256()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)

    def write(self, data: bytes) -> None:
        """Append; raises `StorageFailed` when the disk refuses."""
        with storing(self.path.parent, max(self._expected, self.size + len(data))):
            write_all(self.fd, data)
        self._hasher.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Begin anew, for a source that cannot go on where it broke off."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return f"sha256:{self._hasher.hexdigest()}"


class Transaction:
    """Blobs for one release; `commit` names them and lists them, else nothing of them stays."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._folder = folder
        self._staged: dict[str, Path] = {}
        self._relied_on: set[str] = set()
        self._bytes = 0

    def reuse(self, digest: str) -> bool:
        """Whether the blob is here already and sound; it is then not staged again."""
        if digest in self._staged:
            return True
        if not self._layout.holds(digest):
            return False
        self._relied_on.add(digest)
        return True

    def add_bytes(self, data: bytes) -> str:
        """Stage a small blob; returns its digest."""
        digest = sha256_digest(data)
        if not self.reuse(digest):
            with self.new_file(len(data)) as file:
                file.write(data)
        return digest

    @contextlib.contextmanager
    def new_file(self, expected: int) -> Iterator[StagedFile]:
        """Stage what is written in the block, about `expected` bytes, unless it raises."""
        with self._storing():
            name = f"blob-{len(self._staged)}-{os.urandom(4).hex()}"
            file = StagedFile(self._folder / name, expected)
        try:
            yield file
            self._bytes += file.size
            with self._storing():
                os.fsync(file.fd)
        except BaseException:
            file.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file.fd)
        self._staged[file.digest] = file.path

    def commit(self, change: IndexChange) -> None:
        """Name all staged blobs and publish the changed index.

        Raises:
            StorageFailed: The disk refused; nothing of this transaction stays.
            Conflict: A blob that was relied on went away meanwhile.
        """
        with self._layout.index_lock(), self._storing():
            index = self._layout.index()
            entries = change([dict(entry) for entry in index.manifests])
            changed = oci.Index(manifests=entries, annotations=index.annotations)
            staged_index = self._layout.stage_index(self._folder, changed)
            for digest in self._relied_on:
                if not self._layout.path_of(digest).exists():
                    raise Conflict(f"blob {digest} was removed meanwhile", hint="run it again")
            named: list[Path] = []
            try:
                self._name_blobs(named)
                self._layout.publish_index(staged_index)
            except BaseException:
                if staged_index.exists():
                    for path in named:
                        path.unlink(missing_ok=True)
                raise

    def _name_blobs(self, named: list[Path]) -> None:
        for digest, path in self._staged.items():
            target = self._layout.path_of(digest)
            if not target.exists():
                named.append(target)
            elif self._layout.holds(digest):
                continue  # Another build was faster.
            path.replace(target)
            self._layout.forget(digest)
        if self._staged:
            fsync_folder(self._layout.blobs)

    def _storing(self) -> contextlib.AbstractContextManager[None]:
        return storing(self._layout.root, self._bytes)


@contextlib.contextmanager
def transaction(layout: Layout) -> Iterator[Transaction]:
    """Begin a transaction; what was not committed when the block ends is gone."""
    with layout.building(), contextlib.ExitStack() as stack:
        with storing(layout.root, 0):
            folder = stack.enter_context(layout.new_staging())
        yield Transaction(layout, folder)
