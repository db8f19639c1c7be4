"""Requests and answers on their way through, plain and streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from gateway_rig import (
    CHAT,
    USAGE,
    A,
    Asked,
    Engine,
    Rig,
    answers,
    chunk,
    completion,
    error_of,
    event,
    head,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.domain.outcomes import failed_by_server
from fairlead.domain.release import Prompt
from fairlead.wire.snapshot import Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]

STREAM = {**CHAT, "stream": True}


async def test_a_plain_answer_passes_unchanged_with_our_headers_and_one_record(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(answers("hello"))
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    assert answer.content == completion("hello")
    assert answer.headers["x-fairlead-release"] == A
    (record,) = rig.requests()
    assert record.id == answer.headers["x-request-id"]
    assert (record.service, record.release, record.arm) == ("bank", A, "champion")
    assert (record.status, record.error, record.attempts) == (200, "", 1)
    assert (record.prompt_tokens, record.completion_tokens) == (7, 3)
    assert (record.key, record.rho, record.rollout, record.phase) == ("k1", 0.0, "", 0)
    assert record.replica == f"r-{one.port}"
    assert record.endpoint == "chat/completions"
    assert 0 < record.ttft_ms <= record.duration_ms
    assert record.itl_ms == -1
    assert one.asked[0].path == "/v1/chat/completions"
    assert one.asked[0].json == CHAT


async def test_the_clients_headers_and_key_do_not_reach_the_replica(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine()
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=CHAT, headers={"x-secret": "1"})
    assert "authorization" not in one.asked[0].headers
    assert "x-secret" not in one.asked[0].headers
    assert one.asked[0].headers["x-request-id"].startswith("req_")


async def test_connections_are_kept_on_both_sides(engine: StartEngine, serve: Serve) -> None:
    one = await engine()
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        for body in (CHAT, STREAM, CHAT):
            one.behave = streams("a") if body.get("stream") else answers()
            await client.post("/v1/chat/completions", json=body)
    assert len({id(asked.writer) for asked in one.asked}) == 1
    assert rig.worker is not None


@pytest.mark.parametrize("asks_usage", [False, True])
async def test_a_stream_passes_event_by_event_and_usage_only_when_asked(
    engine: StartEngine, serve: Serve, asks_usage: bool
) -> None:
    one = await engine(streams("a", "b", "c", gap=0.02))
    rig = await serve(snapshot(route(A, one)))
    body: dict[str, Any] = dict(STREAM)
    if asks_usage:
        body["stream_options"] = {"include_usage": True}
    events = []
    async with (
        rig.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-fairlead-release"] == A
        async for line in answer.aiter_lines():
            if line:
                events.append(line)
    assert events[-1] == "data: [DONE]"
    texts = [json.loads(e[6:])["choices"] for e in events[:-1]]
    assert [c[0]["delta"]["content"] for c in texts if c] == ["a", "b", "c"]
    assert any('"usage"' in e for e in events) == asks_usage
    assert one.asked[0].json["stream_options"] == {"include_usage": True}
    (record,) = rig.requests()
    assert (record.prompt_tokens, record.completion_tokens) == (7, 3)
    assert record.stream
    assert record.itl_ms > 5
    assert 0 < record.ttft_ms < record.duration_ms


async def test_events_cut_anywhere_by_the_network_arrive_whole(
    engine: StartEngine, serve: Serve
) -> None:
    wire = b"".join(event(t) for t in "abc") + b"data: [DONE]\n\n"

    async def dribbles(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        for start in range(0, len(wire), 7):
            writer.write(chunk(wire[start : start + 7]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(chunk(b""))

    one = await engine(dribbles)
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=STREAM)
    assert answer.content == wire


async def test_a_large_plain_answer_passes_through_without_being_held(
    engine: StartEngine, serve: Serve
) -> None:
    vector = [0.5] * 400_000
    big = json.dumps({"data": [{"embedding": vector}], "usage": USAGE}).encode()
    assert len(big) > 1024 * 1024
    one = await engine(answers(body=big))
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        answer = await client.post("/v1/embeddings", json={"model": "bank", "input": "x"})
    assert answer.content == big
    assert rig.requests()[0].prompt_tokens == 7


async def test_what_a_release_does_not_do_is_the_client_s_error_and_not_tried_again(
    engine: StartEngine, serve: Serve
) -> None:
    """llama.cpp answers 501 to embeddings when it was not started for them."""
    said = b'{"error":{"code":501,"message":"This server does not support embeddings."}}'
    one = await engine(answers(status=501, body=said))
    rig = await serve(snapshot(route(A, one, f"{one.url}/v1")))
    async with rig.client() as client:
        answer = await client.post("/v1/embeddings", json={"model": "bank", "input": "x"})
        assert error_of(answer) == (400, "upstream_rejected")
        assert answer.json()["error"]["message"] == "This release does not serve embeddings."
        assert answer.headers["x-fairlead-release"] == A
    (record,) = rig.requests()
    assert (record.status, record.error, record.attempts) == (400, "upstream_rejected", 1)
    assert not failed_by_server(record.status, record.error)
    assert len(one.asked) == 1


async def test_an_answer_that_ends_with_its_connection_is_accepted_when_it_is_whole(
    engine: StartEngine, serve: Serve
) -> None:
    async def closes(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200) + completion("closed"))
        await writer.drain()
        writer.close()

    one = await engine(closes)
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.content == completion("closed")
    assert rig.requests()[0].status == 200


async def test_a_400_of_the_engine_is_relayed_as_it_is(engine: StartEngine, serve: Serve) -> None:
    body = b'{"error":{"message":"too long","type":"x","param":null,"code":"context"}}'
    one = await engine(answers(status=400, body=body))
    two = await engine()
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.content) == (400, body)
    assert rig.requests()[0].error == "upstream_rejected"
    assert not two.asked


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "upstream_error"), (401, "upstream_credentials"), (302, "upstream_error")],
)
async def test_what_is_not_the_clients_fault_becomes_502(
    engine: StartEngine, serve: Serve, status: int, code: str
) -> None:
    one = await engine(answers(status=status, body=b"secret detail"))
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == code
    assert b"secret" not in answer.content
    assert rig.requests()[0].error == code


async def test_prompt_sampling_and_model_of_the_release_are_applied(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine()
    rig = await serve(
        snapshot(
            route(
                A,
                one,
                prompt=Prompt(system="Be brief.", user="Q: {input}"),
                sampling={"temperature": 0.0, "max_tokens": 5},
                upstream_model="gpt-x",
            )
        )
    )
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 9, "n": [1, {}]})
        await client.post("/v1/completions", json={"model": "bank", "prompt": "p"})
        await client.post("/v1/embeddings", json={"model": "bank", "input": "e"})
    chat, text, embedding = (asked.json for asked in one.asked)
    assert chat["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Q: hello"},
    ]
    assert (chat["temperature"], chat["max_tokens"], chat["model"]) == (0.0, 9, "gpt-x")
    assert chat["n"] == [1, {}]
    assert text["prompt"] == "Q: p"
    assert embedding == {"model": "gpt-x", "input": "e"}


async def test_a_base_url_with_a_path_replaces_v1_and_the_providers_key_is_sent(
    engine: StartEngine, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    one = await engine()
    made = route(A, f"{one.url}/openai/v2")
    endpoint = made.endpoints[0]
    rig.environ["PROVIDER_KEY"] = "sk-provider"
    await rig.start(
        snapshot(
            route(A).__class__(
                digest=A,
                name="a",
                endpoints=(
                    endpoint.__class__(
                        replica="r", base_url=endpoint.base_url, api_key_env="PROVIDER_KEY"
                    ),
                ),
            )
        )
    )
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=CHAT)
    assert one.asked[0].path == "/openai/v2/chat/completions"
    assert one.asked[0].headers["authorization"] == "Bearer sk-provider"
    assert "sk-provider" not in caplog.text


async def test_a_slow_reader_stops_the_replica_instead_of_filling_memory(
    engine: StartEngine, serve: Serve
) -> None:
    sent = 0

    async def floods(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        block = chunk(event("x" * 60_000))
        for _ in range(1000):
            writer.write(block)
            await writer.drain()
            sent += len(block)
        writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))
        await writer.drain()

    one = await engine(floods)
    rig = await serve(snapshot(route(A, one)))
    body = json.dumps(STREAM).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=4096)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer fl-test-key-one"
        b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    await reader.readuntil(b"\r\n\r\n")
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.3)
    assert sent < 30_000_000  # of 60 MB: what the kernel's buffers took
    got = 0
    while data := await reader.read(1 << 20):
        got += len(data)
        if data.endswith(b"0\r\n\r\n"):
            break
    assert got > 1000 * 60_000
    writer.close()
    await until(lambda: len(rig.requests()) == 1)
    assert rig.requests()[0].status == 200


async def test_a_client_that_leaves_stops_the_generation_and_is_recorded_as_499(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(streams(*"abcdefgh" * 100, gap=0.02))
    rig = await serve(snapshot(route(A, one)))
    async with (
        rig.client() as client,
        client.stream("POST", "/v1/chat/completions", json=STREAM) as answer,
    ):
        async for _ in answer.aiter_lines():
            break
    await until(lambda: one.hung_up == 1)
    await until(lambda: len(rig.requests()) == 1)
    assert (rig.requests()[0].status, rig.requests()[0].error) == (499, "client_closed")


async def test_a_client_that_leaves_before_the_answer_stops_the_generation_too(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(answers(delay=30))
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        asking = asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT))
        await until(lambda: len(one.asked) == 1)
        asking.cancel()
        await asyncio.wait({asking})
    await until(lambda: one.hung_up == 1)
    await until(lambda: len(rig.requests()) == 1)
    assert rig.requests()[0].status == 499


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_the_connection(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(streams("a"))
    rig = await serve(snapshot(route(A, one)))
    body = json.dumps(STREAM).encode()
    got = await rig.raw(
        b"POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer fl-test-key-one"
        b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    first, _, rest = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in first
    assert b"connection: close" in first
    assert rest.endswith(b"data: [DONE]\n\n")
