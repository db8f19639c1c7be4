"""Gives free memory back to the system.

The C library keeps what was freed below something that is still in use. When a monitor has learnt
what is usual of some thousand requests, megabytes are left like that, and each such step would
look as if the process grew. It also learns from large blocks: once one of some megabytes was freed,
blocks up to its size are no longer given back at once, in each thread's arena, where the trimming
does not reach. So the sizes are set, and do not move.
"""

from __future__ import annotations

import ctypes
import threading

EVERY_S = 60.0
LARGE_BYTES = 1024 * 1024
"""Blocks from this size on are the system's own, and go back when they are freed."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


def keep_trimmed(every_s: float = EVERY_S) -> None:
    """Trim the heap again and again, in a thread of its own; nothing where that is not possible."""
    library = ctypes.CDLL(None)
    trim = getattr(library, "malloc_trim", None)  # glibc's
    if trim is None:
        return
    for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        library.mallopt(option, LARGE_BYTES)
    threading.Thread(target=_run, args=(trim, every_s), name="heap", daemon=True).start()


def _run(trim: ctypes._NamedFuncPointer, every_s: float) -> None:
    waiting = threading.Event()
    while not waiting.wait(every_s):
        trim(0)  # Without the interpreter's lock: nobody waits for it.
