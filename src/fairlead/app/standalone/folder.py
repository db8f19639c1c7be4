"""The private folder of a running gateway, and how other commands find it.

It lies in the system's folder for temporary files, under a name that nobody can guess, and is gone
when the gateway is. In it: the snapshot, the workers' metrics, requests to restart, and
`gateway.json` with the process and its file. A folder is believed when it is the caller's own and
its lock is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fairlead.app.state import write_private
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, StorageFailed, Unavailable

SNAPSHOT = "snapshot.json"
METRICS = "metrics"
LIMITS = "limits"
"""Folder below the spool with what was used of limits."""
PREFIX = "fairlead-gateway-"
_INFO = "gateway.json"
_LOCK = "gateway.lock"


class GatewayInfo(msgspec.Struct, frozen=True):
    """What other commands need to know of a running gateway.

    Attributes:
        config: Its file, as an absolute path without links.
    """

    pid: int
    url: str
    config: str


class RunFolder:
    """The folder of one gateway; `path` is where."""

    def __init__(self) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageFailed(
                f"{tempfile.gettempdir()}: cannot be written: {error.strerror}",
                hint="name another folder for temporary files with TMPDIR",
            ) from None

    def announce(self, info: GatewayInfo) -> None:
        """Say who runs here; raises StorageFailed."""
        write_private(self.path / _INFO, msgspec.json.encode(info))

    def remove(self) -> None:
        """The gateway has ended."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def find_running(config: Path) -> tuple[Path, GatewayInfo]:
    """The folder of the gateway that runs on this file; raises Unavailable, or Conflict if several.

    Only the caller's own are looked for: what others have written is not believed.
    """
    wanted = str(config.resolve())
    found = [(path, info) for path, info in _running() if info.config == wanted]
    if not found:
        raise Unavailable(
            f"no gateway of yours runs on {config}",
            hint=f"is TMPDIR ({tempfile.gettempdir()}) the same for both? "
            "SIGUSR2 to its process does the same",
        )
    if len(found) > 1:
        pids = ", ".join(str(info.pid) for _, info in found)
        raise Conflict(
            f"several gateways run on {config}: processes {pids}",
            hint="send SIGUSR2 to the one that you mean: kill -USR2 PID",
        )
    return found[0]


def is_running(folder: Path) -> bool:
    """Whether the gateway of this folder runs."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _running() -> Iterator[tuple[Path, GatewayInfo]]:
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            info = decode_json((path / _INFO).read_bytes(), GatewayInfo)
            if is_running(path):
                yield path, info
