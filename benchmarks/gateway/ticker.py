"""A timer that is exact to some microseconds: uvloop's own count whole milliseconds."""

from __future__ import annotations

import ctypes
import os
import time

_CLOCK_MONOTONIC = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1
_NS = 10**9


class _Spec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class Ticker:
    """Linux's timerfd: readable when a tick is due, on the clock of `time.monotonic_ns`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = int(self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def start(self, interval_ns: int, *, delay_ns: int = 0) -> int:
        """Tick from now on; returns the moment of the first tick."""
        first = time.monotonic_ns() + delay_ns + interval_ns
        spec = _Spec(interval_ns // _NS, interval_ns % _NS, first // _NS, first % _NS)
        if self._libc.timerfd_settime(self.fd, _ABSOLUTE, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        return first

    def due(self) -> int:
        """Ticks since it was last asked."""
        try:
            return int.from_bytes(os.read(self.fd, 8), "little")
        except BlockingIOError:
            return 0
