"""What was to be reached, and by which setup it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.kept import Runs
from benchmarks.monitoring.ours import HONEST_KINDS
from benchmarks.monitoring.streams import CAUSES, CHANGES, HONEST
from benchmarks.monitoring.tables import count, median_delay, table
from benchmarks.monitoring.vectors import SETUPS

from fairlead.stats.special import bisect

DELAYS = {"10 % out-of-scope": 60, "surge of an intent": 500}
STREAMS = 50
"""Honest streams of each kind that the goal asks for."""
CONFIDENCE = 0.95
Told = Mapping[str, Runs]


class Found(NamedTuple):
    """A figure of a setup; `basis`: what it rests on, `is_enough`: whether that is as asked for."""

    value: float
    basis: str
    is_enough: bool = True


class Goal(NamedTuple):
    """A figure that is to be at most (or at least) so much."""

    title: str
    figure: Callable[[Told, str], Found | None]
    words: Callable[[float], str]
    most: float | None = None
    least: float | None = None

    def cell(self, told: Told, setup: str) -> str:
        """The figure of a setup with what it rests on, and whether it is met."""
        found = self.figure(told, setup)
        if found is None:
            return "–"
        value, words = found.value, self.words(found.value)
        is_met = (self.most is None or value <= self.most) and (
            self.least is None or value >= self.least
        )
        if not is_met:
            words = f"**{words}, missed**"
        elif not found.is_enough:
            words = f"**{words}, of too few streams**"
        return f"{words} ({found.basis})"

    @property
    def wanted(self) -> str:
        """The goal, in words."""
        bound, value = ("at most", self.most) if self.least is None else ("at least", self.least)
        assert value is not None
        return f"{bound} {self.words(value)}"


def lines(told: Told) -> Iterator[str]:
    """The table, and what it does not say."""
    setups = [each for each in SETUPS if any(key.startswith(f"{each}/") for key in told["changed"])]
    rows = [
        [goal.title, goal.wanted, *(goal.cell(told, setup) for setup in setups)] for goal in GOALS
    ]
    yield from table(("goal", "wanted", *(SETUPS[each].title for each in setups)), rows)
    yield ""
    yield from _notes([each for each in setups if _false_alarms(told, each) is None])


def _notes(unknown: Sequence[str]) -> Iterator[str]:
    """`unknown`: setups whose false alarms were not measured."""
    needed = math.ceil(at_most(0, HONEST))
    yield "In brackets is what a figure rests on. *At most*: the upper 95 % limit, one-sided,"
    yield "of false alarms in a million requests, as if they came independently of each other"
    yield f"(of a Poisson count, Garwood 1936). The goal asks for {STREAMS} streams of"
    yield f"{HONEST:,} requests of each kind, and goes by the rate that is seen in them. To show"
    yield f"that the true rate is below it takes {needed} streams of a kind without any alarm."
    for setup in unknown:
        yield f"False alarms were not measured with {SETUPS[setup].title}: that its"
        yield "delays are those of a detector which is as rarely wrong is not shown."
    yield ""
    yield "CPU and memory are of the monitor of prompts, and the goal is 100 µs *a request*, with"
    yield "all that is done for it. A request of which prompt and answer are kept, with all"
    yield "monitors on, costs more ([figures](../../docs/monitors.md#texts-of-a-release)): some 70"
    yield "µs for the monitors of requests, 26 for the drift of its prompt and as much for an"
    yield "answer of that length, 23 for loops, 44 for languages and 15 for attempts of injection,"
    yield "which is about 200, and more with what is done around it (83 in place of 26 for a"
    yield "prompt). So where every text is watched the goal is **missed**; for one text it is met."
    yield ""
    yield "Gaps between groups (bias) are no part of this page: `make bench-monitors` measures how"
    yield "soon and how often falsely they are found"
    yield "([results](monitors.md#bias-the-built-in-pairs))."


def at_most(alarms: int, requests: int) -> float:
    """The upper confidence limit of alarms in a million requests, after so many in so many."""

    def doubt(mean: float) -> float:
        below = math.fsum(
            math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(alarms + 1)
        )
        return 1.0 - CONFIDENCE - below

    return bisect(doubt, 1e-9, alarms + 10.0 * math.sqrt(alarms + 1.0)) / requests * 1e6


def _false_alarms(told: Told, setup: str) -> Found | None:
    """Of a million requests, in the worst kind of honest stream."""
    kinds = [told["honest"].get(f"{setup}/{kind}", []) for kind in HONEST_KINDS]
    made = [
        (sum(len(each["alarms"]) for each in streams), len(streams)) for streams in kinds if streams
    ]
    if not made:
        return None
    alarms, streams = max(made, key=lambda each: (each[0] / each[1], -each[1]))
    return Found(
        alarms / (streams * HONEST / 1e6),
        f"{at_most(alarms, streams * HONEST):.1f} at most; {streams} streams of {HONEST:,}",
        min(map(len, kinds)) >= STREAMS,
    )


def _delay(name: str) -> Callable[[Told, str], Found | None]:
    def figure(told: Told, setup: str) -> Found | None:
        runs = told["changed"].get(f"{setup}/{name}", [])
        delay = median_delay([run["delay"] for run in runs])
        return None if delay is None else Found(delay, f"{len(runs)} streams")

    return figure


def _true(told: Told, setup: str) -> list[tuple[str, Any]]:
    return [
        (name, run)
        for name in CHANGES
        for run in told["changed"].get(f"{setup}/{name}", [])
        if run["delay"] is not None and run["delay"] > 0
    ]


def _share(right: Sequence[bool]) -> Found | None:
    return Found(sum(right) / len(right), f"{len(right)} alarms") if right else None


def _channel(told: Told, setup: str) -> Found | None:
    return _share([run["channel"] == CAUSES[name] for name, run in _true(told, setup)])


def _named(told: Told, setup: str) -> Found | None:
    return _share([run["named"] for _, run in _true(told, setup) if run["named"] is not None])


def _cost(key: str) -> Callable[[Told, str], Found | None]:
    def figure(told: Told, setup: str) -> Found | None:
        runs = told["cost"].get(setup, [])
        return Found(min(run[key] for run in runs), f"best of {len(runs)}") if runs else None

    return figure


GOALS = (
    Goal("false alarms in a million requests, worst kind", _false_alarms, "{:.1f}".format, most=1),
    *(
        Goal(f"requests until {name} is found", _delay(name), count, most=most)
        for name, most in DELAYS.items()
    ),
    Goal("alarms by the right channel", _channel, "{:.0%}".format, least=0.95),
    Goal("new topics and surges named", _named, "{:.0%}".format, least=0.90),
    Goal("CPU of one prompt, µs", _cost("us"), "{:.0f}".format, most=100),
    Goal("memory of a monitor of prompts, MB", _cost("mb"), "{:.0f}".format, most=100),
)
