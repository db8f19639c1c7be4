"""Makes the clock of a gateway worker wrong, as that of a machine without NTP may be.

Python imports this at its start where this folder is in PYTHONPATH. A worker that begins while the
file WRONG_CLOCK is there reads from it which worker it is about and how far its clock is ahead.
"""

from __future__ import annotations

import json
import os
import sys
import time


def _worker() -> int | None:
    words = sys.orig_argv
    if "fairlead.app.gateway_process" not in words:
        return None
    worker = json.loads(words[-1])["worker"]
    return worker if isinstance(worker, int) else None


def _set_clock() -> None:
    path, worker = os.environ.get("WRONG_CLOCK", ""), _worker()
    if worker is None or not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        wrong = json.load(file)
    if wrong["worker"] != worker:
        return
    right, right_ns, ahead_s = time.time, time.time_ns, float(wrong["ahead_s"])
    time.time = lambda: right() + ahead_s
    time.time_ns = lambda: right_ns() + int(ahead_s * 1e9)


_set_clock()
