"""The folder of one replica: what is known of it, where it listens, what it has printed.

state.json        `Record`: enough for another control process to adopt the replica
ready             written by the replica: its base URL
output.log        what it prints; at most about 1 MB is kept
output.1.log      what it printed before its last restart
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.targets.lifecycle import Replica

LOG_BYTES_MAX = 1_000_000
LOG_BYTES_KEPT = 200_000
TAIL_LINES = 20
TAIL_BYTES = 8192
READY_BYTES_MAX = 1024
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Record(msgspec.Struct, frozen=True):
    """What is kept of a replica; `supervisor` is the process with which it ends, 0 for none."""

    supervisor: int
    replica: Replica
    schema: Literal[1] = 1


class NotLoopback(ValueError):
    """A replica says that it listens where other machines could reach it, or says no URL."""


class ReplicaFolder:
    """One replica's folder below the target's root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ready = path / "ready"
        self.log = path / "output.log"
        self._log_before = path / "output.1.log"
        self._state = path / "state.json"

    def prepare(self) -> None:
        """Make it ready for a start: nothing of the process before is mistaken for the new one."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ready.unlink(missing_ok=True)
        if self.log.exists():
            self.log.replace(self._log_before)

    def save(self, record: Record) -> None:
        """Write the record whole or not at all. Raises `OSError`."""
        partial = self._state.with_suffix(".part")
        partial.touch(mode=0o600)
        partial.write_bytes(msgspec.json.encode(record))
        partial.replace(self._state)

    def load(self) -> Record | None:
        """The record; None where there is none that can be read."""
        try:
            return decode_json(self._state.read_bytes(), Record)
        except (OSError, msgspec.DecodeError):
            return None

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def base_url(self) -> str | None:
        """Where the replica listens; None as long as it has not said so.

        Raises:
            NotLoopback: it names no URL of this machine.
        """
        try:
            with self.ready.open("rb") as file:
                said = file.read(READY_BYTES_MAX).decode(errors="replace").strip()
        except FileNotFoundError:
            return None
        try:
            url = urlsplit(said)
            fine = url.scheme == "http" and url.hostname in LOOPBACK and bool(url.port)
        except ValueError:
            fine = False
        if not fine:
            raise NotLoopback(f"it says that it listens at {said!r}, which is not on loopback")
        return said

    def tail(self) -> str:
        """The last lines that it printed."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - TAIL_BYTES))
                text = file.read(TAIL_BYTES).decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-TAIL_LINES:])

    def bound_log(self) -> None:
        """Keep the end of an output that has become too long.

        The replica appends, so that it goes on writing behind what is kept. A line that it prints
        in just this moment may be lost.
        """
        try:
            with self.log.open("r+b") as file:
                size = file.seek(0, 2)
                if size <= LOG_BYTES_MAX:
                    return
                file.seek(size - LOG_BYTES_KEPT)
                kept = file.read(LOG_BYTES_KEPT)
                file.seek(0)
                file.truncate()
                file.write(kept.partition(b"\n")[2])
        except FileNotFoundError:
            return
