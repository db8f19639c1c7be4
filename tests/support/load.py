"""A light HTTP client and a steady load: many requests a second from a small share of a core."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

TIMEOUT_S = 180.0


class Source(Protocol):
    """Somebody who asks."""

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop`, then wait for the answers that are due."""


@contextlib.asynccontextmanager
async def traffic(sources: Sequence[Source]) -> AsyncIterator[None]:
    """They come until this ends."""
    stop = asyncio.Event()
    coming = [asyncio.create_task(one.run(stop)) for one in sources]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*coming)


@dataclass
class Reply:
    """One answer as the client saw it; `status` 0 when the connection broke.

    `idle_since` is when its connection was used last, `began` if it was a new one.

    Attributes:
        first: When the first chunk of a chunked answer came; 0.0 for another one.
        gap_s_max: The longest wait between two chunks.
    """

    status: int
    request_id: str = ""
    release: str = ""
    text: str = ""
    error: str = ""
    stream: bool = False
    idle_since: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    first: float = 0.0
    gap_s_max: float = 0.0


class Connection:
    """One keep-alive connection to the gateway."""

    def __init__(self, address: tuple[str, int], key: str) -> None:
        self._address = address
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_at = 0.0

    async def post(self, path: str, body: dict[str, Any], session: str = "") -> Reply:
        """Send one request and read its answer whole."""
        reply = Reply(0, stream=bool(body.get("stream")), began=time.time())
        reply.idle_since = reply.began if self._streams is None else self._used_at
        try:
            await asyncio.wait_for(self._post(reply, path, body, session), TIMEOUT_S)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            reply.status, reply.error = 0, f"{type(error).__name__}: {error}"
            self.close()
        reply.ended = self._used_at = time.time()
        return reply

    @property
    def idle_s(self) -> float:
        """Seconds since it was last used."""
        return time.time() - self._used_at

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _post(self, reply: Reply, path: str, body: dict[str, Any], session: str) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n"
            + (f"x-session-id: {session}\r\n" if session else "")
            + "\r\n"
        )
        writer.write(head.encode() + data)
        await writer.drain()
        status = await reader.readline()
        headers: dict[str, str] = {}
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        if not status or line == b"":
            raise EOFError("closed before the head was complete")
        content = await self._content(reply, reader, headers)
        reply.status = int(status.split()[1])
        reply.request_id = headers.get("x-request-id", "")
        reply.release = headers.get("x-fairlead-release", "")
        reply.text = content.decode()
        if headers.get("connection", "").lower() == "close":
            self.close()

    @staticmethod
    async def _content(
        reply: Reply, reader: asyncio.StreamReader, headers: dict[str, str]
    ) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", "0")))
        parts: list[bytes] = []
        last = 0.0
        while True:
            line = await reader.readline()
            now = time.time()
            if parts:
                reply.gap_s_max = max(reply.gap_s_max, now - last)
            else:
                reply.first = now
            last = now
            if not line.endswith(b"\r\n"):
                raise EOFError("closed in the middle of a chunk")
            size = int(line, 16)
            part = await reader.readexactly(size + 2)
            if size == 0:
                return b"".join(parts)
            parts.append(part[:-2])


@dataclass
class Load:
    """Questions at a steady rate, some streamed, each in a session of its own, with feedback.

    Attributes:
        streamed: Share of requests with `stream: true`.
        patience: Times a request whose connection broke is sent again on a new connection.
        open_max: Requests that may be open; a machine that is slower than the rate gets fewer.
    """

    address: tuple[str, int]
    key: str
    questions: list[tuple[str, str]]
    rate: float
    streamed: float = 0.0
    patience: int = 0
    open_max: int = 100
    feedback: bool = True
    service: str = "banking"
    replies: list[Reply] = field(default_factory=list)
    broken: list[Reply] = field(default_factory=list)
    feedback_replies: list[Reply] = field(default_factory=list)
    sent: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`, then wait for the answers that are due."""
        free: list[Connection] = []
        tasks: set[asyncio.Task[None]] = set()
        dice = random.Random(5)
        begun = time.monotonic()
        for number, (text, intent) in enumerate(itertools.cycle(self.questions)):
            delay = begun + number / self.rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            while len(tasks) >= self.open_max:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                break
            stream = dice.random() < self.streamed
            task = asyncio.create_task(self._one(free, number, text, intent, stream))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)
        for connection in free:
            connection.close()

    async def _one(
        self, free: list[Connection], number: int, text: str, intent: str, stream: bool
    ) -> None:
        self.sent += 1
        body: dict[str, Any] = {
            "model": self.service,
            "messages": [{"role": "user", "content": text}],
        }
        if stream:
            body["stream"] = True
        connection = free.pop() if free else Connection(self.address, self.key)
        for _ in range(self.patience + 1):
            reply = await connection.post("/v1/chat/completions", body, f"s{number}")
            if reply.status:
                break
            self.broken.append(reply)
        self.replies.append(reply)
        if self.feedback and reply.status == 200:
            value = answer_of(reply).get("intent") == intent
            said = {"request_id": reply.request_id, "name": "success", "value": value}
            for _ in range(self.patience + 1):
                noted = await connection.post("/v1/feedback", said)
                if noted.status:
                    break
            self.feedback_replies.append(noted)
        free.append(connection)


def answer_of(reply: Reply) -> dict[str, Any]:
    """The JSON that the model answered; empty when it is none."""
    try:
        value = json.loads(text_of(reply))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def text_of(reply: Reply) -> str:
    """The text of an answer, put together again if it was streamed."""
    if not reply.stream:
        return str(json.loads(reply.text)["choices"][0]["message"]["content"])
    text = ""
    for line in reply.text.splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            for choice in json.loads(line[6:]).get("choices", []):
                text += choice.get("delta", {}).get("content") or ""
    return text


def is_whole(reply: Reply) -> bool:
    """Whether the answer is complete: a stream ends with [DONE] and holds no error."""
    if reply.status != 200:
        return False
    if not reply.stream:
        return True
    return reply.text.rstrip().endswith("data: [DONE]") and '"error"' not in reply.text
