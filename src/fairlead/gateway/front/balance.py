"""How many clients each worker has, in memory that all workers of one gateway share.

All workers accept from one socket, so no connection waits for a worker that is gone. But whoever
wakes up first would take all that has come: so a worker that has more clients than another one
leaves the next to it (see `accepting`). What is shared is a hint: the last figure of a worker that
was killed counts for `SEEN_S` more.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Callable

SEEN_S = 1.0
"""A worker that has not shown itself for so long is not waited for."""
_SLOT = struct.Struct("=qd")
"""Clients, and when that was shown."""


def shared_counts(workers: int) -> int | None:
    """A descriptor of such memory, for the workers to inherit; None where there is but one.

    Raises OSError.
    """
    if workers < 2:
        return None
    empty = bytes(workers * _SLOT.size)
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fairlead-clients")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.write(descriptor, empty)
    return descriptor


class Balance:
    """One worker's view of it.

    Args:
        descriptor: From `shared_counts`; None for a worker that is alone. It is closed.
        worker: Number of the worker.
        now: Monotonic seconds, which all processes of a machine have in common.
    """

    def __init__(self, descriptor: int | None, worker: int, now: Callable[[], float]) -> None:
        self._now = now
        self._memory: mmap.mmap | None = None
        self._own = worker * _SLOT.size
        self._peers: list[int] = []
        if descriptor is None:
            return
        try:
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        offsets = range(0, len(self._memory), _SLOT.size)
        self._peers = [offset for offset in offsets if offset != self._own]

    @property
    def is_shared(self) -> bool:
        """Whether there are other workers."""
        return bool(self._peers)

    def show(self, clients: int) -> None:
        """So many clients this worker has."""
        if self._memory is not None:
            _SLOT.pack_into(self._memory, self._own, clients, self._now())

    def is_ahead(self, clients: int) -> bool:
        """Whether another worker has so many fewer that it should take the next client."""
        if self._memory is None:
            return False
        now, enough = self._now(), clients - 1 - clients // 16
        for offset in self._peers:
            others, seen_at = _SLOT.unpack_from(self._memory, offset)
            if others < enough and now - seen_at < SEEN_S:
                return True
        return False
