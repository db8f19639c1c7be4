"""What a request leaves behind in a worker's memory: nothing, however it ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from attack import HOST, KEY_LINE, length, post, request
from gateway_rig import CHAT, A, Asked, Engine, answers, chunk, event, head, route, snapshot, until
from outside import Outside, outside

StartEngine = Callable[..., Awaitable[Engine]]
Ask = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CLIENTS = 8
WARM_UP, TIMES = 2_000, 4_000
BYTES_A_REQUEST_MAX = 20
"""Less than a string or an entry of a dict takes; a page now and then is 1 byte a request."""
ROUNDS_MAX, QUIET_ROUNDS = 16, 3
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


async def _plain(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes | None = None
) -> None:
    writer.write(post() if body is None else post(body))
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


async def _grown(
    worker: Outside, ask: Ask, engines: Sequence[Engine], name: str, rounds: int = ROUNDS_MAX
) -> float:
    """Bytes a request of the last rounds; what is laid in once is over by then, as a rule."""
    await _ask(worker, ask, WARM_UP)
    grown: list[float] = []
    most = worker.resident
    for _ in range(rounds):
        for one in engines:
            one.asked.clear()
        await _ask(worker, ask, TIMES)
        # Memory that was given back and is taken again is no growth.
        grown.append(max(0, worker.resident - most) / TIMES)
        most = max(most, worker.resident)
        last = grown[-QUIET_ROUNDS:]
        if len(last) == QUIET_ROUNDS and sum(last) / QUIET_ROUNDS <= BYTES_A_REQUEST_MAX:
            break
    sys.stdout.write(f"\n{name}: {grown} bytes a request\n")
    return sum(last) / QUIET_ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ENDS)
async def test_no_request_leaves_anything_in_memory(
    engine: StartEngine, tmp_path: Path, name: str
) -> None:
    one = await engine(_says)
    async with outside(tmp_path, snapshot(route(A, one, slots=64))) as worker:
        assert await _grown(worker, ENDS[name], [one], name) <= BYTES_A_REQUEST_MAX


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_worker_that_remembers_something_of_each_request_is_found(
    engine: StartEngine, tmp_path: Path
) -> None:
    """Who was asked what is remembered, and bounded only far above these: a leak as far as seen."""
    engines = [await engine(_says) for _ in range(2)]
    numbers = itertools.count()

    async def new(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = [{"role": "user", "content": f"question {next(numbers)}"}]
        await _plain(reader, writer, json.dumps({**CHAT, "messages": said}).encode())

    base = snapshot(route(A, *engines, slots=64))
    service = msgspec.structs.replace(base.services["bank"], balance="prefix")
    table = msgspec.structs.replace(base, services={"bank": service})
    async with outside(tmp_path, table) as worker:
        grown = await _grown(worker, new, engines, "never asked before", rounds=5)
        assert grown > BYTES_A_REQUEST_MAX
