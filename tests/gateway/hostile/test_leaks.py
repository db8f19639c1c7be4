"""What a request leaves behind in a worker's memory: nothing, however it ends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from attack import HOST, KEY_LINE, length, post, request
from gateway_rig import CHAT, A, Asked, Engine, answers, chunk, event, head, route, snapshot, until
from outside import Outside, outside

StartEngine = Callable[..., Awaitable[Engine]]
Ask = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CLIENTS = 8
WARM_UP, TIMES = 2_000, 4_000
BYTES_A_REQUEST_MAX = 20
"""Less than any object takes; a page here and there is 1 byte a request."""
ROUNDS_MAX = 10
STREAM = json.dumps({**CHAT, "stream": True}).encode()
END = b"\r\n0\r\n\r\n"


async def _says(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Plain answers and streams; a stream to a user called `leaver` has no end."""
    if not asked.json.get("stream"):
        await answers("ok")(asked, writer)
        return
    writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
    writer.write(b"".join(chunk(event(text)) for text in ("a", "b", "c")))
    await writer.drain()
    if asked.json.get("user") == "leaver":
        await asyncio.Event().wait()
    writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))
    await writer.drain()


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post())
    got = await reader.readuntil(b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200")
    size = next(line for line in got.split(b"\r\n") if line.lower().startswith(b"content-length"))
    await reader.readexactly(int(size.partition(b":")[2]))


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post(STREAM))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await reader.readuntil(END)


async def _refused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(request(HOST, length(b'{"model":1}'), body=b'{"model":1}'))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400")
    await reader.readuntil(b"}}")


async def _unknown(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post().replace(KEY_LINE, KEY_LINE + b"x"))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
    writer.close()


async def _left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post(json.dumps({**CHAT, "stream": True, "user": "leaver"}).encode()))
    await reader.readuntil(b'"c"')
    writer.close()


ENDS: dict[str, Ask] = {
    "plain": _plain,
    "stream": _stream,
    "refused": _refused,
    "of an unknown key": _unknown,
    "left in the middle": _left,
}


async def _ask(worker: Outside, ask: Ask, times: int) -> None:
    """On connections that are kept as long as they are open."""

    async def client() -> None:
        writer: asyncio.StreamWriter | None = None
        for _ in range(times // CLIENTS):
            if writer is None or writer.is_closing():
                reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
            await ask(reader, writer)
        if writer is not None:
            writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    await until(lambda: worker.descriptors < 40, within_s=30)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ENDS)
async def test_no_request_leaves_anything_in_memory(
    engine: StartEngine, tmp_path: Path, name: str
) -> None:
    one = await engine(_says)
    async with outside(tmp_path, snapshot(route(A, one, slots=64))) as worker:
        await _ask(worker, ENDS[name], WARM_UP)
        grown = []
        # What is laid in once is laid in once; what leaks grows in each round.
        for _ in range(ROUNDS_MAX):
            before = worker.resident
            one.asked.clear()
            await _ask(worker, ENDS[name], TIMES)
            grown.append((worker.resident - before) / TIMES)
            if grown[-1] <= BYTES_A_REQUEST_MAX:
                break
        sys.stdout.write(f"\n{name}: {grown} bytes a request\n")
        assert grown[-1] <= BYTES_A_REQUEST_MAX, grown
