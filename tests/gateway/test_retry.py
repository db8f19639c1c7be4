"""Replicas fail; clients should not notice as long as anything can be done about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import httpx
import pytest
from gateway_rig import (
    CHAT,
    A,
    Asked,
    B,
    Engine,
    Rig,
    answers,
    chunk,
    completion,
    error_of,
    event,
    hangs,
    head,
    refuses_midway,
    reset,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.wire.snapshot import Limits, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]

STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"


async def resets(asked: Asked, writer: asyncio.StreamWriter) -> None:
    reset(writer)


@pytest.mark.parametrize(
    "failure",
    [resets, refuses_midway, answers(status=503), answers(status=502), answers(status=504)],
    ids=["reset", "half an answer", "503", "502", "504"],
)
async def test_a_replica_that_fails_before_the_answer_is_replaced_invisibly(
    engine: StartEngine, serve: Serve, failure: object
) -> None:
    bad, good = await engine(failure), await engine(answers("good"))
    rig = await serve(snapshot(route(A, bad, good)))
    async with rig.client() as client:
        for _ in range(8):
            answer = await client.post(PATH, json=CHAT)
            assert answer.content == completion("good")
    assert bad.asked
    assert {r.status for r in rig.requests()} == {200}
    assert max(r.attempts for r in rig.requests()) == 2


async def test_a_refused_connection_is_replaced_invisibly_and_the_replica_passed_over(
    engine: StartEngine, serve: Serve
) -> None:
    gone, good = await engine(), await engine(answers("good"))
    await gone.kill()
    rig = await serve(snapshot(route(A, gone, good)))
    async with rig.client() as client:
        answers_ = [await client.post(PATH, json=CHAT) for _ in range(30)]
    assert {a.content for a in answers_} == {completion("good")}
    assert sum(r.attempts for r in rig.requests()) < 36


async def test_a_stream_cut_before_its_first_event_is_retried(
    engine: StartEngine, serve: Serve
) -> None:
    bad, good = await engine(streams("x", cut_after=0)), await engine(streams("y"))
    rig = await serve(snapshot(route(A, bad, good)))
    async with rig.client() as client:
        for _ in range(4):
            answer = await client.post(PATH, json=STREAM)
            assert b'"y"' in answer.content
    assert bad.asked
    assert {r.error for r in rig.requests()} == {""}


async def test_a_stream_cut_later_ends_with_an_error_event_never_silently(
    engine: StartEngine, serve: Serve
) -> None:
    bad = await engine(streams("a", "b", "c", cut_after=2))
    rig = await serve(snapshot(route(A, bad)))
    async with rig.client() as client:
        answer = await client.post(PATH, json=STREAM)
    events = [e for e in answer.text.split("\n\n") if e]
    assert len(events) == 3
    assert json.loads(events[-1][6:])["error"]["code"] == "upstream_cut"
    (record,) = rig.requests()
    assert (record.status, record.error) == (200, "upstream_cut")


async def test_an_event_without_end_is_given_up(engine: StartEngine, serve: Serve) -> None:
    async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        writer.write(chunk(event("a")))
        while True:
            writer.write(chunk(b"x" * 65536))
            await writer.drain()

    rig = await serve(snapshot(route(A, await engine(endless))))
    async with rig.client() as client:
        answer = await client.post(PATH, json=STREAM)
    assert b"upstream_cut" in answer.content
    assert len(answer.content) < 2000


async def test_attempts_are_bounded_and_the_last_failure_is_a_502(
    engine: StartEngine, serve: Serve
) -> None:
    one, two = await engine(resets), await engine(answers(status=503))
    limits = Limits(attempts=3, queue_timeout_s=5)
    rig = await serve(snapshot(route(A, one, two), limits=limits))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
    assert error_of(answer) == (502, "upstream_error")
    assert len(one.asked) + len(two.asked) == 3
    assert rig.requests()[0].attempts == 3


async def test_with_no_replica_left_a_request_waits_for_a_replacement(
    engine: StartEngine, serve: Serve, control: object
) -> None:
    old = await engine()
    await old.kill()
    rig = await serve(snapshot(route(A, old)))
    async with rig.client() as client:
        asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: rig.waiting("bank") == 1)
        new = await engine(answers("new"))
        control.publish(snapshot(route(A, new), version=2))  # type: ignore[attr-defined]
        answer = await asking
    assert answer.content == completion("new")


async def test_a_replica_that_comes_back_at_its_address_is_used_again(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine()
    await one.kill()
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        asking = [asyncio.ensure_future(client.post(PATH, json=CHAT)) for _ in range(3)]
        await until(lambda: rig.waiting("bank") == 3)
        await one.start()
        assert {(await a).status_code for a in asking} == {200}


async def test_while_the_canary_has_no_replica_nobody_is_assigned_to_it(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(answers("champion"))
    rig = await serve(snapshot(route(A, one), route(B), share=1.0))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
    assert answer.content == completion("champion")
    assert answer.headers["x-fairlead-release"] == A
    (record,) = rig.requests()
    assert (record.arm, record.release, record.rho) == ("champion", A, 0.0)
    assert (record.status, record.error) == (200, "")
    assert (record.rollout, record.phase) == ("ro-1", 2)


async def test_a_canary_whose_replicas_all_fail_hurts_no_client(
    engine: StartEngine, serve: Serve
) -> None:
    one, bad = await engine(answers("champion")), await engine(resets)
    rig = await serve(snapshot(route(A, one), route(B, bad), share=1.0))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
        again = await client.post(PATH, json=CHAT)
    assert answer.content == again.content == completion("champion")
    failed, after = rig.requests()
    assert (failed.arm, failed.rho, failed.error) == ("canary", 1.0, "canary_unavailable")
    assert failed.attempts == 2
    assert (after.arm, after.rho, after.error) == ("champion", 0.0, ""), "it is passed over now"


async def test_the_request_timeout_ends_a_hanging_replica_with_504(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(hangs)
    rig = await serve(snapshot(route(A, one), limits=Limits(request_timeout_s=0.2)))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
    assert error_of(answer) == (504, "timeout")
    await until(lambda: one.hung_up == 1)
    assert rig.requests()[0].error == "timeout"


async def test_an_idle_connection_that_the_replica_closed_costs_nothing(
    engine: StartEngine, serve: Serve
) -> None:
    async def closes_after(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = completion("once")
        writer.write(head(200, content_length=len(body)) + body)
        await writer.drain()
        await asyncio.sleep(0.005)
        reset(writer)

    one = await engine(closes_after)
    rig = await serve(snapshot(route(A, one), limits=Limits(attempts=1)))
    async with rig.client() as client:
        for pause in range(12):
            answer = await client.post(PATH, json=CHAT)
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.0015 * pause)
    assert {r.attempts for r in rig.requests()} == {1}


async def test_bytes_after_an_answer_never_become_the_next_one(
    engine: StartEngine, serve: Serve
) -> None:
    async def talks_on(asked: Asked, writer: asyncio.StreamWriter) -> None:
        for text in ("mine", "not yours"):
            body = completion(text)
            writer.write(head(200, content_length=len(body)) + body)
        await writer.drain()

    one = await engine(talks_on)
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        for _ in range(3):
            assert (await client.post(PATH, json=CHAT)).content == completion("mine")
    assert len({id(a.writer) for a in one.asked}) == 3


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    ],
    ids=["endless headers", "100s", "101", "CL and TE", "not HTTP", "bad chunk"],
)
async def test_a_hostile_replica_never_breaks_the_clients_answer(
    engine: StartEngine, serve: Serve, wire: bytes
) -> None:
    async def hostile(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    bad = await engine(hostile)
    rig = await serve(snapshot(route(A, bad), limits=Limits(attempts=1, queue_timeout_s=1)))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
    assert error_of(answer) == (502, "upstream_error")


async def test_a_large_answer_that_is_cut_is_not_ended_as_if_it_were_whole(
    engine: StartEngine, serve: Serve
) -> None:
    async def cuts(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, content_length=3_000_000) + b"x" * 2_000_000)
        await writer.drain()
        await asyncio.sleep(0.05)
        reset(writer)

    rig = await serve(snapshot(route(A, await engine(cuts))))
    async with rig.client() as client:
        with pytest.raises(httpx.TransportError):
            await client.post(PATH, json=CHAT)
    assert rig.requests()[0].error == "upstream_cut"
