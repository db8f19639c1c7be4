"""What the processes of an installation hold: memory and descriptors, by role."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from support.installation import descendants

SUPERVISOR = "supervisor"
ROLES = {
    "control": "fairlead.app.control_process",
    "observer": "fairlead.app.observer_process",
    "gateway": "fairlead.app.gateway_process",
    "replica": "fairlead.engines.llamacpp",
}


@dataclass(frozen=True)
class Held:
    """What one process holds.

    Attributes:
        pss_kb: Its resident memory, with what it shares divided by those who share it.
    """

    role: str
    pid: int
    rss_kb: int
    pss_kb: int
    fds: int


def look(supervisor: int) -> list[Held]:
    """All processes of an installation that belong to one of its parts."""
    found = []
    for pid in (supervisor, *descendants(supervisor)):
        with contextlib.suppress(OSError):
            role = SUPERVISOR if pid == supervisor else role_of(pid)
            if role:
                rss, pss = memory_kb(pid)
                found.append(Held(role, pid, rss, pss, descriptors(pid)))
    return found


def role_of(pid: int) -> str:
    """What a process is; empty for one that belongs to none of the parts."""
    line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return next((role for role, module in ROLES.items() if module in line), "")


def memory_kb(pid: int) -> tuple[int, int]:
    """Resident memory of a process, and its proportional share of it."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0])
    if not found:
        raise ProcessLookupError(pid)  # It has ended, and is not reaped yet.
    return found["Rss"], found["Pss"]


def descriptors(pid: int) -> int:
    """Open files and sockets of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))
