"""Simulated traffic of one release, as its monitors see it: bursts, waves of load, and faults."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import NamedTuple

from fairlead.monitoring.monitors.exercise import Made
from fairlead.monitoring.monitors.interface import Seen, SeenFeedback
from support.queues import HEALTHY, NO_NOISE, Fault, OwnNoise, served, synthetic_arrivals

TOPIC = 500
"""Requests for which people ask about the same: rates and lengths differ a little by topic."""
ARRIVALS_A_SECOND = 0.7
"""For each replica, on average."""


class World(NamedTuple):
    """What the traffic is like; a fault comes with request `since`, and goes with `until`.

    Attributes:
        failing, malformed, refused: Rates before the fault.
        hitting: Share of the requests that hit a guardrail.
        failing_then, malformed_then, refused_then, hitting_then: Since the fault; None for the
            same.
        keys: API keys, which ask in turn.
        clump: Failures in a row, about, where a replica hiccups.
        failing_replica: Whose requests fail since then; all (None).
        longer: Factor of the answers' lengths since the fault.
        slower: Factor of times since the fault; it does not end with `until`.
        slow_replica: Which replica's times, or all (None).
        own: Ups and downs that each replica has by itself.
        speed: Factor of the requests in a second.
        start: Unix time of the first request.
    """

    since: float = math.inf
    until: float = math.inf
    failing: float = 0.005
    malformed: float = 0.01
    refused: float = 0.02
    failing_then: float | None = None
    malformed_then: float | None = None
    refused_then: float | None = None
    failing_replica: int | None = None
    longer: float = 1.0
    slower: float = 1.0
    slow_replica: int | None = None
    own: OwnNoise = NO_NOISE
    speed: float = 1.0
    start: float = 1e9
    hitting: float = 0.02
    hitting_then: float | None = None
    clump: float = 3.0
    keys: tuple[str, ...] = ("",)


HONEST = World()


def traffic(n: int, seed: int, replicas: int = 4, world: World = HONEST) -> Iterator[Seen]:
    """So many requests, in order; each has times, tokens and outcomes."""
    dice, hits = random.Random(10_000 + seed), random.Random(20_000 + seed)
    arrivals = synthetic_arrivals(n, ARRIVALS_A_SECOND * replicas * world.speed, seed)
    fault = HEALTHY
    if world.since < n:
        fault = Fault(world.slower, arrivals[int(world.since)].at, world.slow_replica)
    times = served(arrivals, seed, replicas, fault, world.own)
    left, topic = [0] * replicas, 1.0
    for number, (arrival, each) in enumerate(zip(arrivals, times, strict=True)):
        is_on = world.since <= number < world.until
        if number % TOPIC == 0:
            topic = math.exp(dice.gauss(0.0, 0.15))
        failing = world.failing
        if is_on and world.failing_replica in (None, each.replica):
            failing = world.failing if world.failing_then is None else world.failing_then
        if not left[each.replica] and dice.random() < failing / world.clump:
            left[each.replica] = 1 + int(dice.expovariate(1.0 / world.clump))
        failed = left[each.replica] > 0
        left[each.replica] = max(0, left[each.replica] - 1)
        tokens = max(1, int(100 * topic * math.exp(dice.gauss(0.0, 0.6))))
        tokens = int(tokens * world.longer) if is_on else tokens
        stream = dice.random() < 0.7
        hitting = world.hitting_then if is_on else None
        made = Made(
            id=f"{seed}-{number:06}",
            replica=f"r{each.replica}",
            key=world.keys[number % len(world.keys)],
            stream=stream,
            status=500 if failed else 200,
            started_at=world.start + each.at,
            ttft_ms=1e3 * each.ttft if not failed else -1.0,
            itl_ms=1e3 * each.itl if stream and not failed else -1.0,
            duration_ms=1e3 * (each.ttft + tokens * each.itl),
            prompt_tokens=arrival.prompt,
            completion_tokens=-1 if failed else tokens,
            refused=-1 if failed else _bad(dice, world.refused, world.refused_then, is_on, topic),
            malformed=(
                _bad(dice, world.malformed, world.malformed_then, is_on, 1.0)
                if number % 3 == 0 and not failed
                else -1
            ),
            guardrail_hits=int(hits.random() < (world.hitting if hitting is None else hitting)),
        )
        yield Seen(made, float(each.in_flight), float(each.load), failed)


def _bad(dice: random.Random, rate: float, then: float | None, is_on: bool, topic: float) -> int:
    now = rate if then is None or not is_on else then
    return int(dice.random() < now * topic)


def thumbs(seen: Seen, dice: random.Random, bad: float) -> SeenFeedback:
    """Feedback on a request: bad ones with this probability."""
    value = 0.0 if dice.random() < bad else 1.0
    return SeenFeedback(seen.request, "thumbs", value, seen.request.started_at)
