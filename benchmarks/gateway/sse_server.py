"""An upstream of event streams: `sse_server PORT STREAMS EVENTS_PER_S`.

Each stream gets one event at once. The others begin when STREAMS are open: so many per second and
stream, evenly spread; or, when EVENTS_PER_S is 0, one after the other to every stream whose reader
keeps up. One write is one event, as engines send tokens. An event carries the monotonic time of
its writing. What is no stream is answered with a completion.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import cast

import httptools
import uvloop
from benchmarks.gateway.ticker import Ticker
from benchmarks.gateway.traffic import COMPLETION, MARK, SERVICE, TIME_DIGITS, event_of

SLOT_NS = 1_000_000
SEND_BUFFER_BYTES = 16 * 1024
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_BODY = COMPLETION.encode()
_PLAIN = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY)
) + _BODY
_BEFORE, _AFTER = (part.replace(b"%", b"%%") for part in event_of(SERVICE))
_LENGTH = len(_BEFORE) + len(MARK) + TIME_DIGITS + len(_AFTER)
CHUNK = b"%x\r\n%b%b%%0%dd%b\r\n" % (_LENGTH, _BEFORE, MARK, TIME_DIGITS, _AFTER)


class Connection(asyncio.Protocol):
    """A connection; once a stream, always one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._socket: socket.socket | None = None
        self.transport: asyncio.Transport | None = None
        self.is_stream = False
        self.is_held_up = False
        self.send: Callable[[bytes], int] = _nowhere
        """Past the transport, which takes as long as all the rest."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)
        given = self.transport.get_extra_info("socket")
        given.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_stream:
            self._server.closed(self)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def pause_writing(self) -> None:
        self.is_held_up = True

    def resume_writing(self) -> None:
        self.is_held_up = False
        self._server.has_room()

    def left_over(self, event: bytes) -> None:
        """The transport has what did not fit, and says when that has gone."""
        assert self.transport is not None
        self.transport.write(event)

    def broke(self) -> None:
        """It cannot be written to any more."""
        assert self.transport is not None
        self.is_held_up = True
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """httptools: a part of the body."""
        self._body += data

    def on_message_complete(self) -> None:
        """httptools: the request is there."""
        assert self.transport is not None
        body, self._body = self._body, b""
        if b'"stream":true' in body.replace(b" ", b""):
            self.is_stream = True
            self._socket = socket.socket(fileno=os.dup(self._fileno()))
            self._socket.setblocking(False)
            self.send = self._socket.send
            self.send(_STREAM_HEAD + CHUNK % time.monotonic_ns())
            self._server.opened(self)
        else:
            self.transport.write(_PLAIN)

    def _fileno(self) -> int:
        assert self.transport is not None
        return int(self.transport.get_extra_info("socket").fileno())


class Server:
    """All streams, and when each is due."""

    def __init__(self, streams: int, events_per_s: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._wanted = streams
        self._is_paced = events_per_s > 0
        period_ns = 10**9 // events_per_s if self._is_paced else SLOT_NS
        self._slots: list[set[Connection]] = [set() for _ in range(max(1, period_ns // SLOT_NS))]
        self._interval_ns = period_ns // len(self._slots)
        self._turn = 0
        self._open = 0
        self._has_begun = False
        self._is_writing = False
        self._ticker = Ticker()

    def opened(self, connection: Connection) -> None:
        """A new stream; the last one of those awaited lets the events begin."""
        min(self._slots, key=len).add(connection)
        self._open += 1
        if self._open == self._wanted and not self._has_begun:
            self._has_begun = True
            if self._is_paced:
                self._ticker.start(self._interval_ns)
                self._loop.add_reader(self._ticker.fd, self._tick)
            else:
                self.has_room()

    def closed(self, connection: Connection) -> None:
        """A stream is over."""
        self._open -= 1
        for slot in self._slots:
            slot.discard(connection)

    def has_room(self) -> None:
        """A reader has caught up."""
        if self._has_begun and not self._is_paced and not self._is_writing:
            self._is_writing = True
            self._loop.call_soon(self._write_on)

    def _tick(self) -> None:
        for _ in range(min(self._ticker.due(), len(self._slots))):
            self._turn = (self._turn + 1) % len(self._slots)
            _write_to(self._slots[self._turn])

    def _write_on(self) -> None:
        self._is_writing = _write_to(self._slots[0]) > 0
        if self._is_writing:
            self._loop.call_soon(self._write_on)


def _write_to(connections: set[Connection]) -> int:
    """One event to each that keeps up; returns how many."""
    count = 0
    now = time.monotonic_ns
    for connection in connections:
        if connection.is_held_up:
            continue
        event = CHUNK % now()
        count += 1
        try:
            sent = connection.send(event)
        except BlockingIOError:
            sent = 0
        except OSError:
            connection.broke()
            continue
        if sent < len(event):
            connection.left_over(event[sent:])
    return count


def _nowhere(_: bytes) -> int:
    raise OSError("no stream")


async def _main() -> None:
    port, streams, events_per_s = (int(argument) for argument in sys.argv[1:4])
    loop = asyncio.get_running_loop()
    serving = Server(streams, events_per_s)
    gc.disable()
    server = await loop.create_server(lambda: Connection(serving), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
