"""A real worker that is pushed to its memory's ceiling: it takes in less, and comes back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from attack import BODY, HOST, KEY_LINE, length, request, statuses
from gateway_rig import (
    A,
    Asked,
    Engine,
    answers,
    chunk,
    completion,
    event,
    head,
    route,
    snapshot,
    until,
)
from outside import Outside, outside, stalled

from fairlead.gateway.limits import CLIENT_STALL_S

StartEngine = Callable[..., Awaitable[Engine]]
HONEST = request(HOST, length(BODY), b"connection: close", body=BODY)
LARGE = request(HOST, length(b"x" * 3_000_000), b"connection: close", body=b"x" * 3_000_000)
READERS = 250


async def floods(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A stream without an end to who asks for one."""
    if not asked.json.get("stream"):
        await answers("ok")(asked, writer)
        return
    writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
    block = chunk(event("x" * 30_000))
    while True:
        writer.write(block)
        await writer.drain()


async def test_near_its_ceiling_a_worker_refuses_bodies_sheds_and_comes_back(
    engine: StartEngine, tmp_path: Path
) -> None:
    one = await engine(floods)
    # Less than it can start with: it gets 64 MiB more than that.
    async with outside(tmp_path, snapshot(route(A, one, slots=2000)), 1) as worker:
        worker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        ceiling = await worker.metric("fairlead_gateway_memory_limit_bytes")
        assert 64 * 2**20 < ceiling < worker.resident + 80 * 2**20
        assert await worker.metric("fairlead_gateway_memory_level") == 0
        assert statuses(await worker.ask(HONEST)) == [200]
        idle = await asyncio.open_connection("127.0.0.1", worker.port)
        idle[1].write(request(HOST, length(BODY), body=BODY))
        assert (await idle[0].readline()).startswith(b"HTTP/1.1 200")
        beginning = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + KEY_LINE
        partial = await asyncio.open_connection("127.0.0.1", worker.port)
        partial[1].write(beginning + b"\r\ncontent-length: 8000000\r\n\r\n" + b"x" * 100_000)

        most, readers = worker.resident, []
        refused: list[bytes] = []
        full = began = asyncio.get_running_loop().time()
        while not refused or len(readers) < READERS:
            readers.append(await stalled(worker))
            assert len(readers) < 20 * READERS, "its memory was never full"
            most = max(most, worker.resident)
            if len(readers) % 10 == 0:
                got = await worker.ask(HONEST)
                if statuses(got) == [503]:
                    refused.append(got)
                else:
                    assert completion("ok") in got
        full = asyncio.get_running_loop().time()
        assert b"retry-after: 1" in refused[0]
        assert b'"code":"overloaded"' in refused[0]
        # Without a body it is still answered: so it is known how it is.
        await until(worker.is_up, within_s=60)
        # The cheapest have gone first: an idle client, and one whose body was not complete.
        assert await idle[0].read() is not None
        assert idle[0].at_eof()
        assert statuses(await partial[0].read()) in ([503], [408])
        assert await worker.metric("fairlead_gateway_memory_shed_total") >= 2
        # Those that do not read go, and before their time; then there is room again.
        await until(lambda: one.hung_up >= 1, within_s=60)
        assert full - began < CLIENT_STALL_S
        for reader in readers:
            reader.close()
        idle[1].close()
        partial[1].close()
        await _is_calm(worker)
        assert completion("ok") in await worker.ask(HONEST)
        assert statuses(await worker.ask(LARGE)) == [400]  # Taken in again, and no JSON.
        most = max(most, worker.resident)
        assert most < 1.5 * ceiling
        said = worker.log.read_text()
        assert "memory is full" in said
        assert "memory is calm" in said


async def _is_calm(worker: Outside) -> None:
    async with asyncio.timeout(60):
        while await worker.metric("fairlead_gateway_memory_level"):  # noqa: ASYNC110 - not ours
            await asyncio.sleep(0.1)
