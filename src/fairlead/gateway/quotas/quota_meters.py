"""One limit on one worker: its windows, one after the other, and what is held and used of each."""

from __future__ import annotations

from fairlead.domain.quota import Limit, window_of


class Window:
    """One window of one limit, as this worker knows it.

    Attributes:
        held, used, demand, need: See `WindowUse`.
        base: What was free when `held` was set; half of it is little.
        elsewhere: What others or nobody held and had not used, when control last spoke of it.
    """

    __slots__ = ("base", "demand", "elsewhere", "end", "held", "need", "start", "used")

    def __init__(self, start: int, end: int, held: int, elsewhere: int) -> None:
        self.start = start
        self.end = end
        self.held = held
        self.used = 0
        self.demand = 0
        self.need = 0
        self.base = held
        self.elsewhere = elsewhere

    @property
    def is_low(self) -> bool:
        """Whether more should be asked for."""
        return self.held - self.used <= self.base >> 1


class Meter:
    """One limit on this worker; outlives the snapshots.

    Attributes:
        shown: What answers last said of it: the seconds to its reset and its amount, and the text
            before and after what remains.
    """

    __slots__ = ("amount", "limit", "measure", "share", "shown", "window")

    def __init__(self, limit: Limit, share: int) -> None:
        self.window = Window(0, 0, 0, 0)
        self.shown: tuple[int, int, bytes, bytes] | None = None
        self._declare(limit, share)

    def _declare(self, limit: Limit, share: int) -> None:
        self.limit = limit
        self.measure = int(limit.measure)
        self.amount = limit.amount
        self.share = share

    def redeclare(self, limit: Limit, share: int) -> None:
        """The limit was changed: what is held changes as the fair share does."""
        if limit.amount == self.amount and share == self.share:
            return
        window = self.window
        window.held = max(0, window.held + share - self.share)
        others = limit.amount - share - (self.amount - self.share)
        window.elsewhere = max(0, window.elsewhere + others)
        window.base = max(0, window.held - window.used)
        self._declare(limit, share)

    def roll(self, now: float) -> Window:
        """The window that `now` is in."""
        if now >= self.window.end:
            start, end = window_of(self.limit.period, now)
            self.window = Window(start, end, self.share, self.amount - self.share)
        return self.window
