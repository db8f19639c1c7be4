"""A worker when things around it go wrong: the end of its time, stalled clients, a bad disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from gateway_rig import (
    CHAT,
    KEY,
    A,
    Asked,
    Control,
    Engine,
    Rig,
    answers,
    chunk,
    error_of,
    event,
    hangs,
    head,
    route,
    running,
    snapshot,
    streams,
    until,
)

from fairlead.gateway import limits
from fairlead.wire.snapshot import Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
STREAM = {**CHAT, "stream": True}


async def test_what_is_open_when_the_drain_ends_is_told_so_and_recorded(
    engine: StartEngine, tmp_path: Path, control: Control
) -> None:
    plain, stream = await engine(hangs), await engine(streams("a", *"bcd" * 9, gap=0.2))
    rig = Rig(tmp_path, control.engine.url, drain_s=0.4)
    async with running(rig, snapshot(route(A, plain, stream))), rig.client() as client:
        asking = [asyncio.ensure_future(client.post(PATH, json=STREAM)) for _ in range(2)]
        await until(lambda: len(plain.asked) + len(stream.asked) == 2)
        await rig.stop()
        got = [await a for a in asking]
    refused = [a for a in got if a.status_code == 503]
    cut = [a for a in got if a.status_code == 200]
    assert [error_of(a) for a in refused] == [(503, "shutting_down")] * len(plain.asked)
    assert len(cut) == len(stream.asked)
    for answer in cut:
        last = [e for e in answer.text.split("\n\n") if e][-1]
        assert json.loads(last[6:])["error"]["code"] == "shutting_down"
    assert [r.error for r in rig.requests()] == ["shutting_down"] * 2
    rig.socket.close()


async def test_an_idle_client_is_let_go_when_the_worker_stops(
    engine: StartEngine, serve: Serve
) -> None:
    rig = await serve(snapshot(route(A, await engine())))
    async with rig.client() as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        async with asyncio.timeout(1.5):
            await rig.stop()


async def test_a_client_whose_stream_ends_while_the_worker_stops_is_let_go_soon(
    engine: StartEngine, tmp_path: Path, control: Control
) -> None:
    """The stream's head had promised to keep the connection."""
    served = await engine(streams("a", "b", "c", gap=0.3))
    rig = Rig(tmp_path, control.engine.url, drain_s=30.0)
    async with running(rig, snapshot(route(A, served))), rig.client() as client:
        asking = asyncio.ensure_future(client.post(PATH, json=STREAM))
        await until(lambda: len(served.asked) == 1)
        async with asyncio.timeout(10):
            await rig.stop()
        assert (await asking).text.endswith("data: [DONE]\n\n")
    rig.socket.close()


async def test_a_client_that_reads_nothing_is_dropped(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def floods(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        while True:
            writer.write(chunk(event("x" * 60_000)))
            await writer.drain()

    monkeypatch.setattr(limits, "CLIENT_STALL_S", 0.3)
    one = await engine(floods)
    rig = await serve(snapshot(route(A, one)))
    body = json.dumps(STREAM).encode()
    _reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1024)
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (PATH.encode(), KEY.encode(), len(body), body)
    )
    await until(lambda: one.hung_up == 1)
    await until(lambda: len(rig.requests()) == 1)
    assert rig.requests()[0].status == 499
    writer.close()


async def test_without_a_spool_it_serves_on_and_counts_what_is_lost(
    engine: StartEngine, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    (rig.folder / "spool").write_text("in the way")
    await rig.start(snapshot(route(A, await engine(answers()))))
    async with rig.client() as client:
        for _ in range(5):
            assert (await client.post(PATH, json=CHAT)).status_code == 200
        text = (await client.get("/metrics")).text
    assert "fairlead_spool_records_total 0" in text
    assert "fairlead_spool_write_errors_total 0" not in text
    assert caplog.text.count("spool cannot be written") == 1
    (rig.folder / "spool").unlink()
    await until(lambda: len(rig.requests()) == 5)


async def test_no_key_and_no_prompt_is_written_anywhere(
    engine: StartEngine, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="fairlead")
    prompt = "canary-prompt-text"
    one = await engine(answers(status=503))
    rig = await serve(snapshot(route(A, one)))
    body = {**CHAT, "messages": [{"role": "user", "content": prompt}], "user": "canary-user"}
    async with rig.client() as client:
        await client.post(PATH, json=body, headers={"x-session-id": "canary-session"})
        await client.post(PATH, json=body, headers={"authorization": "Bearer canary-wrong-key"})
        metrics = (await client.get("/metrics")).text
    await rig.stop()
    written = [p.read_bytes() for p in rig.folder.rglob("*") if p.is_file()]
    for secret in (KEY, prompt, "canary-user", "canary-session", "canary-wrong-key"):
        assert not any(secret.encode() in data for data in written)
        assert secret not in metrics
        assert secret not in "".join(
            r.getMessage() for r in caplog.records if r.name.startswith("fairlead")
        )
