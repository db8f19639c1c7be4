"""Holds its core for a share of the time: `hog SHARE`. What else is on that core has the rest.

The load of a thousand streams takes as much of a core as a fast proxy does, so a proxy with a core
to itself cannot be brought to its limit by load from one other core. Beside this, it can.

It spins whenever it has had less than its share, and otherwise sleeps for a millisecond. Among
processes of the ordinary kind, the scheduler gives it what it is owed. More than half of the core
takes a priority that only root may have (or CAP_SYS_NICE), and it ends without it. Among those with
a real-time priority, it takes the next higher one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

PAUSE_S = 0.001
FAIR_SHARE = 0.5
NICENESS = -15
OWED_S_MAX = 0.005
"""More than this is not made up for, or a late start would take the whole core for a while."""


def hold(share: float, until: float = float("inf")) -> None:
    """Use this share of the core, until that moment of `time.monotonic`."""
    began, used = time.monotonic(), time.process_time()
    while (now := time.monotonic()) < until:
        owed_s = share * (now - began) - (time.process_time() - used)
        if owed_s <= 0:
            time.sleep(PAUSE_S)
        elif owed_s > OWED_S_MAX:
            began += (owed_s - OWED_S_MAX) / share


def _rise(share: float) -> None:
    """Above the real-time priority that it was started with, if it was, and above a fair share."""
    policy = os.sched_getscheduler(0)
    if policy in (os.SCHED_FIFO, os.SCHED_RR):
        priority = os.sched_getparam(0).sched_priority + 1
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, policy, os.sched_param(priority))
    elif share > FAIR_SHARE:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        except OSError as error:
            sys.exit(f"more than half of a core cannot be held here: {error}; use --held 0.5")
        # Sessions share a core by weights of their own, where the kernel groups them.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))


if __name__ == "__main__":
    _rise(float(sys.argv[1]))
    hold(float(sys.argv[1]))
