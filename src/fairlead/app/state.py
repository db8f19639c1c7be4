"""The state folder: where one installation keeps everything it knows.

registry/          releases, content-addressed (OCI image layout)
fairlead.db        the store (SQLite)
word-vectors.npz   what words mean, for monitors of drift (`fairlead monitor vectors`)
service-vectors/   what a service's own users mean, a folder each (`... vectors --service`)
telemetry/         records for the long term (Parquet)
spool/             records on their way from the gateway to the store and to telemetry/
replicas/          one folder per running replica
run/               what lives as long as `fairlead up`: lock, addresses, token, snapshot
logs/              output of the processes
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, StorageFailed, Unavailable
from fairlead.gateway.settings import TlsFiles

DEFAULT_STATE = Path(".fairlead")
STATE_VARIABLE = "FAIRLEAD_STATE"


class UpInfo(msgspec.Struct, frozen=True):
    """What other commands need to know of the running `fairlead up`."""

    pid: int
    gateway_url: str
    control_url: str
    tls: TlsFiles | None = None


class StatePaths:
    """The places below one state folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.registry = self.root / "registry"
        self.database = self.root / "fairlead.db"
        self.word_vectors = self.root / "word-vectors.npz"
        self.service_vectors = self.root / "service-vectors"
        self.telemetry = self.root / "telemetry"
        self.spool = self.root / "spool"
        self.replicas = self.root / "replicas"
        self.run = self.root / "run"
        self.logs = self.root / "logs"
        self.lock = self.run / "up.lock"
        self.up = self.run / "up.json"
        self.token = self.run / "control.token"
        self.snapshot = self.run / "snapshot.json"
        self.metrics = self.run / "metrics"
        self.observer = self.run / "observer.json"
        self.metrics_token = self.run / "metrics.token"

    @property
    def store_url(self) -> str:
        return f"sqlite:///{self.database}"

    def create(self) -> None:
        """Make the folders, readable by the owner alone, and close those that others can read.

        Raises StorageFailed, and Conflict for a folder that others can read and that is not ours.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_root()
            for folder in (self.run, self.logs, self.spool, self.replicas, self.metrics):
                folder.mkdir(mode=0o700, exist_ok=True)
                _close(folder)
            if self.registry.is_dir():
                _close(self.registry)
            for log in self.logs.iterdir():
                _close(log)
        except OSError as error:
            raise StorageFailed(
                f"{self.root}: cannot create the state folder: {error.strerror}",
                hint="choose another one with --state",
            ) from None

    def _close_root(self) -> None:
        """Take from others what they can read; raises Conflict, OSError."""
        if not _is_open(self.root):
            return
        names = {entry.name for entry in self.root.iterdir()}
        if names and not names & {self.registry.name, self.database.name, self.run.name}:
            # `--state /tmp`, say: what else is there may be meant for others.
            raise Conflict(
                f"{self.root}: others can read this folder, and it holds things that are not ours",
                hint=f"choose another one with --state, or: chmod 700 {self.root}",
            )
        try:
            _close(self.root)
        except PermissionError:
            raise StorageFailed(
                f"{self.root}: others can read this folder, and it belongs to another user",
                hint="choose one of your own with --state",
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of `fairlead up`; raises Conflict when another process holds it."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _not_written(self.lock, error) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                other = self.read_up()
                where = f" (pid {other.pid}, {other.gateway_url})" if other else ""
                raise Conflict(
                    f"fairlead is already up on {self.root}{where}",
                    hint="stop it with `fairlead down`, or use another folder with --state",
                ) from None
            yield
        finally:
            os.close(descriptor)

    def read_up(self) -> UpInfo | None:
        """Addresses of the running `up`, or None when none is written down."""
        try:
            return decode_json(self.up.read_bytes(), UpInfo)
        except (OSError, msgspec.MsgspecError):
            return None

    def require_up(self) -> UpInfo:
        """Addresses of the running `up`; raises Unavailable when there is none."""
        info = self.read_up()
        if info is None or not self.is_locked():
            raise Unavailable(
                f"fairlead is not running on {self.root}",
                hint="start it with `fairlead up`, or name its folder with --state",
            )
        return info

    def is_locked(self) -> bool:
        """Whether an `up` holds the lock at this moment."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def read_token(self) -> str:
        """The control token; raises Unavailable when it cannot be read."""
        try:
            return self.token.read_text().strip()
        except OSError as error:
            raise Unavailable(
                f"{self.token}: {error.strerror}", hint="is it your folder?"
            ) from None


def write_private(path: Path, data: bytes) -> None:
    """Replace a file as a whole; only the owner can read it. Raises StorageFailed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open_private(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def open_private(path: Path, mode: Literal["wb", "ab"]) -> BinaryIO:
    """Open a file to write to; one that is made so can be read by the owner alone."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def _not_written(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"{path}: cannot be written: {error.strerror}",
        hint="is the disk full, or something else in its place? `fairlead doctor` looks",
    )


def _is_open(path: Path) -> bool:
    """Whether others than the owner have any right to it."""
    return stat.S_IMODE(path.stat().st_mode) & 0o077 != 0


def _close(path: Path) -> None:
    if _is_open(path):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
