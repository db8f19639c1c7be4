"""The turns of long texts: what takes long to look at is looked at piece by piece.

In each turn of the event loop all long texts of a worker together have `BUDGET_S`, however many
there are: they hold up nobody else. Keys take turns, and so do the texts of one key, so that who
sends many waits for his own and not the others for him. What no client waits for is looked at when
nothing else is, one look in a turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

BUDGET_S = 0.002
"""After this, the next piece waits for the next turn of the event loop."""

Step = Callable[[], bool]
"""Looks at one piece; whether there is more."""
_Lane = OrderedDict[str, deque[Step]]


class Turns:
    """What is looked at in one worker.

    Args:
        now: Monotonic seconds.
        call_soon: Of the event loop.
    """

    def __init__(
        self, now: Callable[[], float], call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._now = now
        self._call_soon = call_soon
        self._waiting: _Lane = OrderedDict()
        self._spare: _Lane = OrderedDict()

    def add(self, key: str, step: Step) -> None:
        """Call this from now on, until there is no more.

        Args:
            key: Of the API key that it is for.
        """
        self._add(self._waiting, key, step)

    def add_spare(self, key: str, step: Step) -> None:
        """The same for what no client waits for."""
        self._add(self._spare, key, step)

    def _add(self, lane: _Lane, key: str, step: Step) -> None:
        if not (self._waiting or self._spare):
            self._call_soon(self._turn)
        lane.setdefault(key, deque()).append(step)

    def _turn(self) -> None:
        until = self._now() + BUDGET_S
        try:
            if not self._waiting:
                _next(self._spare)
            while self._waiting:
                _next(self._waiting)
                if self._now() >= until:
                    break
        finally:  # A defect in one step ends nobody else's.
            if self._waiting or self._spare:
                self._call_soon(self._turn)


def _next(lane: _Lane) -> None:
    key = next(iter(lane))
    steps = lane[key]
    step = steps.popleft()
    has_more = False
    try:
        has_more = step()
    finally:
        if has_more:
            steps.append(step)
        if steps:
            lane.move_to_end(key)
        else:
            del lane[key]
