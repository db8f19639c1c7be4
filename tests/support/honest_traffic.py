"""Honest traffic as it comes in life: waves of a day, bursts, a trickle, streams, several keys.

Nothing is wrong in it, however uneven it is: whatever is told of it is a false alarm.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from support.load import Connection, Reply, answer_of, is_whole

Rate = Callable[[float], float]
"""Requests a second at a time, in seconds since the begin."""

OPEN_MAX = 100
IDLE_S_MAX = 30.0


class Shape(NamedTuple):
    """How many come, and when; `most` is an upper bound of the rate."""

    rate: Rate
    most: float


def steady(rate: float) -> Shape:
    """The same at all times."""
    return Shape(lambda at: rate, rate)


def wave(low: float, high: float, period_s: float) -> Shape:
    """Between both, as by day and by night; it begins in between."""
    middle, half = (low + high) / 2, (high - low) / 2
    return Shape(lambda at: middle + half * math.sin(2 * math.pi * at / period_s), high)


def bursts(calm: float, busy: float, calm_s: float, busy_s: float, seed: int) -> Shape:
    """Now and then for a while many more; both last for so long on average."""
    dice, ends, levels = random.Random(seed), [0.0], itertools.cycle((calm, busy))
    rates: list[float] = []

    def rate(at: float) -> float:
        while ends[-1] <= at:
            rates.append(next(levels))
            mean = calm_s if rates[-1] == calm else busy_s
            ends.append(ends[-1] + dice.expovariate(1.0 / mean))
        # times come in order, but for the last few
        place = len(ends) - 1
        while ends[place - 1] > at:
            place -= 1
        return rates[place - 1]

    return Shape(rate, max(calm, busy))


def arrivals(shape: Shape, dice: random.Random) -> Callable[[float], float]:
    """The next time after one, of a Poisson process with this rate (Lewis and Shedler 1979)."""

    def after(at: float) -> float:
        while True:
            at += dice.expovariate(shape.most)
            if dice.random() * shape.most < shape.rate(at):
                return at

    return after


class Asked(NamedTuple):
    """A question; `intent` is the right answer."""

    text: str
    intent: str


@dataclass
class Visitors:
    """Who asks one service.

    Attributes:
        keys: API keys, each used as often as the others.
        streamed: Share of streams.
        json: Whether JSON is asked for.
        told: Share of the answers of which it is said whether they were right.
        statuses: By status, how many answers; `broken` are streams without an end.
    """

    address: tuple[str, int]
    service: str
    keys: Sequence[str]
    shape: Shape
    ask: Callable[[random.Random], Asked]
    seed: int
    streamed: float = 0.0
    json: bool = False
    told: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    held_back: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Come until `stop`, then wait for the answers that are due."""
        dice = random.Random(self.seed)
        following, begun, at = arrivals(self.shape, dice), time.monotonic(), 0.0
        free: dict[str, list[Connection]] = {key: [] for key in self.keys}
        tasks: set[asyncio.Task[None]] = set()
        for number in itertools.count():
            at = following(at)
            delay = begun + at - time.monotonic()
            if delay > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), delay)
            if stop.is_set():
                break
            if len(tasks) >= OPEN_MAX:
                self.held_back += 1
                await asyncio.sleep(0)
                continue
            task = asyncio.create_task(self._one(free, number, dice))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)
        for connection in itertools.chain(*free.values()):
            connection.close()

    async def _one(
        self, free: dict[str, list[Connection]], number: int, dice: random.Random
    ) -> None:
        asked, key = self.ask(dice), dice.choice(self.keys)
        body: dict[str, Any] = {
            "model": self.service,
            "messages": [{"role": "user", "content": asked.text}],
        }
        if dice.random() < self.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.json:
            body["response_format"] = {"type": "json_object"}
        idle = free[key]
        while idle and idle[0].idle_s > IDLE_S_MAX:
            idle.pop(0).close()
        connection = idle.pop() if idle else Connection(self.address, key)
        # Two questions in a row are one conversation.
        reply = await connection.post("/v1/chat/completions", body, f"{self.seed}-{number // 2}")
        self._note(reply)
        if reply.status == 200 and dice.random() < self.told:
            value = answer_of(reply).get("intent") == asked.intent
            said = {"request_id": reply.request_id, "name": "success", "value": value}
            await connection.post("/v1/feedback", said)
        idle.append(connection)

    def _note(self, reply: Reply) -> None:
        self.statuses[reply.status] += 1
        self.broken += reply.status == 200 and not is_whole(reply)
