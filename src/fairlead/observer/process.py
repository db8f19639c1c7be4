"""What the observer asks of the operating system about its own process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def wake_when_parent_ends(number: signal.Signals) -> None:
    """Linux: send this process the signal when the thread that started it ends.

    It is a hint to look at `has_parent`, not more: the thread may end before its process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def has_parent(pid: int) -> bool:
    """Whether that process is still the parent of this one."""
    return os.getppid() == pid


def give_back_memory() -> None:
    """glibc: return to the system what loading the modules left free, some 3 MB for good."""
    library = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
