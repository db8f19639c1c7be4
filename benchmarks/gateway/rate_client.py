"""Requests at a constant rate, whatever the answers do: `rate_client PORT RATE SECONDS`.

Request i is due at start + i / rate. Its latency counts from that moment, also when it had to wait
for a connection, so a proxy that stalls is charged for everything that came due meanwhile (no
coordinated omission). Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import deque
from typing import cast

import httptools
import uvloop
from benchmarks.gateway.quantiles import quantile
from benchmarks.gateway.ticker import Ticker
from benchmarks.gateway.traffic import KEY, USERS, chat_request

CONNECTIONS = 50
WARM_UP_S = 1.0
GRACE_S = 5.0


class Connection(asyncio.Protocol):
    """One keep-alive connection: at most one request on it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._due_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost(self)

    def ask(self, request: bytes, due_ns: int) -> None:
        """Send a request that was due then."""
        assert self._transport is not None
        self._due_ns = due_ns
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """httptools: the answer is there."""
        is_good = self._parser.get_status_code() == 200
        self._parser = httptools.HttpResponseParser(self)
        self._client.answered(self, self._due_ns, is_good=is_good)


class Client:
    """The schedule, and what came of it."""

    def __init__(self, port: int, rate: int, seconds: float) -> None:
        self.free: deque[Connection] = deque()
        self._waiting: deque[int] = deque()
        self._port = port
        self._interval_ns = 10**9 // rate
        self._total = round(rate * (WARM_UP_S + seconds))
        self._measured_from = round(rate * WARM_UP_S)
        self._requests = [_request(user) for user in range(USERS)]
        self._ticker = Ticker()
        self._first_ns = 0
        self._scheduled = 0
        self._finished = 0
        self._failed = 0
        self._latencies_ns: list[int] = []
        self._done = asyncio.Event()

    async def run(self) -> dict[str, float]:
        """The whole schedule."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
        self._first_ns = self._ticker.start(self._interval_ns)
        loop.add_reader(self._ticker.fd, self._tick)
        span_s = self._total * self._interval_ns / 1e9
        try:
            async with asyncio.timeout(span_s + GRACE_S):
                await self._done.wait()
        except TimeoutError:
            self._failed += self._total - self._finished
        loop.remove_reader(self._ticker.fd)
        values = sorted(self._latencies_ns)
        return {
            "p50_us": quantile(values, 0.50) / 1e3,
            "p99_us": quantile(values, 0.99) / 1e3,
            "answered": len(values),
            "failed": self._failed,
        }

    def answered(self, connection: Connection, due_ns: int, *, is_good: bool) -> None:
        """An answer is complete; what waited for a connection goes on."""
        if due_ns >= self._first_ns + self._measured_from * self._interval_ns:
            self._latencies_ns.append(time.monotonic_ns() - due_ns)
        self._failed += not is_good
        self._finished += 1
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self.free.append(connection)
        if self._finished == self._total:
            self._done.set()

    def lost(self, connection: Connection) -> None:
        """The proxy closed it: its request, if any, stays unanswered and counts as failed."""
        if connection in self.free:
            self.free.remove(connection)

    def _tick(self) -> None:
        for _ in range(self._ticker.due()):
            if self._scheduled == self._total:
                return
            due_ns = self._first_ns + self._scheduled * self._interval_ns
            self._scheduled += 1
            if self.free:
                self._send(self.free.popleft(), due_ns)
            else:
                self._waiting.append(due_ns)

    def _send(self, connection: Connection, due_ns: int) -> None:
        connection.ask(self._requests[self._finished % USERS], due_ns)


def _request(user: int) -> bytes:
    body = chat_request(user)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _main() -> None:
    port, rate, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    gc.disable()
    print(json.dumps(await Client(port, rate, seconds).run()))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
