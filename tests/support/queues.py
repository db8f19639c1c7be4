"""Requests of a real hour, served by simulated replicas that are slower the more there is to do."""

from __future__ import annotations

import csv
import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from support.data_sets import DATA

AZURE = DATA / "azure-llm-2023" / "conv.csv"
LOAD_S = 10.0


class Arrival(NamedTuple):
    """When a request came (seconds), and its prompt's and answer's tokens."""

    at: float
    prompt: int
    answer: int


class Served(NamedTuple):
    """What is seen of one request: times in seconds.

    Attributes:
        in_flight: Requests that its replica had open when it came.
        load: Requests that came to its replica in the ten seconds before, as monitors count load
            (`fairlead.control.watching.reading`).
    """

    at: float
    replica: int
    in_flight: int
    load: int
    ttft: float
    itl: float


class Fault(NamedTuple):
    """A slow-down of one replica, or of all (None), from a time on."""

    factor: float = 1.0
    since: float = 0.0
    replica: int | None = None


HEALTHY = Fault()


def azure_arrivals(speed: float = 1.0, path: str = str(AZURE)) -> list[Arrival]:
    """The conversations of the Azure trace, coming so many times as fast."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [
            (datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp(), row)
            for row in csv.DictReader(file)
        ]
    first = rows[0][0]
    return [
        Arrival((at - first) / speed, int(row["ContextTokens"]), int(row["GeneratedTokens"]))
        for at, row in rows
    ]


def synthetic_arrivals(n: int, rate: float, seed: int) -> list[Arrival]:
    """Bursts: the rate doubles and halves every some hundred requests; heavy-tailed lengths."""
    dice, at, arrivals = random.Random(seed), 0.0, []
    for k in range(n):
        burst = 2.0 if k // 300 % 2 else 0.5
        at += dice.expovariate(rate * burst)
        answer = min(int(40 * dice.paretovariate(1.3)), 2_000)
        arrivals.append(Arrival(at, int(100 * dice.paretovariate(1.2)), answer))
    return arrivals


class OwnNoise(NamedTuple):
    """Ups and downs that each replica has by itself: a factor's deviation (of its logarithm).

    `lasts`: requests of all replicas until it is drawn anew.
    """

    deviation: float = 0.0
    lasts: int = 1_600


NO_NOISE = OwnNoise()


def served(
    arrivals: Sequence[Arrival],
    seed: int,
    replicas: int = 1,
    fault: Fault = HEALTHY,
    own: OwnNoise = NO_NOISE,
    *,
    is_balanced: bool = False,
    factors: Sequence[float] = (),
) -> Iterator[Served]:
    """Serve each by the replicas in turn.

    A token takes 20 ms, an eighth more for each request in flight, with noise that drifts with
    those before it, and is five times as slow once in 200 requests.

    Args:
        is_balanced: Not in turn: by the one that has the fewest open.
        factors: By how many times each request takes as long, where not all take alike.
    """
    dice, drift = random.Random(seed), 0.0
    own_dice, paces = random.Random(-1 - seed), [1.0] * replicas
    busy: list[list[float]] = [[] for _ in range(replicas)]
    lately: list[deque[float]] = [deque() for _ in range(replicas)]
    for k, (at, prompt, answer) in enumerate(arrivals):
        if own.deviation and k % own.lasts == 0:
            paces = [math.exp(own_dice.gauss(0.0, own.deviation)) for _ in range(replicas)]
        replica = _fewest_open(busy, at, k) if is_balanced else k % replicas
        ends = busy[replica]
        while ends and ends[0] <= at:
            heapq.heappop(ends)
        in_flight = len(ends)
        came = lately[replica]
        while came and came[0] <= at - LOAD_S:
            came.popleft()
        load = len(came)
        came.append(at)
        drift = 0.98 * drift + dice.gauss(0.0, 0.02)
        is_slow = fault.replica in (None, replica) and at >= fault.since
        pace = (1 + in_flight / 8) * math.exp(drift) * (fault.factor if is_slow else 1.0)
        pace *= paces[replica] * (factors[k] if factors else 1.0)
        itl = 0.02 * pace * math.exp(dice.gauss(0.0, 0.15)) * (5 if dice.random() < 0.005 else 1)
        ttft = (0.03 + 1e-4 * prompt) * pace * math.exp(dice.gauss(0.0, 0.3))
        heapq.heappush(ends, at + ttft + answer * itl)
        yield Served(at, replica, in_flight, load, ttft, itl)


def _fewest_open(busy: Sequence[list[float]], at: float, turn: int) -> int:
    """The replica with the fewest open by then; of several, the one whose turn is next."""
    for ends in busy:
        while ends and ends[0] <= at:
            heapq.heappop(ends)
    n = len(busy)
    return min(range(n), key=lambda replica: (len(busy[replica]), (replica - turn) % n))
