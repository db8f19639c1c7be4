"""Memory of a process and all its descendants (Linux; elsewhere 0)."""

from __future__ import annotations

import os
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def memory_mb(root: int) -> float:
    """Megabytes resident in the process tree below `root`.

    Pages that several processes share are counted once, in parts (the kernel's proportional set
    size); where it does not tell that, in each of them. A child that has not begun its own program
    yet is its parent once more, and is not counted.
    """
    parents = _parents()
    counted = [
        pid for pid in _below(root, parents) if pid == root or not _is_its_parent(pid, parents)
    ]
    return sum(_memory_bytes(pid) for pid in counted) / 1e6


def tree(root: int) -> list[int]:
    """The process and all its descendants, from /proc."""
    return _below(root, _parents())


def _below(root: int, parents: dict[int, int]) -> list[int]:
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _parents() -> dict[int, int]:
    """The parent of each process; empty without /proc."""
    parents: dict[int, int] = {}
    proc = Path("/proc")
    if not proc.is_dir():
        return parents
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it has just ended
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _is_its_parent(pid: int, parents: dict[int, int]) -> bool:
    command = _command(pid)
    return command != b"" and command == _command(parents.get(pid, 0))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _memory_bytes(pid: int) -> int:
    shared_out = _proportional_bytes(pid)
    return _resident_bytes(pid) if shared_out is None else shared_out


def _proportional_bytes(pid: int) -> int | None:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        return None
    return None


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0
