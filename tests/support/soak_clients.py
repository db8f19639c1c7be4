"""The clients of a soak: plain and streamed requests whose answers are known beforehand."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.load import Connection, Reply
from support.models import ALPHABET, recited

SERVICE = "reciter"
OPEN_MAX = 64
"""Requests that may be open: a machine that has become slower is not flooded."""
GETS_GOING = 0.3
"""Share of the time in which queues fill; it is not measured."""
IDLE_S_MAX = 20.0
"""A client does not use a connection again that was idle for so long; servers close those."""
PLAIN_TOKENS = (8, 128)
STREAM_TOKENS = (100, 400)
"""The shortest and the longest answer that is asked for; the model says nothing twice in 512."""


@dataclass(frozen=True)
class Asked:
    """One request and its only right answer."""

    body: dict[str, Any]
    answer: str
    tokens: int


def asked(question: str, dice: random.Random, streamed: float) -> Asked:
    """A question as a request; `streamed` is the share of streams."""
    is_stream = dice.random() < streamed
    tokens = dice.randint(*(STREAM_TOKENS if is_stream else PLAIN_TOKENS))
    prompt = f"{question} {dice.choice(ALPHABET)}"
    body: dict[str, Any] = {
        "model": SERVICE,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
    }
    if is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Asked(body, recited(prompt, tokens), tokens)


def fault(request: Asked, reply: Reply) -> str:
    """What is wrong with an answer; empty when it is whole and right."""
    if reply.status != 200:
        return f"status {reply.status} {reply.error}"
    try:
        text, ends, tokens = _streamed(reply.text) if reply.stream else _plain(reply.text)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"cannot be read: {type(error).__name__} {error}"
    if text != request.answer:
        return f"another text: {len(text)} characters instead of {len(request.answer)}"
    if ends != ["length"]:
        return f"ends with {ends}"
    if tokens != [request.tokens]:
        return f"reports {tokens} tokens instead of {request.tokens}"
    return ""


def _plain(text: str) -> tuple[str, list[str], list[int]]:
    answer = json.loads(text)
    choice = answer["choices"][0]
    ends = [choice["finish_reason"]]
    return choice["message"]["content"], ends, [answer["usage"]["completion_tokens"]]


def _streamed(text: str) -> tuple[str, list[str], list[int]]:
    said, ends, tokens = "", [], []
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    if lines[-1] != "data: [DONE]":
        raise ValueError("no [DONE] at the end")
    for line in lines[:-1]:
        event = json.loads(line[6:])
        if "error" in event:
            raise ValueError(f"an error event: {event['error']}")
        for choice in event["choices"]:
            said += choice["delta"].get("content") or ""
            ends += [choice["finish_reason"]] if choice["finish_reason"] else []
        tokens += [event["usage"]["completion_tokens"]] if event.get("usage") else []
    return said, ends, tokens


class Clients:
    """Clients of the gateway, each request on a connection that is free or new.

    Args:
        note: Called with each request, its answer, and what is wrong with it.
    """

    def __init__(
        self,
        address: tuple[str, int],
        key: str,
        questions: list[str],
        streamed: float,
        note: Callable[[Reply, str], None],
    ) -> None:
        self._address = address
        self._key = key
        self._questions = itertools.cycle(questions)
        self._streamed = streamed
        self._note = note
        self._dice = random.Random(5)
        self._free: list[tuple[float, Connection]] = []
        self._open: set[asyncio.Task[None]] = set()
        self.answered = 0
        self.held_back = 0

    async def send(self, rate: float, seconds: float) -> float:
        """Send at this rate for so long; returns the answers a second, once it has got going."""
        begin = time.monotonic()
        measured_from: tuple[float, int] | None = None
        for number in range(max(1, round(rate * seconds))):
            delay = begin + number / rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            now = time.monotonic()
            if measured_from is None and now >= begin + GETS_GOING * seconds:
                measured_from = now, self.answered
            if len(self._open) >= OPEN_MAX:
                self.held_back += 1
                # Others run also when sending is behind its times.
                await asyncio.sleep(0)
                continue
            task = asyncio.create_task(self._ask())
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        since, before = measured_from or (begin, 0)
        return (self.answered - before) / (time.monotonic() - since)

    async def drain(self) -> None:
        """Wait for the answers that are due."""
        if self._open:
            await asyncio.wait(self._open)

    def close(self) -> None:
        """Close all connections."""
        for _, connection in self._free:
            connection.close()

    async def _ask(self) -> None:
        request = asked(next(self._questions), self._dice, self._streamed)
        connection = self._connection()
        reply = await connection.post("/v1/chat/completions", request.body)
        self._free.append((time.monotonic(), connection))
        self.answered += 1
        self._note(reply, fault(request, reply))

    def _connection(self) -> Connection:
        now = time.monotonic()
        while self._free and now - self._free[0][0] > IDLE_S_MAX:
            self._free.pop(0)[1].close()
        return self._free.pop()[1] if self._free else Connection(self._address, self._key)
