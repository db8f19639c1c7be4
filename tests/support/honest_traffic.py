"""Honest traffic as it comes in life: waves of a day, bursts, a trickle, streams, several keys,
conversations.

Nothing is wrong in it, however uneven it is: whatever is told of it is a false alarm.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from support.load import Connection, Reply, answer_of, is_whole, text_of

Rate = Callable[[float], float]
"""Requests a second at a time, in seconds since the begin."""

OPEN_MAX = 100
IDLE_S_MAX = 30.0
PAUSE_S = 20.0
"""From an answer to the next question of the same conversation, on average."""


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


def names_intent(reply: Reply, asked: Asked) -> bool:
    """Whether an answer in JSON names the right intent."""
    return bool(answer_of(reply).get("intent") == asked.intent)


def is_stopped(reply: Reply) -> bool:
    """Whether a guardrail has blocked the question."""
    if reply.status != 400:
        return False
    try:
        return bool(json.loads(reply.text)["error"]["code"] == "guardrail")
    except (ValueError, KeyError, TypeError):
        return False


@dataclass(order=True)
class Conversation:
    """What one user asks and is answered.

    Attributes:
        due: When the next question comes, in seconds since the begin.
        said: Messages so far.
    """

    due: float
    number: int
    key: str
    asked: Asked
    said: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Visitors:
    """Who asks one service.

    Attributes:
        keys: API keys, each used as often as the others.
        ask: The first question of a conversation.
        streamed: Share of streams.
        json: Share of requests that ask for JSON.
        told: Share of the answers of which it is said whether they were right.
        goes_on: What the same user asks after an answer to this; None for nothing more. Where it is
            not given, any two questions in a row are one conversation.
        remembers: Whether what was said before is sent with the next question.
        is_right: Whether an answer to this is right.
        statuses: By status, how many answers; `broken` are streams without an end, `stopped` are
            questions that a guardrail has blocked.
    """

    address: tuple[str, int]
    service: str
    keys: Sequence[str]
    shape: Shape
    ask: Callable[[random.Random], Asked]
    seed: int
    streamed: float = 0.0
    json: float = 0.0
    told: float = 0.0
    goes_on: Callable[[random.Random, Asked], Asked | None] | None = None
    remembers: bool = False
    is_right: Callable[[Reply, Asked], bool] = names_intent
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    stopped: int = 0
    held_back: int = 0
    conversations: int = 0
    _waiting: list[Conversation] = field(default_factory=list)
    _begun: float = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Come until `stop`, then wait for the answers that are due."""
        dice = random.Random(self.seed)
        following, at = arrivals(self.shape, dice), 0.0
        self._begun = time.monotonic()
        free: dict[str, list[Connection]] = {key: [] for key in self.keys}
        tasks: set[asyncio.Task[None]] = set()
        while True:
            at = following(at)
            delay = self._begun + at - time.monotonic()
            if delay > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), delay)
            if stop.is_set():
                break
            if len(tasks) >= OPEN_MAX:
                self.held_back += 1
                await asyncio.sleep(0)
                continue
            task = asyncio.create_task(self._one(free, self._next(at, dice), dice))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)
        for connection in itertools.chain(*free.values()):
            connection.close()

    def _next(self, at: float, dice: random.Random) -> Conversation:
        """Whose question is the one that comes now: so conversations change no rate."""
        if self._waiting and self._waiting[0].due <= at:
            return heapq.heappop(self._waiting)
        self.conversations += 1
        return Conversation(at, self.conversations, dice.choice(self.keys), self.ask(dice))

    async def _one(
        self, free: dict[str, list[Connection]], talk: Conversation, dice: random.Random
    ) -> None:
        question = {"role": "user", "content": talk.asked.text}
        body: dict[str, Any] = {"model": self.service, "messages": [*talk.said, question]}
        if dice.random() < self.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if dice.random() < self.json:
            body["response_format"] = {"type": "json_object"}
        idle = free[talk.key]
        while idle and idle[0].idle_s > IDLE_S_MAX:
            idle.pop(0).close()
        connection = idle.pop() if idle else Connection(self.address, talk.key)
        session = talk.number if self.goes_on else talk.number // 2
        reply = await connection.post("/v1/chat/completions", body, f"{self.seed}-{session}")
        self._note(reply)
        if reply.status == 200 and dice.random() < self.told:
            value = self.is_right(reply, talk.asked)
            said = {"request_id": reply.request_id, "name": "success", "value": value}
            await connection.post("/v1/feedback", said)
        idle.append(connection)
        if is_whole(reply):
            self._go_on(talk, question, reply, dice)

    def _go_on(
        self, talk: Conversation, question: dict[str, str], reply: Reply, dice: random.Random
    ) -> None:
        following = self.goes_on(dice, talk.asked) if self.goes_on else None
        if following is None:
            return
        talk.asked = following
        if self.remembers:
            talk.said += [question, {"role": "assistant", "content": text_of(reply)}]
        talk.due = time.monotonic() - self._begun + dice.expovariate(1.0 / PAUSE_S)
        heapq.heappush(self._waiting, talk)

    def _note(self, reply: Reply) -> None:
        self.statuses[reply.status] += 1
        self.broken += reply.status == 200 and not is_whole(reply)
        self.stopped += is_stopped(reply)
