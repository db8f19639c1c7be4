"""Where two features of the gateway meet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from gateway_rig import KEY, A, Engine, Rig, error_of, route, snapshot, until

from fairlead.gateway import limits
from fairlead.gateway.deadlines import Deadlines
from fairlead.gateway.dialects import runs_on
from fairlead.gateway.quota_answers import _estimate
from fairlead.gateway.quota_file import QuotaFile

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]


async def test_a_client_that_reads_nothing_gets_no_more_answers(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next requests wait until it has read the answers before them, or is dropped."""
    monkeypatch.setattr(limits, "CLIENT_STALL_S", 1.0)
    rig = await serve(snapshot(route(A, await engine())))
    assert rig.worker is not None
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", rig.port))
    await until(lambda: len(rig.worker._connections) == 1)  # type: ignore[union-attr]
    (connection,) = rig.worker._connections
    transport = connection._transport
    assert transport is not None
    while transport.is_reading():
        assert transport.get_write_buffer_size() < 2 * limits.WRITE_BUFFER_BYTES
        before = connection._request_id
        sock.send(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        await until(lambda: connection._request_id != before)  # noqa: B023
    await until(lambda: connection._is_gone)
    sock.close()


async def test_a_client_that_reads_again_is_served_again(engine: StartEngine, serve: Serve) -> None:
    rig = await serve(snapshot(route(A, await engine())))
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer " + KEY.encode()
    for _ in range(3):
        writer.write(head + b"\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"]}")
    writer.close()


async def test_an_answer_in_the_background_is_refused(engine: StartEngine, serve: Serve) -> None:
    one = await engine()
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        body = {"model": "bank", "input": "x", "background": True}
        assert error_of(await client.post("/v1/responses", json=body)) == (400, "invalid_body")
    assert one.asked == []
    assert not runs_on("responses", b'{"input":"background"}')
    assert not runs_on("chat/completions", b'{"background":true}')


def test_what_a_response_may_be_long_is_reserved() -> None:
    body = b'{"model":"m","max_output_tokens":100000}'
    assert _estimate("responses", body, None)[1:] == (100_000, True)
    assert _estimate("chat/completions", body, None)[2] is False


def test_a_deadline_that_ends_another_one_ends_it_once() -> None:
    deadlines = Deadlines()
    ended: list[str] = []

    class Timed:
        def __init__(self, name: str) -> None:
            self.name = name
            self.other: Timed | None = None

        def timed_out(self) -> None:
            ended.append(self.name)
            if self.other is not None:
                deadlines.end(self.other)

    one, two, three = Timed("one"), Timed("two"), Timed("three")
    one.other = two
    for timed in (one, two, three):
        deadlines.begin(timed, 1.0)
    deadlines.check(2.0)
    assert ended == ["one", "three"]


def test_a_seat_of_a_running_process_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "quota-0"
    path.write_bytes(b'{"seat":"old","pid":1,"boot":"old","uses":[]}')
    assert QuotaFile(path, "new").take_over().seat == "new"
