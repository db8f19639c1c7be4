"""Requests of keys as their monitor sees them: one comes when much is to do, some are rare."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from fairlead.monitoring.monitors.exercise import Made
from fairlead.monitoring.monitors.interface import Seen
from support.queues import Arrival, served

USUAL, MORE = 2.2, 2.85
"""Requests a second of the one replica, which can answer three."""
STEADY_S, SPELL_S, SPELLS = 16_000.0, 1_200.0, 30
APP_EVERY_S, BATCH_SHARE = 45.0, 0.1
SLOW_FROM = STEADY_S + 4 * SPELL_S
START = 1e9


def in_spells(seed: int, slow: float = 1.0) -> Iterator[Seen]:
    """What has a key, of one replica's requests: by `app` and `batch`.

    As much comes for hours, and then three tenths more in every other spell of twenty minutes: far
    more are open then, and times are far longer, than what came in the ten seconds before would
    tell. Key `app` asks all the time, some eighty times an hour. Key `batch` asks for a tenth of
    all at first, and then in those spells only; from `SLOW_FROM` on it takes so many times as long.
    """
    dice, at, app_at = random.Random(30_000 + seed), 0.0, 0.0
    arrivals, keys, factors = list[Arrival](), list[str](), list[float]()
    while at < STEADY_S + SPELLS * SPELL_S:
        is_more = at >= STEADY_S and (at - STEADY_S) // SPELL_S % 2 == 0
        at += dice.expovariate(MORE if is_more else USUAL)
        key = ""
        if at >= app_at:
            key, app_at = "app", at + dice.uniform(0.5, 1.5) * APP_EVERY_S
        elif (at < STEADY_S or is_more) and dice.random() < BATCH_SHARE:
            key = "batch"
        answer = min(int(40 * dice.paretovariate(1.3)), 2_000)
        arrivals.append(Arrival(at, int(dice.uniform(70.0, 250.0)), answer))
        keys.append(key)
        factors.append(slow if key == "batch" and at >= SLOW_FROM else 1.0)
    hours = zip(arrivals, keys, served(arrivals, seed, factors=factors), strict=True)
    for arrival, key, each in hours:
        if not key:
            continue
        made = Made(
            key=key,
            started_at=START + each.at,
            ttft_ms=1e3 * each.ttft,
            itl_ms=1e3 * each.itl,
            prompt_tokens=arrival.prompt,
        )
        yield Seen(made, float(each.in_flight), float(each.load), False)


def seldom(
    seed: int, requests: int, every_s: float = 300.0, slow: float = 1.0, since: int = 0
) -> Iterator[Seen]:
    """Two keys, `app` and `batch`, each of which asks once in so many seconds on average.

    From request `since` on those of `batch` take so many times as long.
    """
    dice, at = random.Random(40_000 + seed), START
    for number in range(requests):
        at += dice.expovariate(2.0 / every_s)
        key, is_open = dice.choice(("app", "batch")), dice.choice((0, 0, 1, 2))
        pace = (1.0 + is_open / 8.0) * math.exp(dice.gauss(0.0, 0.25))
        pace *= slow if key == "batch" and number >= since else 1.0
        made = Made(key=key, started_at=at, ttft_ms=100.0 * pace, itl_ms=20.0 * pace)
        yield Seen(made, float(is_open), float(is_open), False)
