"""When requests have to be over. Looked at a few times a second: cheaper than a timer for each."""

from __future__ import annotations

from typing import Protocol


class Timed(Protocol):
    """What has a deadline."""

    def timed_out(self) -> None:
        """Its deadline has passed."""


class Deadlines:
    """The deadlines of one worker, in monotonic seconds."""

    def __init__(self) -> None:
        self._at: dict[Timed, float] = {}

    def begin(self, timed: Timed, at: float) -> None:
        """It has to be over by then."""
        self._at[timed] = at

    def end(self, timed: Timed) -> None:
        """It is over."""
        self._at.pop(timed, None)

    def check(self, now: float) -> None:
        """Tell those whose deadline has passed."""
        for timed in [timed for timed, at in self._at.items() if at <= now]:
            # The end of one can be the end of another one that is due.
            if self._at.pop(timed, None) is not None:
                timed.timed_out()
