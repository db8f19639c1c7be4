"""What control and the lender of a gateway that runs alone both need to serve its workers."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Generator

import uvicorn


class Server(uvicorn.Server):
    """Leaves the signals to us: they say more than that it should end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True
