"""Messages on their way through a proxy to the gateway, each lane one message at a time.

A lane is a port of the proxy and, behind it, a port on which the gateway's own parser listens and
answers every request at once. What a message came to is read off at both ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec
from parser_rig import Host, Seen

from differential.peers import MARK, Ports, free_ports
from differential.views import View
from fairlead.gateway.errors import NOT_FOUND
from fairlead.gateway.front import request_reader
from fairlead.gateway.front.auth import KeyRing
from fairlead.gateway.front.client import ClientConnection
from fairlead.gateway.front.operations import Operation, Outcome
from fairlead.gateway.front.request import Request

_ENDS_S = 20.0


class LaneHost(Host):
    """The worker's part for one lane: notes every request that arrives behind the proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Request] = []
        assert self.loaded is not None
        self.loaded.keys = KeyRing((), is_open=True)  # A gateway in front of it keeps the key.

    @property
    def refused_count(self) -> int:
        """How many requests the gateway refused behind the proxy."""
        series = self.plant.metrics.rejected.state().series
        return int(sum(values[0] for _, values in series))

    @property
    def unmarked(self) -> list[Request]:
        """Requests that were none for the proxy, or that have swallowed one that was."""
        mark = MARK.encode()
        return [r for r in self.seen if r.session != mark or mark in r.body]


class Passed(msgspec.Struct):
    """What came of one message that was sent to the proxy.

    Attributes:
        theirs: The requests that the proxy made of it, as the gateway read them.
        refused_behind: The gateway refused what the proxy passed on.
        unmarked: Requests that the proxy does not know of: a smuggled one each.
        is_hung: The proxy had not ended the connection in time.
    """

    theirs: View
    refused_behind: bool
    unmarked: list[Request]
    is_hung: bool


class _Sender(asyncio.Protocol):
    """Sends everything at once, and takes what comes back until the connection ends."""

    def __init__(self, wire: bytes, *, ends: bool) -> None:
        self._wire = wire
        self._ends = ends
        self.got = b""
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._wire)
        if self._ends:
            self._transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_over.done():
            self.is_over.set_result(None)

    def abort(self) -> None:
        self._transport.abort()


class Lane:
    """One port of a proxy, and the gateway behind it."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.host = LaneHost()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientConnection(self.host), "127.0.0.1", self.ports.back
        )

    def close(self) -> None:
        assert self._server is not None
        self._server.close()

    async def send(self, wire: bytes) -> Passed:
        """One message on a connection of its own, closed for writing after it."""
        self.host.seen = []
        before = self.host.refused_count
        sender = await self._exchange(wire, ends=True, within_s=_ENDS_S)
        seen = [Seen(path=r.path, body=r.body) for r in self.host.seen]
        refused_behind = self.host.refused_count > before
        return Passed(
            theirs=View(requests=seen, is_over=True, why=_status(sender.got)),
            refused_behind=refused_behind,
            unmarked=self.host.unmarked,
            is_hung=not sender.is_over.done() or sender.is_over.cancelled(),
        )

    async def refuses(self, wire: bytes, within_s: float = _ENDS_S) -> bool:
        """Whether the proxy ends the connection by itself, rather than to wait for more."""
        self.host.seen = []
        sender = await self._exchange(wire, ends=False, within_s=within_s)
        return sender.is_over.done() and not sender.is_over.cancelled()

    async def _exchange(self, wire: bytes, *, ends: bool, within_s: float) -> _Sender:
        loop = asyncio.get_running_loop()
        sender = _Sender(wire, ends=ends)
        await loop.create_connection(lambda: sender, "127.0.0.1", self.ports.front)
        await asyncio.wait((sender.is_over,), timeout=within_s)
        if not sender.is_over.done():
            sender.is_over.cancel()
            sender.abort()
        return sender


def _status(got: bytes) -> str:
    """The status of the last answer."""
    return got.rpartition(b"HTTP/1.1 ")[2][:3].decode("latin-1") if b"HTTP/1." in got else ""


def _noting(find: Callable[[str, str], Operation | None]) -> Callable[[str, str], Operation]:
    """A stand-in for `find_operation`: a lane notes every request and answers it at once. A whole
    worker, which may be in front of the proxy, goes on as before."""

    def noting(method: str, path: str) -> Operation:
        real = find(method, path)

        def handle(host: Any, client: Any, request: Request, loaded: Any) -> Outcome:
            if not isinstance(host, LaneHost):
                return NOT_FOUND if real is None else real.handle(host, client, request, loaded)
            host.seen.append(request)
            client.answer(200, b"text/plain", b"ok", b"")
            return None

        return Operation(method, handle, needs_key=real is not None)

    return noting


@contextlib.asynccontextmanager
async def lanes(count: int) -> AsyncIterator[list[Lane]]:
    """So many lanes, with the gateway listening at their ends."""
    ports = free_ports(2 * count)
    made = [Lane(Ports(front=ports[2 * n], back=ports[2 * n + 1])) for n in range(count)]
    before = request_reader.find_operation
    request_reader.find_operation = _noting(before)
    try:
        for lane in made:
            await lane.start()
        yield made
    finally:
        for lane in made:
            lane.close()
        request_reader.find_operation = before
