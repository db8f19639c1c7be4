"""Requests of one priority that wait: their keys take turns, each with its oldest request.

A turn is one request, whatever its size. What a request costs is the time in which it holds a slot;
neither the bytes of its body nor the `max_tokens` that it names (or leaves out) tell that
beforehand, and a key could make its requests look cheap. See docs/decisions/0008.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Waiter(Hashable, Protocol):
    """A request, as far as its place in the queue depends on it."""

    @property
    def key_id(self) -> str:
        """The API key whose request it is."""

    @property
    def priority(self) -> int:
        """Of its key; a higher one goes first."""

    @property
    def patience_s(self) -> float:
        """Seconds that a request like this one may wait in all."""


W = TypeVar("W", bound=Waiter)


class Level(Generic[W]):
    """The waiting requests of one priority in one lane."""

    __slots__ = ("_arrivals", "_by_count", "_most", "_turns")

    def __init__(self) -> None:
        # Keys in the order of their turns, each with its requests, the oldest first.
        self._turns: OrderedDict[str, OrderedDict[W, None]] = OrderedDict()
        self._arrivals: OrderedDict[W, float] = OrderedDict()
        # Keys by how many requests they have here: which has the most is known at once.
        self._by_count: dict[int, dict[str, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self._arrivals)

    def __contains__(self, waiter: W) -> bool:
        return waiter in self._arrivals

    @property
    def most(self) -> int:
        """How many requests the key has that has the most."""
        return self._most

    def held_by(self, key_id: str) -> int:
        """How many requests of this key wait here."""
        return len(self._turns.get(key_id, ()))

    def add(self, waiter: W, now: float) -> None:
        """It waits from now on; a key that had none here has its turn after all others."""
        mine = self._turns.get(waiter.key_id)
        if mine is None:
            mine = self._turns[waiter.key_id] = OrderedDict()
        mine[waiter] = None
        self._arrivals[waiter] = now
        self._count(waiter.key_id, len(mine) - 1, len(mine))

    def remove(self, waiter: W, *, had_turn: bool) -> None:
        """It waits no longer; if that was its key's turn, the next one comes after the others."""
        mine = self._turns[waiter.key_id]
        del mine[waiter]
        del self._arrivals[waiter]
        self._count(waiter.key_id, len(mine) + 1, len(mine))
        if not mine:
            del self._turns[waiter.key_id]
        elif had_turn:
            self._turns.move_to_end(waiter.key_id)

    def next(self) -> W:
        """Whose turn it is. There must be one."""
        return next(iter(next(iter(self._turns.values()))))

    def oldest(self) -> tuple[W, float]:
        """The request that waits longest, and since when. There must be one."""
        return next(iter(self._arrivals.items()))

    def cheapest(self) -> W:
        """Which to refuse first: the newest of a key that has the most. There must be one."""
        key_id = next(reversed(self._by_count[self._most]))
        return next(reversed(self._turns[key_id]))

    def ahead_of(self, key_id: str) -> int:
        """How many have their turn before a new request of this key."""
        rounds = self.held_by(key_id) + 1
        if rounds > self._most:
            return len(self)
        return sum(min(count, rounds) * len(keys) for count, keys in self._by_count.items())

    def _count(self, key_id: str, before: int, after: int) -> None:
        if before:
            keys = self._by_count[before]
            del keys[key_id]
            if not keys:
                del self._by_count[before]
        if after:
            self._by_count.setdefault(after, {})[key_id] = None
        # A count changes by one, so the greatest one does so, too.
        if after > self._most or (before == self._most and before not in self._by_count):
            self._most = after
