"""Makes one replica slower than its peers, as a machine does that others use, too."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

STOPPED_S, RUNNING_S = 0.1, 0.05


@contextlib.contextmanager
def throttled(pid: int) -> Iterator[None]:
    """A process that runs for a third of the time, in short turns; it goes on afterwards."""
    is_over = threading.Event()

    def throttle() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not is_over.is_set():
                os.kill(pid, signal.SIGSTOP)
                is_over.wait(STOPPED_S)
                os.kill(pid, signal.SIGCONT)
                is_over.wait(RUNNING_S)

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
