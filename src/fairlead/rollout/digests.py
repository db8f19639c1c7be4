"""A set of 64-bit numbers that takes 8 to 32 bytes for each, where Python's own takes some 100.

Open addressing with linear probing; the numbers are hashes already.
"""

from __future__ import annotations

from array import array

_FIRST = 1 << 10


class DigestSet:
    """Numbers from 0 to 2^64 - 1; they are added, and all let go of at once."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST))
        self._count = 0
        self._has_zero = False  # 0 marks a free slot.

    @property
    def bytes_held(self) -> int:
        """What the numbers take of memory."""
        return self._slots.itemsize * len(self._slots)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, digest: int) -> bool:
        if digest == 0:
            return self._has_zero
        return self._slots[self._place(digest)] == digest

    def add(self, digest: int) -> None:
        """Add it, if it is not there."""
        if digest == 0:
            self._count += not self._has_zero
            self._has_zero = True
            return
        place = self._place(digest)
        if self._slots[place] == digest:
            return
        self._slots[place] = digest
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()

    def clear(self) -> None:
        """Let go of all."""
        self._slots = array("Q", bytes(8 * _FIRST))
        self._count = 0
        self._has_zero = False

    def _place(self, digest: int) -> int:
        """Where it is, or the free slot where it would be."""
        slots = self._slots
        last = len(slots) - 1
        place = digest & last
        while slots[place] not in (0, digest):
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("Q", bytes(16 * len(before)))
        for digest in before:
            if digest:
                self._slots[self._place(digest)] = digest
