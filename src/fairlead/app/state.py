"""The state folder: where one installation keeps everything it knows.

registry/          releases, content-addressed (OCI image layout)
fairlead.db        the store (SQLite)
spool/             records on their way from the gateway to the store
replicas/          one folder per running replica
run/               what lives as long as `fairlead up`: lock, addresses, token, snapshot
logs/              output of the processes
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, StorageFailed, Unavailable

DEFAULT_STATE = Path(".fairlead")
STATE_VARIABLE = "FAIRLEAD_STATE"


class UpInfo(msgspec.Struct, frozen=True):
    """What other commands need to know of the running `fairlead up`."""

    pid: int
    gateway_url: str
    control_url: str


class StatePaths:
    """The places below one state folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.registry = self.root / "registry"
        self.database = self.root / "fairlead.db"
        self.spool = self.root / "spool"
        self.replicas = self.root / "replicas"
        self.run = self.root / "run"
        self.logs = self.root / "logs"
        self.lock = self.run / "up.lock"
        self.up = self.run / "up.json"
        self.token = self.run / "control.token"
        self.snapshot = self.run / "snapshot.json"
        self.metrics = self.run / "metrics"

    @property
    def store_url(self) -> str:
        return f"sqlite:///{self.database}"

    def create(self) -> None:
        """Make the folders, readable by the owner alone; raises StorageFailed."""
        try:
            for folder in (self.root, self.run, self.logs, self.spool, self.replicas, self.metrics):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"{self.root}: cannot create the state folder: {error.strerror}",
                hint="choose another one with --state",
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of `fairlead up`; raises Conflict when another process holds it."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
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
    """Replace a file as a whole; only the owner can read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
