"""For how many replicas of a release there is room on this machine.

A further replica shares the weights, which are mapped, and needs memory of its own for its cache
and buffers: as much as one that runs now. llama.cpp computes on the CPU, so more replicas than
cores gain nothing. A GPU's memory is not looked at. A model that runs elsewhere needs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fairlead.domain.release import Release, RemoteModel
from fairlead.domain.replica import ReplicaStatus
from fairlead.rollout.plan import REPLICAS_MAX

SPARED = 0.1
"""Share of the memory that is available which is left alone."""
CORES_BIND = "llama.cpp"
_PROC = Path("/proc")


def own_memory(pid: int) -> int | None:
    """Bytes that only this process holds; None where the machine does not say."""
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith(("RssAnon:", "RssShmem:"))]
    return sum(map(int, sizes)) * 1024 if sizes else None


def room_for(
    release: Release,
    count: int,
    replicas: Iterable[ReplicaStatus],
    available: int | None,
    cores: int | None,
) -> int:
    """How many replicas there is room for in all, `count` at least.

    Args:
        count: How many are wanted now.
        replicas: All that there are; those of the release's engine are measured.
        available: Bytes that processes can still take; None where that is not known.
        cores: Of the machine; None where that is not known.
    """
    if isinstance(release.model, RemoteModel):
        return REPLICAS_MAX
    most = REPLICAS_MAX
    engine = release.engine_digest
    held = [own_memory(r.pid) for r in replicas if r.engine_digest == engine and r.pid > 0]
    need = max((size for size in held if size), default=0)
    if need and available is not None:
        most = min(most, count + int((1.0 - SPARED) * available) // need)
    if release.engine.kind == CORES_BIND and cores is not None:
        most = min(most, cores)
    return max(count, most)
