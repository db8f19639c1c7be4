"""What the supervisor is told by signals, and its sleep, which a signal ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Sequence
from types import FrameType


class Wishes:
    """What was asked for; all of it is safe to call from a signal handler.

    Attributes:
        is_stop_asked: It is to end.
    """

    def __init__(self) -> None:
        self.is_stop_asked = False
        self._is_restart_asked = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def install_signal_handlers(self) -> None:
        """SIGINT, SIGTERM and SIGHUP ask for an end; SIGUSR2 for a restart of the gateway."""
        for number in heeded((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGUSR2, lambda _number, _frame: self.ask_restart())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.ask_stop()

    def ask_stop(self) -> None:
        """End soon."""
        self.is_stop_asked = True
        self._wake()

    def ask_restart(self) -> None:
        """Restart the gateway workers soon."""
        self._is_restart_asked = True
        self._wake()

    def take_restart(self) -> bool:
        """Whether a restart was asked for since the last time."""
        is_asked, self._is_restart_asked = self._is_restart_asked, False
        return is_asked

    def wait(self, seconds: float) -> None:
        """So long, or until something is asked for."""
        if select.select([self._wake_read], [], [], seconds)[0]:
            os.read(self._wake_read, 64)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b".")


def heeded(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Those of the signals that are not ignored: with `nohup`, a hangup is to change nothing."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
