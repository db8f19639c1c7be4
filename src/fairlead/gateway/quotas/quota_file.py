"""A worker's part in the limits, on disk: the next process on its seat goes on with it.

Without it, a worker that is started again while control is down would have its fair share of the
day and the month a second time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.gateway.quotas.quota import QuotaBook
from fairlead.wire.quota import WindowUse

_log = logging.getLogger("fairlead.gateway")


class Seat(msgspec.Struct, frozen=True):
    """What is kept; `boot` is the life of the worker that wrote it."""

    seat: str
    pid: int
    boot: str
    uses: tuple[WindowUse, ...] = ()


class QuotaFile:
    """One worker's file."""

    def __init__(self, path: Path, boot: str) -> None:
        self._path = path
        self._boot = boot
        self._written = b""

    def take_over(self) -> Seat:
        """The seat of a process that has ended; a new one if there is none, or it still runs."""
        fresh = Seat(self._boot, os.getpid(), self._boot)
        try:
            kept = decode_json(self._path.read_bytes(), Seat)
        except FileNotFoundError:
            return fresh
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("what was used of limits cannot be read: %s", error)
            return fresh
        return fresh if kept.pid != os.getpid() and _runs(kept.pid) else kept

    def book(self, worker: int, hurry: Callable[[], None]) -> QuotaBook:
        """The book of this seat, which goes on with what `take_over` finds.

        Args:
            hurry: As of `QuotaBook`.
        """
        seat = self.take_over()
        book = QuotaBook(seat.seat, worker, sequence=time.time_ns() // 1000, hurry=hurry)
        book.kept = {use.limit: use for use in seat.uses}
        return book

    def keep(self, seat: str, uses: list[WindowUse]) -> None:
        """Write it down, if it has changed."""
        data = msgspec.json.encode(Seat(seat, os.getpid(), self._boot, tuple(uses)))
        if data == self._written or not (uses or self._written):
            return
        temporary = self._path.with_name(f".{self._path.name}.{self._boot}")
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(data)
            temporary.replace(self._path)
            self._written = data
        except OSError as error:
            _log.warning("what was used of limits cannot be written: %s", error.strerror)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
