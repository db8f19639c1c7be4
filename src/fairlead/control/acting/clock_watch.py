"""Whether the gateway's clocks agree with control's.

A worker reads its clock once, when it begins, so that its records are in order whatever becomes of
the machine's clock. One that began with a wrong clock, and one whose machine's clock was set since,
date their records wrongly. That a clock is off is a change: what is late by it has it as its cause.
A replica's clock is no matter of anybody: its times are taken by the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from fairlead.control.world.hub import WorkerStatus
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.store.rows import EventRow

CLOCK = "clock_skew"
OFF, RIGHT = "clock_off", "clock_right"
"""Kinds of events."""

SKEW_S_MAX = 2.0
SKEW_S_RIGHT = SKEW_S_MAX / 2
"""A clock that was off is right again below this: one that wavers about the bound stays off."""
SKEW_PENDING_S = 30.0
TOLD_AFTER_S = 10.0
"""For so long it has to be off, and right again: one late call is no skew, and no event."""
HEARD_S = 5.0
"""A worker that has not called for longer says nothing of now."""
_ABOUT = msgspec.json.encode({"monitor": CLOCK})


class ClockWatch:
    """Remembers which workers' clocks are off, and since when."""

    def __init__(self) -> None:
        self._off_since: dict[str, float] = {}
        self._right_since: dict[str, float] = {}
        self._told: set[str] = set()

    def look(self, workers: Sequence[WorkerStatus], now: float) -> list[EventRow]:
        """Take in what the workers say of their clocks; what has come to be so since the last."""
        known = {worker.boot: worker for worker in workers}
        off = {worker.boot: worker for worker in workers if _is_off(worker)}
        self._off_since = _since(self._off_since, off, now)
        right = [b for b in self._told & known.keys() if _size(known[b]) < SKEW_S_RIGHT]
        self._right_since = _since(self._right_since, right, now)
        begun = _lasting(self._off_since, now)
        events = [
            EventRow(now, OFF, f"the clock of {_said(off[boot])}", data=_ABOUT)
            for boot in sorted(begun - self._told)
        ]
        over = _lasting(self._right_since, now) | (self._told - known.keys())
        events += [
            EventRow(now, RIGHT, f"the clock of gateway worker {known[boot].worker} is right again")
            for boot in sorted(over & known.keys())
        ]
        self._told = (self._told | begun) - over
        return events

    def conditions(self, workers: Sequence[WorkerStatus]) -> Iterator[Condition]:
        """One that names the clock that is off most, if there is any."""
        off = [worker for worker in workers if worker.silent_s < HEARD_S and _is_off(worker)]
        if not off:
            return
        worst = max(off, key=_size)
        yield Condition(
            labels=labels_of(monitor=CLOCK),
            severity=Severity.TICKET,
            summary=f"the clock of {_said(worst)}: records are dated wrongly, and verdicts wait or "
            "miss them; set the clocks (NTP), and restart the gateway if its clock was set while "
            "it ran",
            evidence=(Figure("difference", _size(worst), "s", SKEW_S_MAX),),
            pending_s=SKEW_PENDING_S,
        )


def _since(before: Mapping[str, float], those: Iterable[str], now: float) -> dict[str, float]:
    """Since when each of those has been so, without a break."""
    return {boot: min(now, before.get(boot, now)) for boot in those}


def _lasting(since: Mapping[str, float], now: float) -> set[str]:
    return {boot for boot, at in since.items() if now - at >= TOLD_AFTER_S}


def _size(worker: WorkerStatus) -> float:
    return abs(worker.ahead_s or 0.0)


def _is_off(worker: WorkerStatus) -> bool:
    return _size(worker) > SKEW_S_MAX


def _said(worker: WorkerStatus) -> str:
    way = "ahead of" if (worker.ahead_s or 0.0) > 0 else "behind"
    return f"gateway worker {worker.worker} is {_size(worker):,.1f} s {way} control's"
