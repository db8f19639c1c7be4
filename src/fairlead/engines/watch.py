"""Waits for the end of a replica: a signal to stop, or the end of its supervisor.

The supervisor is the process that outlives control, `fairlead up`. A replica watches it by a
handle on that process, not by its number, which may be given to another process later: a pidfd on
Linux, kqueue on macOS; elsewhere the number is looked up once a second.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

POLL_S = 1.0


class SupervisorGone(Exception):
    """The process for which this replica runs does not exist any more."""


class StopWatch:
    """Watches from its construction on; `parent` 0 means that nobody is watched.

    Raises:
        SupervisorGone: from the constructor, `check` and `wait`.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._handle = _handle(parent) if parent else None
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)

    def take_signals(self) -> None:
        """From now on SIGTERM and SIGINT end `wait` instead of the process."""
        signal.set_wakeup_fd(self._wake.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ignore)

    def check(self) -> None:
        """Raise when the supervisor is gone."""
        if self._handle is not None:
            gone = bool(select.select([self._handle], [], [], 0)[0])
        else:
            gone = bool(self._parent) and not _exists(self._parent)
        if gone:
            raise SupervisorGone(f"its supervisor, process {self._parent}, is gone")

    def wait(self) -> None:
        """Return when a signal asks to stop."""
        handles: list[int | HasFileno] = [self._woken]
        timeout: float | None = None
        if self._handle is not None:
            handles.append(self._handle)
        elif self._parent:
            timeout = POLL_S
        while True:
            if self._woken in select.select(handles, [], [], timeout)[0]:
                return
            self.check()


def _ignore(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor carries the signal; Python wants a handler all the same."""


class HasFileno(Protocol):
    """What `select` can wait for."""

    def fileno(self) -> int:
        """Its file descriptor."""


def _handle(pid: int) -> int | HasFileno | None:
    """Something that becomes readable when the process ends; None where there is no such."""
    open_pidfd: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    kqueue = getattr(select, "kqueue", None)
    try:
        if open_pidfd is not None:
            return open_pidfd(pid)
        if kqueue is not None:
            queue: HasFileno = _end_of(pid, kqueue())
            return queue
    except ProcessLookupError as error:
        raise SupervisorGone(f"its supervisor, process {pid}, is gone") from error
    except OSError:
        # An old kernel, or a sandbox that knows no such call: the number is looked up instead.
        return None
    return None


def _end_of(pid: int, queue: Any) -> Any:
    """Let a kqueue report the end of the process (the names exist on BSD and macOS only)."""
    names: Any = select
    event = names.kevent(pid, names.KQ_FILTER_PROC, names.KQ_EV_ADD, fflags=names.KQ_NOTE_EXIT)
    queue.control([event], 0)
    return queue


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
