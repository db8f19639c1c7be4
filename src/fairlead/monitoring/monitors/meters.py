"""What one key, or a whole service, spends: by hour and day, and within minutes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fairlead.monitoring.conditions import Figure
from fairlead.stats.monitors.spending import LEARN, PAST_MAX, RUN_LENGTH, SpendWatch
from fairlead.stats.monitors.surge import SurgeWatch

HOUR_S = 3_600
DAY_S = 86_400
PERIODS = {"hour": (HOUR_S, 24 * 7, 24 * 7 * 4), "day": (DAY_S, 7, 7 * 8)}
"""Seconds, slots until the same one comes again, and intervals that are remembered."""
LEAST = {
    ("usd", "hour"): 0.5,
    ("usd", "day"): 2.0,
    ("tokens", "hour"): 50_000.0,
    ("tokens", "day"): 200_000.0,
}
"""Less is worth no alarm."""
SURGES = {"requests": 4.0, "tokens": 4_000.0}
"""What is usual per minute at least; by what is counted."""
AMOUNTS = ("usd", "tokens")
UNITS = {"usd": "USD", "tokens": "tokens", "requests": "requests"}
FORGET_S = 7 * DAY_S
"""Whoever was away for so long is learnt anew: what they spent before says nothing of now."""
TOLD_S = float(HOUR_S)
"""An outburst is told for so long after its interval has ended."""


class Finding(NamedTuple):
    """One thing that is wrong with what a subject spends."""

    kind: str
    words: str
    figures: tuple[Figure, ...]


class Meter:
    """One amount of one subject by one period."""

    def __init__(self, amount: str, period: str, rarer: float) -> None:
        self._amount = amount
        self._period = period
        self._seconds, slots, past_max = PERIODS[period]
        self._slots = slots
        self._watch = SpendWatch(
            least=LEAST[amount, period],
            slots=slots,
            run_length=rarer * RUN_LENGTH,
            past_max=min(past_max, PAST_MAX),
        )
        self._learnt = 0
        self._rises = False
        self._interval = -1
        self._is_whole = False
        self._so_far = 0.0
        self._limit: float | None = None
        self._burst: tuple[int, float, float] | None = None
        self._is_accepted = False

    @property
    def learnt(self) -> int:
        """Whole intervals that it has seen since it began."""
        return self._learnt

    @property
    def is_learning(self) -> bool:
        """Whether it cannot say anything yet."""
        return self._learnt < LEARN

    def add(self, at: float, amount: float) -> None:
        """Take in an amount; what comes late counts as of the running interval."""
        self.roll(at)
        self._so_far += amount
        if self._limit is not None and self._so_far >= self._limit:
            usual = self._watch.usual(self._interval % self._slots) or 0.0
            self._burst = (self._interval, self._so_far, usual)

    def roll(self, at: float) -> None:
        """Close the intervals that have ended before `at`."""
        interval = int(at // self._seconds)
        if interval <= self._interval:
            return
        if self._interval < 0 or (interval - self._interval) * self._seconds > FORGET_S + DAY_S:
            if self._interval >= 0:
                self._forget()
            self._interval, self._is_whole, self._so_far = interval, False, 0.0
        while self._interval < interval:
            if self._is_whole:
                verdict = self._watch.update(
                    self._interval % self._slots, self._so_far, accepted=self._is_accepted
                )
                self._rises = verdict == "rise"
                self._learnt += 1
            self._interval, self._is_whole, self._so_far = self._interval + 1, True, 0.0
            self._is_accepted = False
        self._set_limit()

    def findings(self, now: float) -> Iterator[Finding]:
        """What is wrong now."""
        unit = UNITS[self._amount]
        if self._burst is not None:
            interval, amount, usual = self._burst
            if now < (interval + 1) * self._seconds + TOLD_S:
                words = (
                    f"has spent {amount:.6g} {unit} in one {self._period}, {usual:.6g} are usual"
                )
                figure = Figure(f"{self._amount} in the {self._period}", amount, unit, usual)
                yield Finding(f"outburst_{self._period}", words, (figure,))
        if self._rises:
            count, times = self._watch.above
            words = (
                f"spends more by the {self._period} than it used to: {times:.2g} times what is "
                f"usual, over {count} {self._period}{'' if count == 1 else 's'} ({unit})"
            )
            usual = self._watch.usual(self._interval % self._slots) or 0.0
            figures = (
                Figure(f"{self._amount} by the {self._period}, times the usual", times),
                Figure(f"usual {self._amount} in the {self._period}", usual, unit),
            )
            yield Finding(f"rise_{self._period}", words, figures)

    def accept(self, now: float) -> None:
        """What is told now, if anything is, is as it should be; what it has learnt stays."""
        if not any(self.findings(now)):
            return
        self._is_accepted = self._burst is not None and self._burst[0] == self._interval
        self._watch.accept()
        self._rises, self._burst = False, None
        self._set_limit()

    def _forget(self) -> None:
        self._watch.forget()
        self._learnt, self._rises, self._limit, self._burst = 0, False, None, None
        self._is_accepted = False

    def _set_limit(self) -> None:
        """From which amount on the running interval is an outburst; what is accepted is none."""
        usual = self._watch.outburst_from(self._interval % self._slots)
        self._limit = None if self._is_accepted else usual

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {
            "watch": self._watch.state(),
            "accepted": self._is_accepted,
            "learnt": self._learnt,
            "rises": self._rises,
            "interval": self._interval,
            "is_whole": self._is_whole,
            "so_far": self._so_far,
            "burst": self._burst,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Into a new one; raises ValueError, KeyError or TypeError if the state is damaged."""
        self._watch.restore(state["watch"])
        self._learnt, self._rises = int(state["learnt"]), bool(state["rises"])
        self._interval, self._is_whole = int(state["interval"]), bool(state["is_whole"])
        self._so_far, self._is_accepted = _amount(state["so_far"]), bool(state["accepted"])
        if state["burst"] is not None:
            interval, amount, usual = state["burst"]
            self._burst = (int(interval), _amount(amount), _amount(usual))
        if self._interval >= 0:
            self._set_limit()


class Subject:
    """A key, or the service as a whole.

    Args:
        rarer: How many times as rare as one in `RUN_LENGTH` intervals a false alarm of a rise is.
        surges: Whether it is told when much comes within minutes.
    """

    def __init__(self, *, rarer: float, surges: bool) -> None:
        self._rarer = rarer
        self._meters = {("tokens", "day"): Meter("tokens", "day", rarer)}
        self._surges = (
            {name: SurgeWatch(least=least) for name, least in SURGES.items()} if surges else {}
        )

    @property
    def days(self) -> Meter:
        """What it has learnt of days."""
        return self._meters["tokens", "day"]

    def add(self, at: float, usd: float, tokens: float) -> None:
        """A request. An amount is measured from its first value above 0 on."""
        for amount, value in zip(AMOUNTS, (usd, tokens), strict=True):
            for period in PERIODS:
                meter = self._meters.get((amount, period))
                if meter is None and value > 0.0:
                    meter = Meter(amount, period, self._rarer)
                    self._meters[amount, period] = meter
                if meter is not None:
                    meter.add(at, value)
        for name, surge in self._surges.items():
            surge.add(at, 1.0 if name == "requests" else tokens)

    def roll(self, at: float) -> None:
        """Close what has ended before `at`."""
        for meter in self._meters.values():
            meter.roll(at)

    def findings(self, now: float) -> Iterator[Finding]:
        """What is wrong now; money before tokens."""
        for amount in AMOUNTS:
            for period in PERIODS:
                meter = self._meters.get((amount, period))
                if meter is not None:
                    yield from meter.findings(now)
        for name, surge in self._surges.items():
            found = surge.surge(now)
            if found is not None:
                words = (
                    f"has {found.rate:.6g} {name} a minute; {found.usual:.6g} was the most in the "
                    "last days"
                )
                figure = Figure(f"{name} per minute", found.rate, name, found.usual)
                yield Finding("surge", words, (figure,))

    def accept(self, now: float) -> None:
        """What is told of it now is as it should be."""
        for meter in self._meters.values():
            meter.accept(now)
        for surge in self._surges.values():
            surge.accept()

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {
            "meters": {"/".join(name): meter.state() for name, meter in self._meters.items()},
            "surges": {name: surge.state() for name, surge in self._surges.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Into a new one; raises ValueError, KeyError or TypeError if the state is damaged."""
        for name, kept in state["meters"].items():
            amount, period = name.split("/")
            meter = self._meters[amount, period] = Meter(amount, period, self._rarer)
            meter.restore(kept)
        if set(state["surges"]) != set(self._surges):
            raise ValueError("damaged state of the monitor cost: other surges")
        for name, kept in state["surges"].items():
            self._surges[name].restore(kept)


def _amount(value: Any) -> float:
    amount = float(value)
    if not 0.0 <= amount < float("inf"):
        raise ValueError(f"damaged state of the monitor cost: amount {amount}")
    return amount
