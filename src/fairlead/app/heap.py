"""Gives free memory back to the system.

The C library keeps what was freed below something that is still in use. When a monitor has learnt
what is usual of some thousand requests, megabytes are left like that, and each such step would
look as if the process grew.
"""

from __future__ import annotations

import ctypes
import threading

EVERY_S = 60.0


def keep_trimmed(every_s: float = EVERY_S) -> None:
    """Trim the heap again and again, in a thread of its own; nothing where that is not possible."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        threading.Thread(target=_run, args=(trim, every_s), name="heap", daemon=True).start()


def _run(trim: ctypes._NamedFuncPointer, every_s: float) -> None:
    waiting = threading.Event()
    while not waiting.wait(every_s):
        trim(0)  # Without the interpreter's lock: nobody waits for it.
