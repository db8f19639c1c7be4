"""What has just begun, so that it is told once: an event for each beginning, and not too many."""

from __future__ import annotations

from collections.abc import Collection

AGAIN_S = 60.0
"""What begins anew sooner is not told again: what was told is near to whatever comes of it."""


class Beginnings:
    """Remembers what is so, by name, and what was told of it lately."""

    def __init__(self) -> None:
        self._so: frozenset[str] = frozenset()
        self._told: dict[str, float] = {}

    def among(self, those: Collection[str], now: float) -> list[str]:
        """Of those that are so now, the ones that are to be told."""
        self._told = {one: at for one, at in self._told.items() if 0.0 <= now - at < AGAIN_S}
        fresh = sorted(set(those) - self._so - self._told.keys())
        self._so = frozenset(those)
        self._told |= dict.fromkeys(fresh, now)
        return fresh
