"""Results that are made once, as long as what they are made of is not too much together.

A cache of so many entries holds too few of small ones, and of large ones more than there is memory
for: a schema, say, takes up to thirty times the bytes that it has as JSON. Here the bytes count.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")
ENTRY_BYTES = 1_024
"""What counts for an entry beside its key."""


class SizedCache(Generic[V]):
    """A function whose results are kept, the last used ones; of several threads as well.

    Args:
        make: The function; what it raises is not kept.
        bytes_max: So many bytes may the kept results have together, each with `ENTRY_BYTES` more.
        weigh: How many a key and its result have; the length of the key if it is not given.
    """

    def __init__(
        self, make: Callable[[bytes], V], bytes_max: int, weigh: Callable[[bytes], int] = len
    ) -> None:
        functools.update_wrapper(self, make)
        self._make = make
        self._bytes_max = bytes_max
        self._weigh = weigh
        self._bytes = 0
        self._kept: OrderedDict[bytes, V] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: bytes) -> V:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        size = self._weigh(key) + ENTRY_BYTES
        if size > self._bytes_max:
            return self._make(key)
        made = self._make(key)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += size
            while self._bytes > self._bytes_max:
                oldest, _ = self._kept.popitem(last=False)
                self._bytes -= self._weigh(oldest) + ENTRY_BYTES
        return made

    def __len__(self) -> int:
        """How many results are kept."""
        return len(self._kept)

    @property
    def bytes_kept(self) -> int:
        """What counts of them."""
        return self._bytes


def kept_by_size(
    bytes_max: int, weigh: Callable[[bytes], int] = len
) -> Callable[[Callable[[bytes], V]], SizedCache[V]]:
    """Keep a function's results (see `SizedCache`)."""
    return lambda make: SizedCache(make, bytes_max, weigh)
