"""What was to be reached, and by which setup it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.kept import Runs
from benchmarks.monitoring.ours import HONEST_KINDS
from benchmarks.monitoring.streams import CAUSES, CHANGES, HONEST
from benchmarks.monitoring.tables import count, median_delay, table
from benchmarks.monitoring.vectors import SETUPS

DELAYS = {"10 % out-of-scope": 60, "surge of an intent": 500}
Told = Mapping[str, Runs]


class Goal(NamedTuple):
    """A figure that is to be at most (or at least) so much."""

    title: str
    figure: Callable[[Told, str], float | None]
    words: Callable[[float], str]
    most: float | None = None
    least: float | None = None

    def cell(self, told: Told, setup: str) -> str:
        """The figure of a setup, and whether it is met."""
        value = self.figure(told, setup)
        if value is None:
            return "–"
        is_met = (self.most is None or value <= self.most) and (
            self.least is None or value >= self.least
        )
        return self.words(value) if is_met else f"**{self.words(value)}, missed**"

    @property
    def wanted(self) -> str:
        """The goal, in words."""
        bound, value = ("at most", self.most) if self.least is None else ("at least", self.least)
        assert value is not None
        return f"{bound} {self.words(value)}"


def lines(told: Told) -> Iterator[str]:
    """The table."""
    setups = [each for each in SETUPS if any(key.startswith(f"{each}/") for key in told["changed"])]
    rows = [
        [goal.title, goal.wanted, *(goal.cell(told, setup) for setup in setups)] for goal in GOALS
    ]
    yield from table(("goal", "wanted", *(SETUPS[each].title for each in setups)), rows)


def _false_alarms(told: Told, setup: str) -> float | None:
    """Of a million requests, in the worst kind of honest stream."""
    rates = []
    for kind in HONEST_KINDS:
        streams = told["honest"].get(f"{setup}/{kind}", [])
        if streams:
            alarms = sum(len(each["alarms"]) for each in streams)
            rates.append(alarms / (len(streams) * HONEST / 1e6))
    return max(rates, default=None)


def _delay(name: str) -> Callable[[Told, str], float | None]:
    def figure(told: Told, setup: str) -> float | None:
        return median_delay([run["delay"] for run in told["changed"].get(f"{setup}/{name}", [])])

    return figure


def _true(told: Told, setup: str) -> list[tuple[str, Any]]:
    return [
        (name, run)
        for name in CHANGES
        for run in told["changed"].get(f"{setup}/{name}", [])
        if run["delay"] is not None and run["delay"] > 0
    ]


def _channel(told: Told, setup: str) -> float | None:
    right = [run["channel"] == CAUSES[name] for name, run in _true(told, setup)]
    return sum(right) / len(right) if right else None


def _named(told: Told, setup: str) -> float | None:
    named = [run["named"] for _, run in _true(told, setup) if run["named"] is not None]
    return sum(named) / len(named) if named else None


def _cost(key: str) -> Callable[[Told, str], float | None]:
    def figure(told: Told, setup: str) -> float | None:
        return min((run[key] for run in told["cost"].get(setup, [])), default=None)

    return figure


GOALS = (
    Goal("false alarms in a million requests, worst kind", _false_alarms, "{:.1f}".format, most=1),
    *(
        Goal(f"requests until {name} is found", _delay(name), count, most=most)
        for name, most in DELAYS.items()
    ),
    Goal("alarms by the right channel", _channel, "{:.0%}".format, least=0.95),
    Goal("new topics and surges named", _named, "{:.0%}".format, least=0.90),
    Goal("CPU of one text, µs", _cost("us"), "{:.0f}".format, most=100),
    Goal("memory, MB", _cost("mb"), "{:.0f}".format, most=100),
)
