"""An hour of real arrivals at simulated replicas: slowness, load, and one slow replica of eight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from statistics import median

from benchmarks.kept import Clock, Runs, go_on

from fairlead.stats.monitors.peers import PeerWatch
from fairlead.stats.monitors.slowness import SlownessWatch
from fairlead.stats.monitors.timings import Timing, TimingReference
from support.queues import AZURE, Arrival, Fault, azure_arrivals, served

PART = "monitors-latency"
_HOURS: dict[str, tuple[float, float]] = {
    "honest hour": (1.0, 1.0),
    **{f"all {factor:g}× as slow": (factor, 1.0) for factor in (1.2, 1.5, 2.0)},
    "1.6× the traffic": (1.0, 1.6),
}
"""Factor of times, and of the traffic."""
_EIGHT = {
    "eight equal replicas": 1.0,
    **{f"one of eight {factor:g}× as slow": factor for factor in (1.2, 1.5, 2.0)},
}


def measure(hours: int, seconds: float) -> bool:
    """Go on with so many runs of each row, for so long; whether all are there."""
    if not AZURE.exists():
        return True
    return go_on(PART, dict.fromkeys((*_HOURS, *_EIGHT), hours), _run, Clock(seconds))


def _run(name: str, seed: int) -> tuple[str, float | None]:
    said, since = _hour(seed, *_HOURS[name]) if name in _HOURS else _peers(seed, _EIGHT[name])
    return said, since if since < math.inf else None


def measured(hours: int) -> Runs:
    """So many runs of each row, not kept."""
    if not AZURE.exists():
        return {}
    return {name: [_run(name, seed) for seed in range(hours)] for name in (*_HOURS, *_EIGHT)}


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
        "what all replicas share: they say nothing of replicas with ups and downs of their own."
    )
    yield ""
    yield (
        "Arrivals and lengths: Azure's conversations of 2023 (19,366 requests in an hour; four "
        "times as fast for eight replicas). Replicas are simulated: a token takes an eighth longer "
        "for each request in flight, with noise that drifts and is heavy-tailed. Load is what "
        "monitors take for it: the requests that came to a replica in the ten seconds before. The "
        "change comes "
        "after a sixth of the time; requests are those of all replicas since."
    )


def _latency_row(name: str, said: Sequence[tuple[str, float]]) -> str:
    words = [word for word, _ in said]
    counts = ", ".join(f"{word} {words.count(word)}" for word in sorted(set(words)))
    finite = [n for _, n in said if n < math.inf]
    middle = f"{median(finite):,.0f}" if finite else "–"
    return f"| {name} | {len(said)} | {counts} | {middle} |"


def _hour(seed: int, factor: float, speed: float = 1.0) -> tuple[str, float]:
    watch, since, said = SlownessWatch(_reference(2, 1.0)), 0, set[str]()
    fault, alarm = Fault(factor, 600.0), math.inf
    for each in served(_arrivals(speed), 100 + seed, 2, fault):
        since += each.at >= fault.since
        verdict = watch.update(Timing(each.itl, each.load))
        said.add(verdict)
        if verdict != "steady":
            alarm = min(alarm, since)
        if "slower" in said:
            return ("slower, after busier" if "busier" in said else "slower"), alarm
    return watch.verdict, alarm


def _peers(seed: int, factor: float) -> tuple[str, float]:
    usual, watch, since = SlownessWatch(_reference(8, 4.0)), PeerWatch(), 0
    fault = Fault(factor, 150.0, replica=3)
    for each in served(_arrivals(4.0), 200 + seed, 8, fault):
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
def _reference(replicas: int, speed: float) -> TimingReference:
    """Of an honest hour with other noise."""
    return TimingReference.of(
        Timing(each.itl, each.load) for each in served(_arrivals(speed), 0, replicas)
    )
