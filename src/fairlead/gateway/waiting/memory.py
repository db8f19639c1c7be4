"""What a worker does when its own resident memory comes near what it may have.

    calm  -> strained (85 %): bodies over 256 KiB are refused, and idle connections and bodies that
                              are still coming in go, the oldest first, as far as that is needed
          -> full (95 %):     every body is refused; clients that do not read their answers go, too

A level is left 5 points below where it was entered. What goes first has cost the least: a client
whose idle connection is closed opens another, one whose body was not complete sends it again, and
no replica has worked for either. A request that is with a replica is never ended for this, unless
its client has stopped reading the answer.

`MemoryGuard.check` runs a few times a second; a request sees two attributes, `body_bytes_max` and
`bodies_bytes_max`.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from fairlead.gateway.limits import BUFFERED_BODY_BYTES_MAX
from fairlead.gateway.records.metrics import GatewayMetrics

STRAINED_AT = 0.85
FULL_AT = 0.95
LEFT_BELOW = 0.05
STRAINED_BODY_BYTES_MAX = 256 * 1024
"""Largest body that is taken in while memory is strained."""
IDLE_SPARED_S = 1.0
"""A connection that was just used is not closed: it may be about to be used again."""
TRIM_EVERY_S = 1.0
SHED_MAX = 500
"""So many connections at most are ended in one turn."""
ROOM_BYTES_MIN = 64 * 1024 * 1024
"""A worker may have at least so much more than it takes up when it starts."""
DERIVED_SHARE = 0.8
"""Of the machine's or container's memory, when nothing is declared."""

_log = logging.getLogger(__name__)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED = 1 << 60


class MemoryLevel(enum.IntEnum):
    """How near the resident memory is to its ceiling."""

    CALM = 0
    STRAINED = 1
    FULL = 2


def next_level(level: MemoryLevel, resident: int, ceiling: int) -> MemoryLevel:
    """The level after `level`, by resident bytes and their ceiling. Pure."""
    share = resident / ceiling
    if share >= FULL_AT - (LEFT_BELOW if level is MemoryLevel.FULL else 0.0):
        return MemoryLevel.FULL
    if share >= STRAINED_AT - (LEFT_BELOW if level is not MemoryLevel.CALM else 0.0):
        return MemoryLevel.STRAINED
    return MemoryLevel.CALM


class Kind(enum.IntEnum):
    """What a connection is doing, in the order in which it is given up."""

    IDLE = 0
    RECEIVING = 1
    STALLED = 2
    BUSY = 3


class Burden(msgspec.Struct, frozen=True):
    """What a connection costs.

    Attributes:
        since: When it began to do what it does, by the worker's clock.
        size: Bytes that are given back when it goes, as far as they are known.
    """

    kind: Kind
    since: float
    size: int = 0


class Burdensome(Protocol):
    """A client connection."""

    def burden(self) -> Burden:
        """What it costs now."""

    def shed(self) -> None:
        """End it: with 503 where a request is still coming in."""


def to_shed(burdens: Iterable[Burden], level: MemoryLevel, excess: int, now: float) -> list[int]:
    """Which of these go, by their place: the cheapest first, of these the oldest. Pure.

    Args:
        excess: Bytes to get rid of. All idle connections count as nothing and go in any case.
    """
    last = Kind.STALLED if level is MemoryLevel.FULL else Kind.RECEIVING
    going: list[int] = []
    found = [(b.kind, b.since, n, b.size) for n, b in enumerate(burdens) if b.kind <= last]
    for kind, since, place, size in sorted(found):
        if kind is Kind.IDLE and now - since < IDLE_SPARED_S:
            continue
        if len(going) >= SHED_MAX or (kind is not Kind.IDLE and excess <= 0):
            break
        going.append(place)
        excess -= size
    return going


class MemoryGuard:
    """Watches one worker's resident memory.

    Args:
        ceiling: Bytes that it may have; None for a share of what the machine or container has.
        resident: Tells how many it has.
        trim: Gives back to the system what is free inside the process.
    """

    def __init__(
        self,
        metrics: GatewayMetrics,
        label: str,
        ceiling: int | None,
        resident: Callable[[], int] | None = None,
        trim: Callable[[], None] | None = None,
    ) -> None:
        self._metrics = metrics
        self._label = (label,)
        self._resident = resident or resident_bytes
        self._trim = trim or give_back_free_memory
        at_start = self._resident()
        wanted = derived_ceiling() if ceiling is None else ceiling
        self.ceiling = max(wanted, at_start + ROOM_BYTES_MIN)
        if ceiling is not None and self.ceiling > ceiling:
            _log.warning(
                "a worker may have %d MB of memory, but needs %d MB to start; it takes up to %d MB",
                *(size // 1_000_000 for size in (ceiling, at_start, self.ceiling)),
            )
        self._trimmed_at = float("-inf")
        self.level = MemoryLevel.CALM
        self.body_bytes_max = BUFFERED_BODY_BYTES_MAX
        """Largest request body that is taken in; -1 for none at all."""
        self.bodies_bytes_max = min(BUFFERED_BODY_BYTES_MAX, (self.ceiling - at_start) // 2)
        """Bodies that are held at the same time."""

    def check(self, now: float, connections: Iterable[Burdensome]) -> None:
        """Look, and make room if there is little left."""
        resident = self._look()
        if self.level is MemoryLevel.CALM:
            return
        if now - self._trimmed_at >= TRIM_EVERY_S:
            self._trimmed_at = now
            self._trim()
            resident = self._look()
        target = int(self.ceiling * (STRAINED_AT - LEFT_BELOW))
        self._make_room(list(connections), resident - target, now)

    def show(self) -> None:
        """Set the gauges."""
        self._metrics.memory_resident.set(self._label, self._resident())
        self._metrics.memory_ceiling.set(self._label, self.ceiling)
        self._metrics.memory_level.set(self._label, self.level)

    def _look(self) -> int:
        resident = self._resident()
        level = next_level(self.level, resident, self.ceiling)
        if level is not self.level:
            (_log.info if level < self.level else _log.warning)(
                "memory is %s: %d of %d MB",
                level.name.lower(), resident // 1_000_000, self.ceiling // 1_000_000,
            )  # fmt: skip
            self.level = level
            self.body_bytes_max = _BODY_BYTES_MAX[level]
        return resident

    def _make_room(self, connections: list[Burdensome], excess: int, now: float) -> None:
        burdens = [connection.burden() for connection in connections]
        for place in to_shed(burdens, self.level, excess, now):
            self._metrics.memory_shed.inc((burdens[place].kind.name.lower(),))
            connections[place].shed()


_BODY_BYTES_MAX = {
    MemoryLevel.CALM: BUFFERED_BODY_BYTES_MAX,
    MemoryLevel.STRAINED: STRAINED_BODY_BYTES_MAX,
    MemoryLevel.FULL: -1,
}


def resident_bytes() -> int:
    """This process's resident memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def memory_of_a_worker(declared_mb: int | None, workers: int) -> int:
    """Bytes that each of so many workers may have: as declared, else its part of the machine's."""
    return derived_ceiling(workers) if declared_mb is None else declared_mb * 1_000_000


def derived_ceiling(processes: int = 1, root: Path = Path("/")) -> int:
    """Bytes that each of so many workers may have, by the memory of the machine or container.

    Args:
        root: Where `sys` and `proc` are found.
    """
    found = [_control_group_bytes(root), _physical_bytes(root)]
    return int(min(found) * DERIVED_SHARE / max(1, processes))


def _control_group_bytes(root: Path) -> int:
    """The smallest limit of the process's group and those above it (version 2, else 1)."""
    group = _group_of_this_process(root)
    limits = [_UNLIMITED]
    for top, name in (("sys/fs/cgroup", "memory.max"), ("sys/fs/cgroup/memory", _V1)):
        base = root / top
        folders = [base / group, *(base / group).parents]
        for folder in folders[: len(Path(group).parts) + 1]:
            value = _number_in(folder / name)
            if value is not None:
                limits.append(value)
    return min(limits)


_V1 = "memory.limit_in_bytes"


def _group_of_this_process(root: Path) -> str:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if (number == "0" and not controllers) or "memory" in controllers.split(","):
            return path.strip("/")
    return ""


def _number_in(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _physical_bytes(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _UNLIMITED


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None  # Not the GNU library: what is freed goes back when it goes back.


def give_back_free_memory() -> None:
    """Have the allocator give its free pages back to the system."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)
