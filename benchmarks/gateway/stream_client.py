"""Reads many streams at the same time: `stream_client PORT STREAMS SECONDS`.

Says `open` when every stream has begun, `begin` and `end` around what is measured, then one JSON
object: events in that time, and the delay of each from its writing to its reading.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from functools import partial
from typing import cast

import uvloop
from benchmarks.gateway.quantiles import quantile
from benchmarks.gateway.traffic import KEY, USERS, chat_request

OPENING_S = 60.0
SETTLE_S = 1.0
BATCH = 25
BATCH_EVERY_S = 0.02
_MARK = b'"@'
_TIME = re.compile(rb'"@(\d{20})"')
_TIME_BYTES = 23
_FRAMING = re.compile(rb"\r\n[0-9a-fA-F]{1,8}\r\n")
_FRAMING_BYTES = 12
_ONE_EVENT_BYTES = 512


class Stream(asyncio.Protocol):
    """One stream. Its chunks are not parsed, which would cost more than all else: what stands
    between two of them is taken out, so that an event in two chunks is found too."""

    def __init__(self, client: Client, request: bytes) -> None:
        self._client = client
        self._request = request
        self._rest = b""
        self._is_answered = False
        self._has_begun = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost()

    def data_received(self, data: bytes) -> None:
        if not self._is_answered:
            self._is_answered = True
            if not data.startswith(b"HTTP/1.1 200 "):
                self._client.refused(data)
        if self._rest or len(data) > _ONE_EVENT_BYTES:
            data = _FRAMING.sub(b"", self._rest + data)
        times = _TIME.findall(data)
        self._rest = b"" if data.endswith(b"\n\n\r\n") else _rest_of(data)
        if not self._has_begun and times:
            self._has_begun = True
            self._client.began()
        self._client.got(times)


def _rest_of(data: bytes) -> bytes:
    """What may be the beginning of a time, or of what stands between two chunks."""
    at = data.rfind(_MARK)
    if at >= 0 and len(data) - at < _TIME_BYTES + _FRAMING_BYTES and not _TIME.match(data, at):
        return data[at:]
    end_of_time = at + _TIME_BYTES if at >= 0 else 0
    return data[max(end_of_time, len(data) - _FRAMING_BYTES) :]


class Client:
    """All streams, and what came."""

    def __init__(self, port: int, streams: int, seconds: float) -> None:
        self._port = port
        self._streams = streams
        self._seconds = seconds
        self._begun = 0
        self._lost = 0
        self._is_measuring = False
        self._is_over = False
        self._events = 0
        self._delays_ns: list[int] = []
        self._all_open = asyncio.Event()

    async def run(self) -> dict[str, float]:
        """Open, settle, measure."""
        streams = await self._open()
        print("open", flush=True)
        await asyncio.sleep(SETTLE_S)
        print("begin", flush=True)
        began, self._is_measuring = time.monotonic(), True
        await asyncio.sleep(self._seconds)
        self._is_measuring = False
        took = time.monotonic() - began
        print("end", flush=True)
        self._is_over = True
        lost = self._lost
        for stream in streams:
            assert stream.transport is not None
            stream.transport.abort()
        values = sorted(self._delays_ns)
        return {
            "events_per_s": self._events / took,
            "p50_ms": quantile(values, 0.50) / 1e6,
            "p99_ms": quantile(values, 0.99) / 1e6,
            "lost": lost,
        }

    async def _open(self) -> list[Stream]:
        loop = asyncio.get_running_loop()
        streams: list[Stream] = []
        for number in range(self._streams):
            request = _request(number % USERS)
            stream = Stream(self, request)
            await loop.create_connection(partial(_same, stream), "127.0.0.1", self._port)
            streams.append(stream)
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(BATCH_EVERY_S)
        try:
            async with asyncio.timeout(OPENING_S):
                await self._all_open.wait()
        except TimeoutError:
            raise SystemExit(f"only {self._begun} of {self._streams} streams began") from None
        return streams

    def began(self) -> None:
        """A stream's first event."""
        self._begun += 1
        if self._begun == self._streams:
            self._all_open.set()

    def got(self, times: list[bytes]) -> None:
        """Events, by the times in them."""
        if self._is_measuring:
            self._events += len(times)
            now = time.monotonic_ns()
            for written in times:
                self._delays_ns.append(now - int(written))

    def lost(self) -> None:
        """A stream ended, which none does by itself."""
        if not self._is_over:
            self._lost += 1

    def refused(self, data: bytes) -> None:
        """No stream at all."""
        print(f"answered {data[:100]!r}", file=sys.stderr)


def _same(stream: Stream) -> Stream:
    return stream


def _request(user: int) -> bytes:
    body = chat_request(user, stream=True)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        f"accept: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _main() -> None:
    port, streams, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    gc.disable()
    print(json.dumps(await Client(port, streams, seconds).run()), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
