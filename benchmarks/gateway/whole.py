"""Whole requests through a whole worker, between transports that are no sockets.

The worker is real: its parser, routing, recorder (which writes its spool to disk) and metrics. Only
the event loop's connections are replaced: what a client would send is fed to `ClientConnection`,
and what the worker sends to a replica is answered at the next turn of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from benchmarks.gateway.fairlead_proxy import snapshot
from benchmarks.gateway.functions import EVENT, request_head
from benchmarks.gateway.traffic import COMPLETION, chat_request

from fairlead.gateway.front.client import ClientConnection
from fairlead.gateway.settings import WorkerSettings
from fairlead.gateway.worker import Worker
from fairlead.wire.snapshot import Snapshot, encode_snapshot

REPLICA_PORT = 1
CONTROL_PORT = 2
BODY = COMPLETION.encode()
USUAL = (chat_request(0),)
_PLAIN = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 01 Nov 2026 00:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n"
    % len(BODY)
) + BODY
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class FakeTransport(asyncio.Transport):
    """Gives what is written to a function, and is never full."""

    def __init__(self, on_write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._on_write = on_write
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._on_write(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return True

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self._is_closing = True


class SocketFreeLoop(uvloop.Loop):
    """uvloop, but whoever connects gets a replica that answers at once."""

    answer_parts: tuple[bytes, ...] = (_PLAIN,)

    async def create_connection(  # type: ignore[override]  # As the gateway calls it.
        self, factory: Callable[[], Any], host: str, port: int, **_: object
    ) -> tuple[asyncio.Transport, Any]:
        if port != REPLICA_PORT:
            raise ConnectionRefusedError
        protocol = factory()

        def receive(part: bytes) -> None:
            room = protocol.get_buffer(len(part))  # As uvloop does it.
            room[: len(part)] = part
            protocol.buffer_updated(len(part))

        def answer(request: bytes) -> None:
            for part in self.answer_parts:
                self.call_soon(receive, part)

        transport = FakeTransport(answer)
        protocol.connection_made(transport)
        return transport, protocol


class Asker:
    """A client that asks again as soon as it is answered.

    Args:
        requests: Asked one after the other, over and over.
        first: The one that it begins with.
    """

    def __init__(
        self,
        worker: Worker,
        requests: Sequence[bytes],
        first: int,
        end: bytes,
        done: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._requests = requests
        self._next = first
        self._end = end
        self._left = 0
        self._done = done
        self._connection = ClientConnection(worker)
        self._transport = FakeTransport(self._written)
        self._connection.connection_made(self._transport)

    def begin(self, count: int) -> None:
        """Ask so many times."""
        self._left = count
        self._ask()

    def leave(self) -> None:
        """Close the connection."""
        self._connection.connection_lost(None)

    def _ask(self) -> None:
        self._left -= 1
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._connection.data_received(request)

    def _written(self, data: bytes) -> None:
        if not data.endswith(self._end):
            return
        if self._left > 0:
            self._loop.call_soon(self._ask)
        else:
            self._done()


class Crowd:
    """All clients of one worker; each begins at its own place in the requests.

    Args:
        end: What an answer ends with.
    """

    def __init__(self, worker: Worker, clients: int, requests: Sequence[bytes], end: bytes) -> None:
        apart = max(1, len(requests) // clients)
        self._askers = [
            Asker(worker, requests, number * apart, end, self._one_done)
            for number in range(clients)
        ]
        self._busy = 0
        self._all_done = asyncio.Event()

    async def ask(self, count: int) -> float:
        """Each of them asks so many times; the seconds of processor time that it took."""
        self._busy = len(self._askers)
        self._all_done.clear()
        began = time.process_time()  # Whatever else the machine does meanwhile.
        for asker in self._askers:
            asker.begin(count)
        async with asyncio.timeout(60):
            await self._all_done.wait()
        return time.process_time() - began

    def leave(self) -> None:
        """All of them close their connections."""
        for asker in self._askers:
            asker.leave()

    def _one_done(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._all_done.set()


@contextlib.asynccontextmanager
async def worker_on(
    folder: Path,
    served: Snapshot,
    *,
    has_records: bool = True,
    trace_share: float | None = None,
) -> AsyncIterator[Worker]:
    """A worker that serves by this snapshot."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    (folder / "metrics").mkdir(parents=True)
    settings = WorkerSettings(
        worker=0,
        boot="micro",
        listen_fd=listening.fileno(),
        spool_dir=str(folder / "spool") if has_records else None,
        snapshot_path=str(folder / "snapshot.json"),
        metrics_dir=str(folder / "metrics"),
        control_url=f"http://127.0.0.1:{CONTROL_PORT}",
        control_token="none",  # noqa: S106 - there is no control
        drain_s=0.0,
        trace_share=trace_share,
    )
    (folder / "snapshot.json").write_bytes(encode_snapshot(served))
    worker = Worker(settings, {})
    await worker.start(listening)
    try:
        yield worker
    finally:
        await worker.stop()


def request_of(body: bytes, more: bytes = b"") -> bytes:
    """The whole request with this body, and with these header lines."""
    given = b"Content-Length: %d\r\n" % len(chat_request(0))
    return request_head().replace(given, more + b"Content-Length: %d\r\n" % len(body)) + body


async def _measure(
    folder: Path,
    *,
    clients: int,
    requests: int,
    bodies: Sequence[bytes],
    parts: tuple[bytes, ...],
    end: bytes,
) -> float:
    """Seconds for so many requests of each client."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SocketFreeLoop)
    loop.answer_parts = parts
    async with worker_on(folder, snapshot([REPLICA_PORT], 256)) as worker:
        crowd = Crowd(worker, clients, [request_of(body) for body in bodies], end)
        await crowd.ask(max(1, requests // 10))  # It warms up.
        took = await crowd.ask(requests)
        crowd.leave()
    return took


def plain_us(
    folder: Path, *, clients: int, requests: int, bodies: Sequence[bytes] = USUAL
) -> float:
    """Microseconds of a plain request."""
    with asyncio.Runner(loop_factory=SocketFreeLoop) as runner:
        took = runner.run(
            _measure(
                folder,
                clients=clients,
                requests=requests,
                bodies=bodies,
                parts=(_PLAIN,),
                end=BODY,
            )
        )
    return took / (clients * requests) * 1e6


def event_us(folder: Path, *, clients: int, requests: int, events: int) -> float:
    """Microseconds of one event of a stream, its share of the request included."""
    parts = (_STREAM_HEAD, *[chunk(EVENT)] * events, chunk(_DONE) + b"0\r\n\r\n")
    with asyncio.Runner(loop_factory=SocketFreeLoop) as runner:
        took = runner.run(
            _measure(
                folder,
                clients=clients,
                requests=requests,
                bodies=[chat_request(0, stream=True)],
                parts=parts,
                end=b"0\r\n\r\n",
            )
        )
    return took / (clients * requests * events) * 1e6
