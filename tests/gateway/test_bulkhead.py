"""What breaks on one request ends that request, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from gateway_rig import (
    CHAT,
    A,
    Engine,
    Rig,
    answers,
    chunk,
    completion,
    error_of,
    head,
    route,
    snapshot,
    until,
)

from fairlead.domain.release import Prompt
from fairlead.gateway.bulkhead import Bulkhead
from fairlead.gateway.requests import request_body
from fairlead.gateway.requests.exchange import Exchange
from fairlead.gateway.waiting.admission import Admission
from fairlead.wire.record import FeedbackRecord
from fairlead.wire.snapshot import Limits, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
LIMITS = Limits(queue_timeout_s=30.0, request_timeout_s=60.0)
PROMPT = Prompt("Be kind.", "Q: {input}")

INVALID = [
    b'{"model":"bank","stream":true,"\xff":1,"messages":[]}',
    b'{"model":"bank","messages":[{"role":"user","content":"caf\xe9"}]}',
    b'{"model":"bank","prompt":"caf\xe9"}',
    b'{"model":"bank","stream":true,"stream_options":{"\xff":1},"messages":[]}',
]
# Valid to who only skips it: found out when the body is put together for a replica.
FOUND_LATE = [
    b'{"model":"bank","stream":true,"\\ud800":1,"messages":[]}',
    b'{"model":"bank","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"bank","prompt":"\\ud800"}',
    b'{"model":"bank","stream":true,"stream_options":{"\\ud800":1},"messages":[]}',
]


async def is_well(rig: Rig, client: httpx.AsyncClient, slots: int) -> None:
    """All slots are free and used, nothing is held open, and the spool is complete up to now."""
    got = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(2 * slots + 1)))
    assert {a.status_code for a in got} == {200}
    assert rig.worker is not None
    plant = rig.worker.plant
    assert plant.fleet.open_replicas == ()
    assert plant.recorder.open_count == 0
    since = plant.clock.wall()
    await until(lambda: bool(rig.progress()) and rig.progress()[-1].complete_until > since)


@pytest.mark.parametrize("body", INVALID + FOUND_LATE)
async def test_text_that_is_none_is_a_400_on_a_new_connection_an_idle_one_and_while_queued(
    engine: StartEngine, serve: Serve, body: bytes
) -> None:
    one = await engine(answers(delay=0.05))
    rig = await serve(snapshot(route(A, one, slots=1, prompt=PROMPT), limits=LIMITS))
    async with rig.client() as client:
        assert error_of(await client.post(PATH, content=body)) == (400, "invalid_body")
        assert (await client.post(PATH, json=CHAT)).status_code == 200  # leaves an idle connection
        assert error_of(await client.post(PATH, content=body)) == (400, "invalid_body")
        busy = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(one.asked) == 2)
        queued = [asyncio.ensure_future(client.post(PATH, content=body)) for _ in range(3)]
        behind = asyncio.ensure_future(client.post(PATH, json=CHAT))
        assert [error_of(await q) for q in queued] == [(400, "invalid_body")] * 3
        assert (await busy).status_code == (await behind).status_code == 200
        await is_well(rig, client, 1)


async def test_a_defect_while_an_attempt_begins_is_a_500_and_the_others_go_on(
    engine: StartEngine,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = asyncio.Event()
    one = await engine(answers(after=release))
    shaped = route(A, one, slots=1, sampling={"seed": 1})
    rig = await serve(snapshot(shaped, limits=LIMITS))
    sound = request_body.apply_release

    def broken(parts: dict[str, Any], **how: Any) -> dict[str, Any]:
        if bytes(parts.get("user", b"")) == b'"broken"':
            raise AssertionError("a defect of ours")
        return sound(parts, **how)

    monkeypatch.setattr(request_body, "apply_release", broken)
    bad = {**CHAT, "user": "broken"}
    async with rig.client() as client:
        assert error_of(await client.post(PATH, json=bad)) == (500, "internal_error")
        busy = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(one.asked) == 1)
        queued = asyncio.ensure_future(client.post(PATH, json=bad))
        behind = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: rig.waiting("bank") == 2)
        release.set()
        assert error_of(await queued) == (500, "internal_error")
        assert (await busy).status_code == (await behind).status_code == 200
        await is_well(rig, client, 1)
    assert caplog.text.count("ended by a defect") == 2
    assert "ended by a defect: AssertionError < " in caplog.text
    assert "a defect of ours" not in caplog.text, "it may repeat what was asked"
    assert [r.error for r in rig.requests()].count("internal_error") == 2


@pytest.mark.interpreted
async def test_a_request_whose_record_cannot_be_made_is_cut_and_holds_up_nothing(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = await serve(snapshot(route(A, await engine(), slots=1), limits=LIMITS))

    def broken(*_: object) -> None:
        raise OverflowError("it does not fit")

    async with rig.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(Exchange, "_record", broken)
            with pytest.raises(httpx.TransportError):
                await client.post(PATH, json=CHAT)
        await is_well(rig, client, 1)


@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens":1%b,"completion_tokens":3}' % (b"0" * 30),
        b'{"prompt_tokens":-5,"completion_tokens":3}',
        b'{"prompt_tokens":"\xff"}',
        b'{"\xff":1}',
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_usage_that_cannot_be_recorded_is_passed_on_and_taken_for_unknown(
    engine: StartEngine, serve: Serve, usage: bytes, streams: bool
) -> None:
    body = b'{"choices":[],"usage":%b}' % usage

    async def odd(asked: object, writer: asyncio.StreamWriter) -> None:
        if streams:
            writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
            writer.write(chunk(b"data: " + body + b"\n\n") + chunk(b"data: [DONE]\n\n"))
            writer.write(chunk(b""))
        else:
            writer.write(head(200, content_length=len(body)) + body)
        await writer.drain()

    one = await engine(odd)
    rig = await serve(snapshot(route(A, one, slots=1), limits=LIMITS))
    async with rig.client() as client:
        asked = {**CHAT, "stream": streams, "stream_options": {"include_usage": True}}
        answer = await client.post(PATH, json=asked)
        assert answer.status_code == 200
        assert body in answer.content
        one.behave = answers("well")
        assert (await client.post(PATH, json=CHAT)).content == completion("well")
        await is_well(rig, client, 1)
    assert rig.requests()[0].prompt_tokens == -1


async def test_a_delivery_that_breaks_does_not_keep_the_others_of_its_turn_back(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await serve(snapshot(None))
    assert rig.worker is not None
    recorder = rig.worker.plant.recorder
    delivered: list[int] = []

    def deliver(number: int) -> None:
        if number == 1:
            raise RuntimeError("the second one breaks")
        delivered.append(number)

    for number in range(4):
        token = object()
        at = recorder.opened(token)
        record = FeedbackRecord(id=f"f{number}", request="r", key="k", name="n", value=1.0, at=at)
        recorder.finish(token, record, lambda n=number: deliver(n))  # type: ignore[misc]
    await until(lambda: len(delivered) == 3)
    assert delivered == [0, 2, 3]
    assert [f.id for f in rig.feedback()] == ["f0", "f1", "f2", "f3"]
    assert "the second one breaks" in caplog.text


@pytest.mark.interpreted
def test_a_bulkhead_lets_cancellation_through_and_keeps_what_is_unexpected() -> None:
    caught: list[Exception] = []

    class Keeper(Bulkhead):
        def on_defect(self, error: Exception) -> None:
            caught.append(error)

    bulkhead = Keeper()
    with bulkhead:
        raise ValueError
    with pytest.raises(asyncio.CancelledError), bulkhead:
        raise asyncio.CancelledError
    assert [type(e) for e in caught] == [ValueError]


@pytest.mark.interpreted
async def test_a_queue_that_broke_once_goes_on_letting_requests_in(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    one = await engine(answers(after=release))
    rig = await serve(snapshot(route(A, one, slots=1), limits=LIMITS))
    assert rig.worker is not None
    queue = rig.worker.plant.queue
    assert isinstance(queue, Admission)

    def broken(*_: object) -> None:
        raise RuntimeError("a defect of ours")

    async with rig.client() as client:
        busy = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(one.asked) == 1)
        behind = [asyncio.ensure_future(client.post(PATH, json=CHAT)) for _ in range(2)]
        await until(lambda: queue.depth("bank") == 2)
        with monkeypatch.context() as patch:
            patch.setattr(Admission, "_pump_lane", broken)
            with pytest.raises(RuntimeError):
                queue.pump()
        release.set()
        assert [(await a).status_code for a in (busy, *behind)] == [200] * 3
        await is_well(rig, client, 1)
