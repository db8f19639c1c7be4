"""An hour of real arrivals at simulated replicas: slowness, load, and one slow replica of eight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from statistics import median
from typing import NamedTuple

from benchmarks.kept import Clock, Runs, go_on
from benchmarks.monitors_keys import NAMES, RUNS, key_run, key_table

from fairlead.monitoring.monitors.demand import Demand
from fairlead.monitoring.monitors.exercise import Made
from fairlead.stats.monitors.peers import PeerWatch
from fairlead.stats.monitors.slowness import SlownessWatch
from fairlead.stats.monitors.timings import Timing, TimingReference
from support.queues import AZURE, Arrival, Fault, azure_arrivals, served

PART = "monitors-latency"


class Hour(NamedTuple):
    """What becomes of times and of the traffic: factors, since when, and for how long, seconds."""

    slower: float = 1.0
    traffic: float = 1.0
    since: float = 600.0
    lasts: float = math.inf


EQUAL, EIGHT_SPEED, FULL_SPEED = 6, 1.5, 2.5
"""Replicas of a release; how fast arrivals come to eight, so that both are busy by half; and so
that eight are busy nearly all the time."""


class Eight(NamedTuple):
    """Eight replicas, one of which is so many times as slow, and how fast arrivals come to them.

    `is_balanced`: each request goes to the one with the fewest open, and not in turn.
    """

    factor: float = 1.0
    speed: float = EIGHT_SPEED
    is_balanced: bool = False


_HOURS: dict[str, Hour] = {
    "honest hour": Hour(),
    **{f"all {factor:g}× as slow": Hour(slower=factor) for factor in (1.2, 1.5, 2.0)},
    "all 1.5× as slow, and 1.6× the traffic": Hour(slower=1.5, traffic=1.6),
    "all 2× as slow, and 1.6× the traffic": Hour(slower=2.0, traffic=1.6),
    "1.6× the traffic": Hour(traffic=1.6, since=0.0),
    "1.6× the traffic, from then on": Hour(traffic=1.6),
    "twice the traffic, for five minutes": Hour(traffic=2.0, lasts=300.0),
}
_IN_TURN = {
    "eight equal replicas": Eight(),
    **{f"one of eight {factor:g}× as slow": Eight(factor) for factor in (1.2, 1.5, 2.0)},
}
_BALANCED = {
    f"{what}, balanced{busy}": Eight(factor, speed, is_balanced=True)
    for busy, speed in (("", EIGHT_SPEED), (", nearly full", FULL_SPEED))
    for what, factor in (
        ("eight equal replicas", 1.0),
        *((f"one of eight {factor:g}× as slow", factor) for factor in (1.5, 2.0, 4.0, 7.0)),
    )
}
_EIGHT = _IN_TURN | _BALANCED


def measure(hours: int, seconds: float) -> bool:
    """Go on with so many runs of each row, for so long; whether all are there."""
    if not AZURE.exists():
        return True
    wanted = dict.fromkeys((*_HOURS, *_EIGHT), hours) | dict.fromkeys(NAMES, RUNS)
    return go_on(PART, wanted, _run, Clock(seconds))


def _run(name: str, seed: int) -> tuple[str, float | None]:
    if name in NAMES:
        return key_run(name, seed)
    said, since = _hour(seed, _HOURS[name]) if name in _HOURS else _peers(seed, _EIGHT[name])
    return said, since if since < math.inf else None


def measured(hours: int) -> Runs:
    """So many runs of each row, not kept."""
    if not AZURE.exists():
        return {}
    names = (*_HOURS, *_EIGHT, *NAMES)
    return {name: [_run(name, seed) for seed in range(hours)] for name in names}


def latency_table(runs: Runs) -> Iterator[str]:
    """An hour of real arrivals at simulated replicas; nothing where the trace is not there."""
    if not AZURE.exists():
        yield "Not run: the Azure trace is not there."
        return
    yield "| what happens | runs | said | median requests to the first alarm |"
    yield "| --- | --: | --- | --: |"
    for name in (*_HOURS, *_EIGHT):
        said = [(word, math.inf if since is None else since) for word, since in runs[name]]
        yield _latency_row(name, said)
    yield ""
    yield (
        "The rows about eight replicas have noise that is drawn anew for each request, besides "
        "what all replicas share: they say nothing of replicas with ups and downs of their own. "
        "Requests go to them in turn or, *balanced*, to the one with the fewest open: one that is "
        "seven times as slow gets few of them then."
    )
    yield ""
    yield (
        "Arrivals and lengths: Azure's conversations of 2023 (19,366 requests in an hour, to six "
        "replicas; half as fast again for eight, and two and a half times as fast where they are "
        "nearly full). Replicas are simulated, and busy by half: a "
        "token takes an eighth longer for each request in flight, with noise that drifts and is "
        "heavy-tailed. Load is what monitors take for it: of all replicas, the requests that are "
        "open when one comes; of one among its peers, those that came to it in the ten seconds "
        "before. *No more is asked*: nor was it for three hours, by requests and tokens, than at "
        "most in the hour that was learnt, which makes a ticket of it. The change comes after ten "
        "minutes of the trace, in the first row of more traffic at once; requests are those of all "
        "replicas since."
    )
    yield "\n## One slow key\n"
    yield from key_table(runs)


def _latency_row(name: str, said: Sequence[tuple[str, float]]) -> str:
    words = [word for word, _ in said]
    counts = ", ".join(f"{word} {words.count(word)}" for word in sorted(set(words)))
    finite = [n for _, n in said if n < math.inf]
    middle = f"{median(finite):,.0f}" if finite else "–"
    return f"| {name} | {len(said)} | {counts} | {middle} |"


def _hour(seed: int, hour: Hour) -> tuple[str, float]:
    watch, since, said = SlownessWatch(_open_reference()), 0, set[str]()
    fault, alarm, demand = Fault(hour.slower, hour.since), math.inf, Demand()
    usual = _arrivals(1.0)
    for each in usual:
        demand.come(_request(each, each.at), is_first=True)
    begin = usual[-1].at
    arrivals = list(_changed(usual, hour))
    for each, arrival in zip(served(arrivals, 100 + seed, EQUAL, fault), arrivals, strict=True):
        since += each.at >= hour.since
        demand.come(_request(arrival, begin + each.at), is_first=False)
        verdict = watch.update(Timing(each.itl, each.in_flight))
        said.add(verdict)
        if verdict != "steady":
            alarm = min(alarm, since)
        if "slower" in said:
            return ("slower, after busier" if "busier" in said else "slower"), alarm
    if watch.verdict == "slower or busier" and demand.is_no_more:
        return "slower or busier, and no more is asked", alarm
    return watch.verdict, alarm


def _changed(arrivals: Sequence[Arrival], hour: Hour) -> Iterator[Arrival]:
    """As long as it lasts, they come so many times as fast."""
    before = at = 0.0
    for each in arrivals:
        is_on = hour.since <= at < hour.since + hour.lasts
        at += (each.at - before) / (hour.traffic if is_on else 1.0)
        before = each.at
        yield each._replace(at=at)


def _request(arrival: Arrival, at: float) -> Made:
    return Made(
        replica="all", started_at=at, prompt_tokens=arrival.prompt, completion_tokens=arrival.answer
    )


def _peers(seed: int, eight: Eight) -> tuple[str, float]:
    reference = _came_reference(eight.speed, eight.is_balanced)
    usual, watch, since = SlownessWatch(reference), PeerWatch(), 0
    fault = Fault(eight.factor, 600.0 / eight.speed, replica=3)
    hour = served(_arrivals(eight.speed), 200 + seed, 8, fault, is_balanced=eight.is_balanced)
    for each in hour:
        since += each.at >= fault.since
        timing = Timing(each.itl, each.load)
        relative = usual.relative(timing)
        if relative is None:
            continue
        unlearnt = timing if relative.is_least else None
        if watch.update(str(each.replica), relative.value, unlearnt=unlearnt):
            return ("the right one" if watch.slow == "3" else "a wrong one"), since
    return "none", math.inf


@lru_cache
def _arrivals(speed: float) -> list[Arrival]:
    return azure_arrivals(speed)


@lru_cache
def _open_reference() -> TimingReference:
    """Of an honest hour with other noise, by the requests that are open."""
    hour = served(_arrivals(1.0), 0, EQUAL)
    return TimingReference.of(Timing(each.itl, each.in_flight) for each in hour)


@lru_cache
def _came_reference(speed: float, is_balanced: bool) -> TimingReference:
    """Of an honest hour of eight, by the requests that came lately."""
    hour = served(_arrivals(speed), 0, 8, is_balanced=is_balanced)
    return TimingReference.of(Timing(each.itl, each.load) for each in hour)
