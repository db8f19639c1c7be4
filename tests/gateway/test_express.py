"""The short way of a plain request, and every way off it into an exchange."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httpx
import msgspec
import pytest
from gateway_rig import (
    CHAT,
    KEY,
    KEYS,
    USAGE,
    A,
    B,
    Behaviour,
    Control,
    Engine,
    Rig,
    answers,
    chunk,
    completion,
    error_of,
    hangs,
    head,
    refuses_midway,
    reset,
    route,
    snapshot,
    until,
)

from fairlead.domain.quota import Quota
from fairlead.domain.release import Prompt
from fairlead.gateway.records.tallies import Tallies
from fairlead.gateway.requests.express import Express
from fairlead.gateway.requests.usage import UNKNOWN
from fairlead.wire.snapshot import Limits, Pin

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]
PATH = "/v1/chat/completions"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Express]:
    """Every request that takes the short way."""
    made: list[Express] = []
    start = Express.start

    def noted(self: Express) -> None:
        made.append(self)
        start(self)

    monkeypatch.setattr(Express, "start", noted)
    return made


async def warm(client: httpx.AsyncClient) -> None:
    """A connection to the replica on which an answer's head is known."""
    answer = await client.post(PATH, json=CHAT)
    assert answer.status_code == 200


async def test_the_second_plain_request_takes_the_short_way_and_nothing_is_missing(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    served = await engine()
    rig = await serve(snapshot(route(A, served)))
    async with rig.client() as client:
        await warm(client)
        assert not begun
        answer = await client.post(PATH, json=CHAT)
    assert len(begun) == 1
    assert answer.json()["usage"] == USAGE
    assert answer.headers["x-fairlead-release"] == A
    first, second = rig.requests()
    assert answer.headers["x-request-id"] == second.id
    varying = {"id", "started_at", "ttft_ms", "duration_ms"}
    for name in set(first.__struct_fields__) - varying:
        assert getattr(first, name) == getattr(second, name), name
    assert 0 < second.duration_ms == second.ttft_ms
    assert second.started_at > first.started_at
    assert served.asked[0].headers.keys() == served.asked[1].headers.keys()
    assert rig.worker is not None
    plant = rig.worker.plant
    assert plant.metrics.requests.get(("bank", A[7:19], "200")) == 2
    assert plant.recorder.open_count == 0
    assert rig.worker.loaded is not None
    assert [r.in_flight for r in rig.worker.loaded.pool("bank", A)] == [0]


@pytest.mark.parametrize("is_known", [False, True], ids=["whole way", "short way"])
@pytest.mark.parametrize(
    ("behave", "status", "error", "attempts"),
    [
        (refuses_midway, 502, "upstream_error", 2),
        (hangs, 504, "timeout", 1),
        (answers(status=503), 502, "upstream_error", 2),
        (answers(status=500), 502, "upstream_error", 1),
        (answers(status=400, body=b'{"error":{"message":"no"}}'), 400, "upstream_rejected", 1),
    ],
    ids=["cut", "hangs", "503", "500", "400"],
)
async def test_what_goes_wrong_goes_as_it_always_does(
    serve: Serve,
    engine: StartEngine,
    begun: list[Express],
    is_known: bool,
    behave: Behaviour,
    status: int,
    error: str,
    attempts: int,
) -> None:
    served = await engine()
    limits = Limits(request_timeout_s=1.0, queue_timeout_s=0.9, attempts=2)
    rig = await serve(snapshot(route(A, served), limits=limits))
    async with rig.client() as client:
        if is_known:
            await warm(client)
        served.behave = behave
        answer = await client.post(PATH, json=CHAT)
    assert len(begun) == is_known
    assert answer.status_code == status
    record = rig.requests()[-1]
    assert (record.status, record.error, record.attempts) == (status, error, attempts)
    assert (record.id, record.release) == (answer.headers["x-request-id"], A)
    assert rig.worker is not None
    assert rig.worker.plant.recorder.open_count == 0


async def test_a_replica_that_dies_on_the_short_way_is_replaced_by_another(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    one, two = await engine(), await engine()
    rig = await serve(snapshot(route(A, one, two)))
    async with rig.client() as client:
        for _ in range(4):
            await warm(client)
        begun.clear()
        one.behave = two.behave = dies_once = _dies_once()
        answers_ = [await client.post(PATH, json=CHAT) for _ in range(3)]
    assert dies_once.died  # type: ignore[attr-defined]
    assert [a.status_code for a in answers_] == [200] * 3
    assert begun
    assert max(r.attempts for r in rig.requests()) == 2


def _dies_once() -> Behaviour:
    async def behave(asked: object, writer: asyncio.StreamWriter) -> None:
        if not behave.died:  # type: ignore[attr-defined]
            behave.died = True  # type: ignore[attr-defined]
            writer.write(head(200, content_length=5000) + b"{")
            await writer.drain()
            await asyncio.sleep(0.01)
            reset(writer)
            return
        body = completion("hi")
        writer.write(head(200, content_length=len(body)) + body)
        await writer.drain()

    behave.died = False  # type: ignore[attr-defined]
    return behave


async def test_an_answer_in_parts_or_in_chunks_is_passed_on_whole(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    served = await engine()
    rig = await serve(snapshot(route(A, served)))
    body = completion("in parts " * 40)

    async def in_parts(asked: object, writer: asyncio.StreamWriter) -> None:
        data = head(200, content_length=len(body)) + body
        for part in (data[:20], data[20:300], data[300:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)

    async def in_chunks(asked: object, writer: asyncio.StreamWriter) -> None:
        chunks = chunk(body[:50]) + chunk(body[50:]) + chunk(b"")
        writer.write(head(200, transfer_encoding="chunked") + chunks)
        await writer.drain()

    async with rig.client() as client:
        await warm(client)
        for behave in (in_parts, in_chunks):
            served.behave = behave
            answer = await client.post(PATH, json=CHAT)
            assert answer.content == body
    assert len(begun) == 2
    assert [r.prompt_tokens for r in rig.requests()] == [7, 7, 7]


async def test_a_client_that_leaves_stops_the_generation_and_is_recorded_so(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    served = await engine()
    rig = await serve(snapshot(route(A, served)))
    async with rig.client() as client:
        await warm(client)
        served.behave = hangs
        with pytest.raises(httpx.ReadTimeout):
            await client.post(PATH, json=CHAT, timeout=0.2)
    await until(lambda: served.hung_up == 1)
    await until(lambda: len(rig.requests()) == 2)
    assert len(begun) == 1
    left = rig.requests()[-1]
    assert (left.status, left.error, left.attempts) == (499, "client_closed", 1)


async def test_a_worker_that_ends_answers_what_is_on_the_short_way(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    served = await engine()
    rig = await serve(snapshot(route(A, served)))
    async with rig.client() as client:
        await warm(client)
        served.behave = hangs
        asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(begun) == 1 and len(served.asked) == 2)
        await rig.stop()
        assert error_of(await asking)[0] == 503
    assert rig.requests()[-1].status == 503


@pytest.mark.parametrize("where", ["start", "end", "after"])
async def test_a_defect_on_the_short_way_ends_that_request_and_no_other(
    serve: Serve,
    engine: StartEngine,
    begun: list[Express],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    served = await engine()
    rig = await serve(snapshot(route(A, served)))
    assert rig.worker is not None
    assert rig.worker.loaded is not None

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with rig.client() as client:
        await warm(client)
        with monkeypatch.context() as patch:
            if where == "start":
                (replica,) = rig.worker.loaded.pool("bank", A)
                patch.setattr(replica, "beginnings", {})
            elif where == "end":
                patch.setattr("fairlead.gateway.requests.express.usage_of_answer", broken)
            else:
                patch.setattr(rig.worker.plant.metrics, "tallies", Tallies(cast(Any, None)))
            if where == "after":  # No record can be made, and nothing more be said.
                with pytest.raises(httpx.HTTPError):
                    await client.post(PATH, json=CHAT)
            else:
                answer = await client.post(PATH, json=CHAT)
                assert error_of(answer) == (500, "internal_error")
        assert len(begun) == 1
        await warm(client)
    assert rig.worker.plant.recorder.open_count == 0
    assert rig.worker.loaded is not None
    assert [r.in_flight for r in rig.worker.loaded.pool("bank", A)] == [0]


async def test_the_short_way_is_charged_and_tells_what_is_left(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    served = await engine()
    limited = msgspec.structs.replace(
        KEYS[0], quota=Quota(requests_per_minute=1000, tokens_per_minute=100_000)
    )
    rig = await serve(msgspec.structs.replace(snapshot(route(A, served)), keys=(limited,)))
    async with rig.client() as client:
        await warm(client)
        answer = await client.post(PATH, json=CHAT)
        assert len(begun) == 1
        assert answer.headers["x-ratelimit-limit-requests"] == "1000"
        assert answer.headers["x-ratelimit-remaining-requests"] == "998"
        # Two requests of 10 tokens each, settled: nothing of the reservation is kept.
        assert answer.headers["x-ratelimit-remaining-tokens"] == "99980"


@pytest.mark.parametrize("hedge_after_ms", [5_000.0, None])
async def test_streams_other_apis_and_hedged_requests_take_the_whole_way(
    serve: Serve, engine: StartEngine, begun: list[Express], hedge_after_ms: float | None
) -> None:
    served = await engine()
    limits = Limits(hedge_after_ms=hedge_after_ms)
    rig = await serve(snapshot(route(A, served), limits=limits))
    async with rig.client() as client:
        await warm(client)
        if hedge_after_ms is None:
            await client.post(PATH, json={**CHAT, "stream": True})
            await client.post("/v1/responses", json={"model": "bank", "input": "x"})
        else:
            await client.post("/v1/embeddings", json={"model": "bank", "input": "x"})
    assert not begun


async def test_a_full_replica_is_waited_for_and_nobody_is_overtaken(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    served = await engine()
    rig = await serve(snapshot(route(A, served, slots=1)))
    may_answer = asyncio.Event()
    async with rig.client() as client:
        await warm(client)
        served.behave = answers(after=may_answer)
        asking = [asyncio.ensure_future(client.post(PATH, json=CHAT)) for _ in range(3)]
        await until(lambda: rig.worker.plant.recorder.open_count == 3)  # type: ignore[union-attr]
        assert len(begun) == 1
        assert len(served.asked) == 2
        may_answer.set()
        assert [(await a).status_code for a in asking] == [200] * 3


async def test_the_canary_has_its_share_on_the_short_way(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    one, two = await engine(), await engine()
    rig = await serve(snapshot(route(A, one), route(B, two), share=0.5))
    async with rig.client() as client:
        for user in range(60):
            await client.post(PATH, json={**CHAT, "user": f"u{user}"})
        by_user = [await client.post(PATH, json={**CHAT, "user": f"u{n}"}) for n in range(60)]
    assert len(begun) > 100
    seen = {a.headers["x-fairlead-release"] for a in by_user}
    assert seen == {A, B}
    records = rig.requests()
    assert {(r.rho, r.rollout, r.phase) for r in records} == {(0.5, "ro-1", 2)}
    # The same user has the same release on either way.
    assert [r.arm for r in records[:60]] == [r.arm for r in records[60:]]


async def test_a_request_that_began_under_an_older_snapshot_is_sent_under_the_present_one(
    serve: Serve, engine: StartEngine, control: Control
) -> None:
    """Releases that differ by their prompt alone share replicas: nothing else tells them apart."""
    served = await engine()
    old, new = (
        route(digest, served, prompt=Prompt(system=f"prompt {digest[7]}")) for digest in (A, B)
    )
    rig = await serve(snapshot(old))
    async with rig.client() as client:
        await warm(client)
        body = json.dumps(CHAT).encode()
        began = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n" % (KEY.encode(), len(body))
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(began + body[:5])
        await until(lambda: rig.worker is not None and rig.worker.held_body_bytes == 5)
        control.publish(snapshot(new, version=2))
        await until(lambda: rig.worker.loaded.snapshot.version == 2)  # type: ignore[union-attr]
        writer.write(body[5:])
        assert b"x-fairlead-release: " + B.encode() in await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert b"prompt b" in served.asked[-1].body
    assert rig.requests()[-1].release == B


async def test_pinned_testers_keep_their_arm_and_are_counted_by_no_judge(
    serve: Serve, engine: StartEngine
) -> None:
    one, two = await engine(), await engine()
    newest = snapshot(route(A, one), route(B, two), share=0.2)
    pins = (Pin("canary", sessions=("test-",)), Pin("champion", sessions=("calm-",)))
    bank = msgspec.structs.replace(newest.services["bank"], pins=pins)
    rig = await serve(msgspec.structs.replace(newest, services={"bank": bank}))
    async with rig.client() as client:
        for turn in range(12):
            for session in (f"test-{turn % 4}", f"calm-{turn % 4}"):
                await client.post(PATH, json=CHAT, headers={"x-session-id": session})
    assert {(r.arm, r.rho) for r in rig.requests()} == {("canary", 1.0), ("champion", 0.0)}
    assert [r.arm for r in rig.requests()] == ["canary", "champion"] * 12


async def test_an_answer_without_usage_is_recorded_as_unknown(
    serve: Serve, engine: StartEngine, begun: list[Express]
) -> None:
    served = await engine()
    served.behave = answers(body=b'{"choices":[]}')
    rig = await serve(snapshot(route(A, served)))
    async with rig.client() as client:
        await warm(client)
        await client.post(PATH, json=CHAT)
    assert len(begun) == 1
    assert rig.requests()[-1].prompt_tokens == UNKNOWN.prompt_tokens
