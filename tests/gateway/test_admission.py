"""The split, the queue, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from gateway_rig import (
    CHAT,
    A,
    Asked,
    B,
    Control,
    Engine,
    Rig,
    answers,
    completion,
    error_of,
    head,
    route,
    snapshot,
    until,
)

from fairlead.gateway.waiting.admission import Admission
from fairlead.wire.snapshot import Limits, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"


def waiting_in(rig: Rig) -> int:
    """Requests that wait for a replica."""
    assert rig.worker is not None
    return rig.worker.plant.queue.depth("bank")


async def test_a_session_stays_on_its_arm_and_the_split_is_near_the_share(
    engine: StartEngine, serve: Serve
) -> None:
    one, two = await engine(answers("A")), await engine(answers("B"))
    rig = await serve(snapshot(route(A, one, slots=64), route(B, two, slots=64), share=0.3))
    seen: dict[str, set[str]] = {}
    async with rig.client() as client:

        async def ask(session: str) -> None:
            answer = await client.post(PATH, json=CHAT, headers={"x-session-id": session})
            seen.setdefault(session, set()).add(answer.headers["x-fairlead-release"])

        for _ in range(2):
            for start in range(0, 120, 40):
                await asyncio.gather(*(ask(f"s{n}") for n in range(start, start + 40)))
    assert all(len(releases) == 1 for releases in seen.values())
    canary = sum(releases == {B} for releases in seen.values())
    assert 16 <= canary <= 56  # 120 * 0.3 = 36, sd 5: four of them on each side
    by_unit: dict[str, set[str]] = {}
    for record in rig.requests():
        by_unit.setdefault(record.unit, set()).add(record.arm)
        assert record.rho == 0.3
        assert (record.arm == "canary") == (record.release == B)
    assert len(by_unit) == 120
    assert all(len(arms) == 1 for arms in by_unit.values())


async def test_stickiness_is_by_session_then_user_then_key(
    engine: StartEngine, serve: Serve
) -> None:
    rig = await serve(snapshot(route(A, await engine())))
    async with rig.client() as client, rig.client("fl-test-key-two") as other:
        for who, user, session in (
            (client, "u1", "s1"),
            (client, "u2", "s1"),
            (client, "u1", None),
            (client, "u1", None),
            (client, "s1", None),
            (client, None, None),
            (client, None, None),
            (other, None, None),
            (other, "u1", None),
        ):
            body = CHAT if user is None else {**CHAT, "user": user}
            headers = {} if session is None else {"x-session-id": session}
            await who.post(PATH, json=body, headers=headers)
    s1, s1_again, u1, u1_again, user_s1, k1, k1_again, k2, k2_u1 = (r.unit for r in rig.requests())
    assert s1 == s1_again
    assert u1 == u1_again
    assert k1 == k1_again
    assert len({s1, u1, user_s1, k1, k2, k2_u1}) == 6


async def test_the_least_loaded_replica_gets_the_request(engine: StartEngine, serve: Serve) -> None:
    goes_on = asyncio.Event()
    slow, fast = await engine(answers(after=goes_on)), await engine(answers())
    rig = await serve(snapshot(route(A, slow, fast, slots=8)))
    async with rig.client() as client:
        while not slow.asked:
            asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
            await until(lambda: bool(slow.asked) or asking.done())  # noqa: B023 - used at once
        for _ in range(5):
            await client.post(PATH, json=CHAT)
        assert len(slow.asked) == 1
        goes_on.set()
        await asking


async def test_never_more_than_its_slots_on_a_replica_and_the_rest_waits_its_turn(
    engine: StartEngine, serve: Serve
) -> None:
    now = most = 0

    async def counts(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        body = completion("x")
        writer.write(head(200, content_length=len(body)) + body)

    rig = await serve(snapshot(route(A, await engine(counts), slots=3)))
    async with rig.client() as client:
        got = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(30)))
    assert {a.status_code for a in got} == {200}
    assert most == 3


async def test_a_full_queue_answers_429_and_a_long_wait_503_both_with_retry_after(
    engine: StartEngine, serve: Serve
) -> None:
    goes_on = asyncio.Event()
    one = await engine(answers(after=goes_on))
    limits = Limits(queue=1, queue_timeout_s=1.0)
    rig = await serve(snapshot(route(A, one, slots=1), limits=limits))
    async with rig.client() as client:
        served = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(one.asked) == 1)
        waits = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: waiting_in(rig) == 1)
        full = await client.post(PATH, json=CHAT)
        late = await waits
        goes_on.set()
        assert (await served).status_code == 200
    assert error_of(full) == (429, "queue_full")
    assert error_of(late) == (503, "queue_timeout")
    assert full.headers["retry-after"] == late.headers["retry-after"] == "1"
    by_status = {r.status: r for r in rig.requests()}
    assert by_status.keys() == {200, 429, 503}
    assert (by_status[429].release, by_status[429].attempts) == ("", 0)


async def test_a_busy_canary_does_not_hold_up_the_champion(
    engine: StartEngine, serve: Serve
) -> None:
    """While the canary holds its first request, all of the champion's are answered."""
    goes_on = asyncio.Event()
    goes_on.set()
    one, two = await engine(answers("A")), await engine(answers("B", after=goes_on))
    rig = await serve(snapshot(route(A, one, slots=1), route(B, two, slots=1), share=0.5))
    async with rig.client() as client:

        async def ask(number: int) -> str:
            answer = await client.post(PATH, json=CHAT, headers={"x-session-id": f"{number}"})
            return str(answer.headers["x-fairlead-release"])

        arms = [await ask(n) for n in range(14)]
        assert min(arms.count(A), arms.count(B)) > 2
        goes_on.clear()
        asking = [asyncio.ensure_future(ask(n)) for n in range(14)]
        of = {arm: [a for a, its in zip(asking, arms, strict=True) if its == arm] for arm in (A, B)}
        await asyncio.wait_for(asyncio.gather(*of[A]), 10)
        assert not any(a.done() for a in of[B])
        goes_on.set()
        assert await asyncio.gather(*asking) == arms


async def test_a_client_that_leaves_the_queue_frees_its_place(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(answers(delay=0.4))
    rig = await serve(snapshot(route(A, one, slots=1), limits=Limits(queue=1)))
    async with rig.client() as client:
        served = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(one.asked) == 1)
        leaves = asyncio.ensure_future(client.post(PATH, json=CHAT))
        assert rig.worker is not None
        queue = rig.worker.plant.queue
        assert isinstance(queue, Admission)
        await until(lambda: queue.depth("bank") == 1)
        leaves.cancel()
        await until(lambda: queue.depth("bank") == 0)
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        await served
    assert sorted(r.status for r in rig.requests()) == [200, 200, 499]


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", "Token fl-test-key-one", "Bearer " + "x" * 5000],
    ids=["none", "no key", "wrong", "wrong scheme", "long"],
)
async def test_without_a_valid_key_there_is_one_kind_of_401(
    engine: StartEngine, serve: Serve, authorization: str
) -> None:
    one = await engine()
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        for path in (PATH, "/v1/models", "/v1/feedback", "/v1/nonsense"):
            answer = await client.request(
                "GET" if path.endswith("models") else "POST",
                path,
                json=None if path.endswith("models") else CHAT,
                headers={"authorization": authorization},
            )
            assert error_of(answer) == (401, "invalid_api_key")
            assert answer.headers["x-request-id"]
    assert not one.asked
    assert not rig.requests()


async def test_bad_requests_are_told_what_is_wrong_and_nothing_is_recorded(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine()
    rig = await serve(snapshot(route(A, one), limits=Limits(body_bytes_max=2000)))
    deep = b'{"model":"bank","x":' + b"[" * 65 + b"]" * 65 + b"}"
    async with rig.client() as client:
        for content, expected in (
            (b"{", (400, "invalid_body")),
            (b"[]", (400, "invalid_body")),
            (b'{"messages":[]}', (400, "invalid_body")),
            (b'{"model":3}', (400, "invalid_body")),
            (b'{"model":"bank","stream":"yes"}', (400, "invalid_body")),
            (b'{"model":"bank","x":NaN}', (400, "invalid_body")),
            (b'{"model":"nobody"}', (404, "model_not_found")),
            (deep, (400, "json_too_deep")),
            (b'{"model":"bank","x":' + b"[" * 900, (400, "invalid_body")),
            (b'{"model":"bank","x":"' + b"x" * 2000 + b'"}', (413, "body_too_large")),
        ):
            answer = await client.post(PATH, content=content)
            assert error_of(answer) == expected, content[:40]
        assert error_of(await client.get(PATH)) == (405, "method_not_allowed")
        assert error_of(await client.get("/v1/nothing")) == (404, "not_found")
        assert error_of(await client.get("/")) == (404, "not_found")
    assert not one.asked
    assert not rig.requests()


async def test_a_service_without_a_champion_is_503(serve: Serve) -> None:
    rig = await serve(snapshot(None))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
        listed = (await client.get("/v1/models")).json()
    assert error_of(answer) == (503, "no_release")
    assert [m["id"] for m in listed["data"]] == ["bank"]


async def test_before_the_first_snapshot_everything_waits_for_it(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    rig = await serve(None)
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
        assert error_of(answer) == (503, "no_snapshot")
        assert answer.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 503
        control.publish(snapshot(route(A, await engine())))
        await until(lambda: rig.worker is not None and rig.worker.loaded is not None)
        assert (await client.get("/healthz")).json() == {"status": "ok", "snapshot": 1}
        assert (await client.post(PATH, json=CHAT)).status_code == 200
