"""Makes the clock of a gateway worker wrong, as that of a machine without NTP may be.

Python imports this at its start where this folder is in PYTHONPATH. The variable WRONG_CLOCK says
which worker it is about, and how many seconds its clock is ahead: `1 5.0`.
"""

from __future__ import annotations

import json
import os
import sys
import time


def _worker() -> int | None:
    """The number of the gateway worker that this process is; None for another process."""
    words = sys.orig_argv
    if "fairlead.app.gateway_process" not in words:
        return None
    return int(json.loads(words[-1])["worker"])


def _set_clock(worker: str, ahead: str) -> None:
    if _worker() == int(worker):
        right, right_ns, ahead_s = time.time, time.time_ns, float(ahead)
        time.time = lambda: right() + ahead_s
        time.time_ns = lambda: right_ns() + int(ahead_s * 1e9)


if given := os.environ.get("WRONG_CLOCK"):
    _set_clock(*given.split())
