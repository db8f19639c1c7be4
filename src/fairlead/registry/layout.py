"""An OCI image layout on disk: blobs by digest, an index, and staging for what is being built.

    oci-layout, index.json, blobs/sha256/<hex>      as the specification has it
    fairlead/staging/<name>/                         one folder per build that is under way
    fairlead/unpacked/<engine digest>/               links under file names, see `unpacking`
    fairlead/lock, fairlead/index.lock               who builds or collects; who writes the index

A blob gets its name by rename only after its content was fsynced, and the index names a blob only
after that. So after a crash there may be staging folders and blobs that nothing names, which a
collection removes, but never a name without its content. Builders share `lock`; a collection has
it alone, so that it never takes a blob that a builder is about to name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, Damaged, InvalidInput, NotFound, StorageFailed
from fairlead.domain.release import sha256_digest
from fairlead.registry import oci
from fairlead.registry.disk import fsync_folder, locked, storing, write_durably

READ_MAX = 256 * 1024 * 1024
"""Bytes of a blob that is read as a whole; weights are handed out by path."""
INDEX_MAX = 64 * 1024 * 1024
CHUNK = 1 << 20
CACHE_MAX = 4096
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
_TICK_NS = 50_000_000
_TRIES = 5
_INDEX_WAIT_S = 30.0
_BUILD_WAIT_S = 60.0
_COLLECT_WAIT_S = 2.0

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime: a file for which these are equal was not written to."""


class Layout:
    """One image layout; safe to use from several threads and processes at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs" / "sha256"
        self.index_file = root / "index.json"
        self.staging = root / "fairlead" / "staging"
        self.unpacked = root / "fairlead" / "unpacked"
        self._locks = root / "fairlead"
        self._verified: dict[str, Identity] = {}
        with storing(root, 0):
            self._create()

    def _create(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.blobs, self.staging, self.unpacked):
            folder.mkdir(parents=True, exist_ok=True)
        if (self.root / "oci-layout").exists():
            return
        with self.index_lock():
            # The index is written first: a layout file without an index is damage, not a start.
            if not self.index_file.exists():
                if any(self.blobs.iterdir()):
                    raise Damaged(
                        f"{self.root} has blobs but no index.json",
                        hint="restore index.json, or move the folder away to start anew",
                    )
                self._put(self.index_file, oci.encode(oci.Index(manifests=())))
            if not (self.root / "oci-layout").exists():
                self._put(self.root / "oci-layout", LAYOUT_FILE)

    def _put(self, target: Path, data: bytes) -> None:
        with self.new_staging() as folder:
            write_durably(folder / "file", data)
            (folder / "file").replace(target)
            fsync_folder(self.root)

    # Locks and staging

    def building(self) -> contextlib.AbstractContextManager[None]:
        """Held, with others, while blobs are added."""
        return locked(
            self._locks / "lock",
            shared=True,
            wait_s=_BUILD_WAIT_S,
            busy=lambda: f"a collection is under way in {self.root}",
        )

    def collecting(self) -> contextlib.AbstractContextManager[None]:
        """Held alone, while blobs are removed."""
        return locked(
            self._locks / "lock",
            shared=False,
            wait_s=_COLLECT_WAIT_S,
            busy=lambda: f"a build or another collection is under way in {self.root}",
        )

    def index_lock(self) -> contextlib.AbstractContextManager[None]:
        """Held alone, while the index is changed."""
        return locked(
            self._locks / "index.lock",
            shared=False,
            wait_s=_INDEX_WAIT_S,
            busy=lambda: f"the index of {self.root} is being changed",
        )

    @contextlib.contextmanager
    def new_staging(self) -> Iterator[Path]:
        """A folder of its own on the same file system; gone when the block ends."""
        folder = self.staging / f"{os.getpid()}-{os.urandom(6).hex()}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            for left in folder.iterdir():
                left.unlink()
            folder.rmdir()

    # The index

    def index(self) -> oci.Index:
        """The index as it is now; raises `Damaged` when it cannot be read."""
        try:
            with self.index_file.open("rb") as file:
                data = file.read(INDEX_MAX + 1)
            if len(data) > INDEX_MAX:
                raise Damaged(f"{self.index_file} is larger than {INDEX_MAX:,} bytes")
            index = decode_json(data, oci.Index)
        except FileNotFoundError:
            raise Damaged(f"{self.index_file} is missing") from None
        except OSError as error:
            raise StorageFailed(f"{self.index_file}: {error}") from error
        except msgspec.DecodeError as error:
            raise Damaged(f"{self.index_file} cannot be read: {error}") from None
        if index.schema_version != 2 or index.media_type != oci.INDEX_TYPE:
            raise Damaged(f"{self.index_file} is not an OCI image index")
        return index

    def stage_index(self, folder: Path, index: oci.Index) -> Path:
        """Write the index into a staging folder, durably; `publish_index` then names it."""
        path = folder / "index.json"
        write_durably(path, oci.encode(index))
        return path

    def publish_index(self, staged: Path) -> None:
        """Put a staged index in place. The index lock must be held."""
        staged.replace(self.index_file)
        fsync_folder(self.root)

    # Blobs

    def path_of(self, digest: str) -> Path:
        """Where a blob is or would be; raises `InvalidInput` for what is no digest."""
        if not oci.DIGEST.fullmatch(digest):
            raise InvalidInput(f"{ascii(digest)[:100]} is not a digest (sha256: and 64 hex digits)")
        return self.blobs / digest.removeprefix("sha256:")

    def blob_sizes(self) -> dict[str, int]:
        """Digest and bytes of each blob in the layout, without reading any."""
        with os.scandir(self.blobs) as found:
            named = ((f"sha256:{item.name}", item) for item in found)
            return {d: i.stat().st_size for d, i in named if oci.DIGEST.fullmatch(d)}

    def read(self, digest: str) -> bytes:
        """A blob's content, once it is found to match its digest.

        Raises:
            NotFound: There is no such blob.
            Damaged: The content does not match.
        """
        fd = self._open(digest)
        try:
            size = os.fstat(fd).st_size
            if size > READ_MAX:
                raise InvalidInput(f"{digest} has {size:,} bytes; at most {READ_MAX:,} are read")
            with storing(self.root, 0), os.fdopen(os.dup(fd), "rb") as file:
                data = file.read(READ_MAX)
        finally:
            os.close(fd)
        if sha256_digest(data) != digest:
            raise self._damaged(digest)
        return data

    def path_verified(self, digest: str) -> Path:
        """A blob's path, once its content is found to match; again only when the file changed.

        Raises:
            NotFound: There is no such blob.
            Damaged: The content does not match.
        """
        for _ in range(_TRIES):
            if self._verify(digest):
                return self.path_of(digest)
        raise Conflict(f"the stored blob {digest} is being changed", hint="try again")

    def _verify(self, digest: str) -> bool:
        """Compare a blob with its digest; False when its file was touched meanwhile.

        Another process that repairs or renews the blob does so, which is no damage.
        """
        fd = self._open(digest)
        try:
            before = _identity(fd)
            if self._verified.get(digest) == before:
                return True
            with storing(self.root, 0):
                actual = digest_of(fd)
            if actual != digest:
                self._verified.pop(digest, None)
                raise self._damaged(digest)
            if _identity(fd) != before:
                return False
        finally:
            os.close(fd)
        # The clock of ctime ticks in milliseconds: a write in the same tick would go unseen.
        if time.time_ns() - before[-1] > _TICK_NS:
            if len(self._verified) >= CACHE_MAX:
                self._verified.clear()
            self._verified[digest] = before
        return True

    def holds(self, digest: str) -> bool:
        """Whether the blob is here and sound."""
        try:
            self.path_verified(digest)
        except (NotFound, Damaged):
            return False
        return True

    def touch(self, digest: str) -> None:
        """Make the blob count as new."""
        with storing(self.root, 0):
            os.utime(self.path_of(digest))

    def forget(self, digest: str) -> None:
        """Let the next check of this blob read it again."""
        self._verified.pop(digest, None)

    def _open(self, digest: str) -> int:
        try:
            return os.open(self.path_of(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"{self.root} has no blob {digest}") from None
        except OSError as error:
            raise StorageFailed(f"{self.path_of(digest)}: {error}") from error

    def _damaged(self, digest: str) -> Damaged:
        return Damaged(
            f"the stored blob {digest} does not match its digest; it is not used",
            hint="build the release again from its source; `fairlead release verify` lists damage",
        )


def digest_of(fd: int, advance: Callable[[int], None] | None = None) -> str:
    """`sha256:<hex>` of the whole file; `advance` is called with the bytes read so far."""
    hasher = hashlib.sha256()
    at = 0
    while chunk := os.pread(fd, CHUNK, at):
        hasher.update(chunk)
        at += len(chunk)
        if advance is not None:
            advance(at)
    return f"sha256:{hasher.hexdigest()}"


def _identity(fd: int) -> Identity:
    state = os.fstat(fd)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
