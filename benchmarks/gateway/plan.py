"""What is to be measured, and what was."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.gateway.environments import Environments
from benchmarks.gateway.processes import Cores

DIRECT = "no proxy"
PARTS = ("plain", "latency", "streams", "workers")


@dataclass(frozen=True)
class Plan:
    """One run of the benchmark.

    Attributes:
        proxies: Names of the proxies, in the order of each round.
        seconds: Of each measurement.
        rate: Requests per second of the latency part.
        streams: Streams that are open at the same time.
        events_per_s: Events of each stream per second.
        held_share: Of the proxy's core, taken from it at saturation.
    """

    parts: Sequence[str]
    proxies: Sequence[str]
    rounds: int
    seconds: float
    rate: int
    streams: int
    events_per_s: int
    held_share: float
    cores: Cores
    environments: Environments


@dataclass(frozen=True)
class Spread:
    """The middle and the ends of some values."""

    median: float
    low: float
    high: float


class Samples:
    """Values by measure and proxy, one for each round."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, measure: str, proxy: str, value: float) -> None:
        """Note the value of one round."""
        self._values[measure, proxy].append(value)

    def of(self, measure: str, proxy: str) -> list[float]:
        """The values of all rounds."""
        return list(self._values.get((measure, proxy), ()))

    def proxies(self, measure: str) -> list[str]:
        """Who has values of this measure, in the order of the rounds."""
        return [proxy for name, proxy in self._values if name == measure]

    def spread(self, measure: str, proxy: str) -> Spread | None:
        """Median, smallest and largest; None when it was not measured."""
        return spread(self.of(measure, proxy))

    def ratio(self, measure: str, over: str, under: str) -> Spread | None:
        """Of one proxy to another, taken within each round."""
        pairs = zip(self.of(measure, over), self.of(measure, under), strict=False)
        return spread([a / b for a, b in pairs if b])


def spread(values: Sequence[float]) -> Spread | None:
    """Median, smallest and largest."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values))


def say(part: str, round_number: int, proxy: str, text: str) -> None:
    """Progress, for who waits."""
    print(f"{part} {round_number + 1}: {proxy}: {text}", file=sys.stderr, flush=True)
