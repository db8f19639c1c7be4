"""How much of an answer is read at once, and what is read while a client does not keep up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gateway_rig import head, until

from fairlead.gateway.limits import READ_BYTES
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.upstream import UpstreamConnection

BYTES = 40 * READ_BYTES


class Taker:
    """Notes the parts of a body; at the first one it may stop the connection."""

    def __init__(self, *, stops: bool) -> None:
        self.parts: list[int] = []
        self.is_over = False
        self.connection: UpstreamConnection | None = None
        self._stops = stops

    def on_head(self, head: AnswerHead) -> None:
        pass

    def on_body(self, data: bytes) -> None:
        self.parts.append(len(data))
        if self._stops and self.connection is not None:
            self.connection.pause()

    def on_end(self, *, is_framed: bool) -> None:
        self.is_over = True

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        raise AssertionError

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        raise AssertionError(reason)


@contextlib.asynccontextmanager
async def asked(*, stops: bool) -> AsyncIterator[tuple[UpstreamConnection, Taker]]:
    """An engine that is far ahead: all of its answer is there before any of it is read."""
    written = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(200, "application/json", content_length=BYTES) + b"x" * BYTES)
        written.set()
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    taker = Taker(stops=stops)
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: UpstreamConnection(lambda _: None, lambda _: None), "127.0.0.1", port
    )
    taker.connection = connection
    try:
        connection.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", taker)
        await written.wait()
        yield connection, taker
    finally:
        connection.abort()
        server.close()
        await server.wait_closed()


async def test_an_answer_comes_in_parts_of_bounded_size() -> None:
    async with asked(stops=False) as (_, taker):
        await until(lambda: taker.is_over)
        assert sum(taker.parts) == BYTES
        assert max(taker.parts) <= READ_BYTES


async def test_of_a_client_that_does_not_keep_up_no_more_than_one_part_is_read() -> None:
    async with asked(stops=True) as (connection, taker):
        await until(lambda: bool(taker.parts))
        await asyncio.sleep(0.1)
        assert len(taker.parts) == 1
        assert taker.parts[0] <= READ_BYTES
        connection.resume()
        await until(lambda: len(taker.parts) == 2)
