"""The waiting requests of one service: a lane for each arm, and who of them goes on, or is refused.

In a lane go first those whose attempt failed: they were counted in already. Then the highest
priority, and within it the keys in turn (`fairness`). So that a low priority does not starve, every
`AGED_EVERY`th place belongs to the one that waits longest, once half of its patience is gone.
All of it is pure.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic

from fairlead.gateway.limits import AGED_EVERY, AGED_SHARE
from fairlead.gateway.replicas.retry_budget import RetryBudget
from fairlead.gateway.replicas.routing import CONTINUING
from fairlead.gateway.waiting.fairness import Level, W
from fairlead.gateway.waiting.shedding import DrainRate, served_in_time, waits_too_long


class Lane(Generic[W]):
    """What waits for one arm's replicas."""

    __slots__ = ("_drain", "_levels", "_retried", "_turn", "count")

    def __init__(self) -> None:
        self._retried: OrderedDict[W, None] = OrderedDict()
        self._levels: dict[int, Level[W]] = {}  # the highest priority first
        self._drain = DrainRate()
        self._turn = 0
        self.count = 0

    def __contains__(self, waiter: W) -> bool:
        level = self._levels.get(waiter.priority)
        return waiter in self._retried or (level is not None and waiter in level)

    def held_by(self, key_id: str) -> int:
        """How many places this key holds."""
        return sum(level.held_by(key_id) for level in self._levels.values())

    def add(self, waiter: W, now: float) -> None:
        """A new one waits."""
        level = self._levels.get(waiter.priority)
        if level is None:
            level = Level()
            self._levels = dict(
                sorted({**self._levels, waiter.priority: level}.items(), reverse=True)
            )
        level.add(waiter, now)
        self._added(now)

    def add_first(self, waiter: W, now: float) -> None:
        """One whose attempt failed waits."""
        self._retried[waiter] = None
        self._retried.move_to_end(waiter, last=False)
        self._added(now)

    def remove(self, waiter: W, now: float, *, goes_on: bool) -> None:
        """It waits no longer.

        Args:
            goes_on: It has got what it waited for, and was `next`.
        """
        self.count -= 1
        if waiter in self._retried:
            del self._retried[waiter]
        else:
            level = self._levels[waiter.priority]
            level.remove(waiter, had_turn=goes_on)
            self._turn += goes_on
            if not level:
                del self._levels[waiter.priority]
        if goes_on:
            self._drain.note(now)
        if not self.count:
            self._drain.end(now)

    def next(self, now: float) -> W | None:
        """Who goes on next."""
        if self._retried:
            return next(iter(self._retried))
        if not self._levels:
            return None
        if len(self._levels) > 1 and self._turn % AGED_EVERY == AGED_EVERY - 1:
            aged = self._aged(now)
            if aged is not None:
                return aged
        return next(iter(self._levels.values())).next()

    @property
    def lowest(self) -> tuple[int, Level[W]] | None:
        """The lowest priority that waits here, which is refused first."""
        return next(reversed(self._levels.items())) if self._levels else None

    def too_long(self, waiter: W, now: float) -> float | None:
        """The wait in seconds that a new request would have, if it is more than it may wait."""
        if not self.count:
            return None
        rate = self._drain.rate(now)
        if waits_too_long(self.count, rate, waiter.patience_s) is None:
            return None
        return waits_too_long(self._ahead_of(waiter), rate, waiter.patience_s)

    def hopeless(self, now: float) -> tuple[list[W], float]:
        """Those that cannot be served in time, the cheapest to refuse first; and their wait."""
        rate = self._drain.rate(now) if self.count else None
        if rate is None:
            return [], 0.0
        wait_s = self.count / rate
        gone: list[W] = []
        while (lowest := self.lowest) is not None:
            waiter = lowest[1].cheapest()
            most = served_in_time(rate, waiter.patience_s)
            if most is None or self.count <= most:
                break
            self.remove(waiter, now, goes_on=False)
            gone.append(waiter)
        return gone, wait_s

    def _added(self, now: float) -> None:
        if not self.count:
            self._drain.begin(now)
        self.count += 1

    def _ahead_of(self, waiter: W) -> int:
        before = len(self._retried)
        for priority, level in self._levels.items():
            if priority > waiter.priority:
                before += len(level)
            elif priority == waiter.priority:
                before += level.ahead_of(waiter.key_id)
        return before

    def _aged(self, now: float) -> W | None:
        oldest, since = min((level.oldest() for level in self._levels.values()), key=_since)
        return oldest if now - since > AGED_SHARE * oldest.patience_s else None


class ServiceQueue(Generic[W]):
    """All that waits for one service, and how many retries it has left."""

    __slots__ = ("budget", "lanes")

    def __init__(self, now: float) -> None:
        self.lanes: dict[str, Lane[W]] = {}
        self.budget = RetryBudget(now)

    def lane(self, name: str) -> Lane[W]:
        """The lane of this name (`Assignment.lane`); those of broken streams go first."""
        lane = self.lanes.get(name)
        if lane is None:
            lane = Lane()
            is_first = name.startswith(CONTINUING)
            self.lanes = {name: lane, **self.lanes} if is_first else {**self.lanes, name: lane}
        return lane

    def forget_empty(self) -> None:
        """Let go of lanes in which nobody waits: their release may be gone."""
        self.lanes = {name: lane for name, lane in self.lanes.items() if lane.count}

    @property
    def depth(self) -> int:
        """How many wait."""
        return sum(lane.count for lane in self.lanes.values())

    def makes_room_for(self, newcomer: W) -> tuple[Lane[W], W] | None:
        """Who gives up its place in a full queue, and the lane it is in; None for nobody.

        A lower priority gives way to a higher one; within one, a key gives way to another if it
        still holds no fewer places than that after it.
        """
        lowest = [(lane, *lane.lowest) for lane in self.lanes.values() if lane.lowest]
        if not lowest:
            return None
        lane, priority, level = min(lowest, key=lambda found: (found[1], -found[2].most))
        if priority > newcomer.priority:
            return None
        if priority == newcomer.priority:
            held = sum(each.held_by(newcomer.key_id) for each in self.lanes.values())
            if level.most <= held + 1:
                return None
        return lane, level.cheapest()


def _since(found: tuple[object, float]) -> float:
    return found[1]
