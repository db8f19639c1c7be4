"""The part of the time that may go into asking models for vectors, whoever asks them.

Those that are asked share it alike, so that a slow one leaves the others theirs. What an answer
takes beyond a model's share is taken off the next.
"""

from __future__ import annotations

from collections.abc import Callable

BUSY_S, WITHIN_S = 20.0, 60.0
"""So long is asked in so much time, by all together."""


class AskingTime:
    """What was spent of it, by models that were asked lately.

    Args:
        monotonic: Seconds that never jump.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._begun = monotonic()
        self._spent: dict[str, float] = {}
        self._wanted = set[str]()

    def is_left(self, model: str) -> bool:
        """Whether this model may be asked now."""
        at = self._monotonic()
        if at - self._begun >= WITHIN_S:
            earned = self._share * ((at - self._begun) // WITHIN_S)
            self._spent = {
                name: max(0.0, spent - earned)
                for name, spent in self._spent.items()
                if name in self._wanted
            }
            self._begun, self._wanted = at, set()
        self._wanted.add(model)
        return self._spent.setdefault(model, 0.0) < self._share

    def spend(self, model: str, seconds: float) -> None:
        """So long was it asked."""
        self._spent[model] = self._spent.get(model, 0.0) + seconds

    @property
    def _share(self) -> float:
        return BUSY_S / max(1, len(self._spent))
