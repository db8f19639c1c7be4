"""Reads many streams at the same time: `stream_client PORT STREAMS SECONDS`.

Says `open` when every stream has begun, `begin` and `end` around what is measured, then one JSON
object: events and reads in that time, and the delays of the events of some streams from their
writing to their reading.

It must cost far less than any proxy, or it is what is measured. So it has no event loop of its own
beyond `epoll`, reads into one buffer, and looks only for the one byte that each event has once;
the times in the events are read in every `TIMED_EVERY`th stream alone.
"""

from __future__ import annotations

import gc
import json
import re
import select
import socket
import sys
import time

from benchmarks.gateway.quantiles import quantile
from benchmarks.gateway.traffic import KEY, MARK, TIME_DIGITS, USERS, chat_request

OPENING_S = 60.0
SETTLE_S = 1.5
BATCH = 25
BATCH_EVERY_S = 0.02
TIMED_EVERY = 7
"""No divisor of the number of moments over which the server spreads its streams."""
BUFFER_BYTES = 256 * 1024
_MARK = ord(MARK)
_TIME = re.compile(rb"%b(\d{%d})" % (re.escape(MARK), TIME_DIGITS))
_FRAMING = re.compile(rb"\r\n[0-9a-fA-F]{1,8}\r\n")
_FRAMING_BYTES_MAX = 12
_TAIL_BYTES = 1 + TIME_DIGITS + _FRAMING_BYTES_MAX
_EVENTS_AT_ONCE = 1024


class Times:
    """The times in one stream's bytes, wherever these were cut into chunks and reads.

    Chunks are not parsed: what stands between two of them is taken out.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[int]:
        """Those that are complete now."""
        data = _FRAMING.sub(b"", self._rest + data)
        found = list(_TIME.finditer(data))
        after = found[-1].end() if found else 0
        self._rest = data[max(after, len(data) - _TAIL_BYTES) :]
        return [int(match[1]) for match in found]


class Stream:
    """One stream; only some have times."""

    def __init__(self, connection: socket.socket, *, is_timed: bool) -> None:
        self.connection = connection
        self.times = Times() if is_timed else None
        self.has_begun = False


class Client:
    """All streams, and what came."""

    def __init__(self, port: int, streams: int, seconds: float) -> None:
        self._port = port
        self._wanted = streams
        self._seconds = seconds
        self._epoll = select.epoll()
        self._streams: dict[int, Stream] = {}
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._begun = 0
        self._lost = 0
        self._events = 0
        self._reads = 0
        self._delays_ns: list[int] = []

    def run(self) -> dict[str, float]:
        """Open, settle, measure."""
        self._open()
        print("open", flush=True)
        self._read_for(SETTLE_S)
        print("begin", flush=True)
        self._events = self._reads = 0
        self._delays_ns.clear()
        began = time.monotonic()
        self._read_for(self._seconds)
        took = time.monotonic() - began
        print("end", flush=True)
        values = sorted(self._delays_ns)
        return {
            "events_per_s": self._events / took,
            "reads_per_s": self._reads / took,
            "p50_ms": quantile(values, 0.50) / 1e6,
            "p99_ms": quantile(values, 0.99) / 1e6,
            "lost": self._lost,
        }

    def _open(self) -> None:
        for number in range(self._wanted):
            connection = socket.create_connection(("127.0.0.1", self._port))
            connection.sendall(_request(number % USERS))
            connection.setblocking(False)
            stream = Stream(connection, is_timed=number % TIMED_EVERY == 0)
            self._streams[connection.fileno()] = stream
            self._epoll.register(connection, select.EPOLLIN)
            if number % BATCH == BATCH - 1:
                self._read_for(BATCH_EVERY_S)
        deadline = time.monotonic() + OPENING_S
        while self._begun < self._wanted:
            if time.monotonic() > deadline:
                raise SystemExit(f"only {self._begun} of {self._wanted} streams began")
            self._read_for(BATCH_EVERY_S)

    def _read_for(self, seconds: float) -> None:
        """Read whatever comes."""
        streams, poll, read = self._streams, self._epoll.poll, self._read
        now = time.monotonic()
        until = now + seconds
        while now < until:
            for fd, _ in poll(until - now, _EVENTS_AT_ONCE):
                read(streams[fd])
            now = time.monotonic()

    def _read(self, stream: Stream) -> None:
        buffer = self._buffer
        try:
            size = stream.connection.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size == 0:
            self._ended(stream)
            return
        if not stream.has_begun:
            self._begin(stream, size)
        self._reads += 1
        self._events += buffer.count(_MARK, 0, size)
        if stream.times is not None:
            now = time.monotonic_ns()
            for written in stream.times.feed(bytes(self._view[:size])):
                self._delays_ns.append(now - written)

    def _begin(self, stream: Stream, size: int) -> None:
        """Until its first event, look closer: an answer may be no stream."""
        if self._buffer.startswith(b"HTTP/1.1 ") and not self._buffer.startswith(b"HTTP/1.1 200 "):
            print(f"answered {bytes(self._view[: min(size, 100)])!r}", file=sys.stderr)
        if self._buffer.count(_MARK, 0, size):
            stream.has_begun = True
            self._begun += 1

    def _ended(self, stream: Stream) -> None:
        """None does so by itself."""
        self._lost += 1
        self._epoll.unregister(stream.connection)
        stream.connection.close()


def _request(user: int) -> bytes:
    body = chat_request(user, stream=True)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        f"accept: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _main() -> None:
    port, streams, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    gc.disable()
    print(json.dumps(Client(port, streams, seconds).run()), flush=True)


if __name__ == "__main__":
    _main()
