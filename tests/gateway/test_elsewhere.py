"""A replica is alive, but not for this request: no key of the provider, no room, a defect (500).

Another one is asked in its place, then the champion, then another service. Over real sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from gateway_rig import (
    CHAT,
    A,
    Asked,
    B,
    Behaviour,
    Engine,
    Rig,
    answers,
    completion,
    error_of,
    head,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.domain.outcomes import STOOD_IN
from fairlead.gateway.limits import OUTLIER_ATTEMPTS_MIN, RETRIES_QUIET_MIN
from fairlead.wire.snapshot import Limits, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
POISON = {**CHAT, "messages": [{"role": "user", "content": "nobody serves this"}]}
SPARE = "sha256:" + "c" * 64
STATUSES = [401, 402, 403, 407, 429, 500]
TOLD = {429: (429, "slow_down"), 500: (502, "upstream_error")}
"""What a client is told when there is nobody else; else that the credentials were refused."""


def turns_away(status: int) -> Behaviour:
    body = b'{"error":{"message":"no","type":"x","param":null,"code":"slow_down"}}'

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, content_length=len(body), retry_after=7) + body)
        await writer.drain()

    return behave


def told(status: int) -> tuple[int, str]:
    return TOLD.get(status, (502, "upstream_credentials"))


def retries(rig: Rig, reason: str) -> float:
    assert rig.worker is not None
    return rig.worker.plant.metrics.retries.get(("bank", reason))


@pytest.mark.parametrize("status", STATUSES)
async def test_another_replica_answers_and_no_client_hears_of_it(
    engine: StartEngine, serve: Serve, status: int
) -> None:
    bad, good = await engine(turns_away(status)), await engine(answers("good"))
    rig = await serve(snapshot(route(A, bad, good)))
    async with rig.client() as client:
        got = [await client.post(PATH, json=CHAT) for _ in range(2)]
    assert {answer.content for answer in got} == {completion("good")}
    assert bad.asked
    assert len(good.asked) == 2
    assert retries(rig, str(status)) == len(bad.asked)
    assert bad.connections == 1, "its connection is used again"
    assert {(r.status, r.error) for r in rig.requests()} == {(200, "")}
    assert 2 in {r.attempts for r in rig.requests()}


async def test_streams_and_requests_that_come_together_are_served_too(
    engine: StartEngine, serve: Serve
) -> None:
    bad, good = await engine(turns_away(429)), await engine(streams("a", "b"))
    rig = await serve(snapshot(route(A, bad, good, slots=8)))
    async with rig.client() as client:
        got = await asyncio.gather(
            *(client.post(PATH, json={**CHAT, "stream": True}) for _ in range(8))
        )
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in got)
    assert {r.error for r in rig.requests()} == {""}
    assert bad.asked


@pytest.mark.parametrize("status", STATUSES)
async def test_the_only_replica_is_asked_once_and_the_client_told_what_it_said(
    engine: StartEngine, serve: Serve, status: int
) -> None:
    one = await engine(turns_away(status))
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        got = [await client.post(PATH, json=CHAT) for _ in range(3)]
    assert {error_of(answer) for answer in got} == {told(status)}
    assert len(one.asked) == 3, "none was tried twice, and none waited for it"
    assert retries(rig, str(status)) == 0
    if status == 429:
        assert got[0].headers["retry-after"] == "7"


async def test_each_replica_is_asked_once_and_no_more_than_there_are_attempts(
    engine: StartEngine, serve: Serve
) -> None:
    three = [await engine(turns_away(429)) for _ in range(3)]
    rig = await serve(snapshot(route(A, *three), limits=Limits(attempts=2)))
    async with rig.client() as client:
        assert error_of(await client.post(PATH, json=CHAT)) == told(429)
        assert sum(len(one.asked) for one in three) == 2
    assert len(rig.requests()) == 1


async def test_once_far_worse_than_its_peers_it_is_left_alone(
    engine: StartEngine, serve: Serve
) -> None:
    bad, good = await engine(turns_away(429)), await engine(answers("good"))
    rig = await serve(snapshot(route(A, bad, good)))
    assert rig.worker is not None
    (left_alone,) = [e for e in rig.worker.plant.fleet._replicas if e.base_url == bad.url]
    async with rig.client() as client:
        while not rig.worker.plant.fleet._replicas[left_alone].is_ejected:
            assert (await client.post(PATH, json=CHAT)).content == completion("good")
        asked = len(bad.asked)
        assert (await client.post(PATH, json=CHAT)).content == completion("good")
    assert len(bad.asked) == asked == OUTLIER_ATTEMPTS_MIN


async def test_a_prompt_that_nobody_serves_is_held_against_no_replica(
    engine: StartEngine, serve: Serve
) -> None:
    """Else a client could take replicas away from all others."""

    async def but_one(asked: Asked, writer: asyncio.StreamWriter) -> None:
        is_bad = asked.json["messages"] == POISON["messages"]
        await (turns_away(403) if is_bad else answers("good"))(asked, writer)

    both = [await engine(but_one) for _ in range(2)]
    rig = await serve(snapshot(route(A, *both)))
    assert rig.worker is not None
    async with rig.client() as client:
        for _ in range(2 * OUTLIER_ATTEMPTS_MIN):
            assert (await client.post(PATH, json=CHAT)).content == completion("good")
            assert error_of(await client.post(PATH, json=POISON)) == told(403)
    ejected = [one.is_ejected for one in rig.worker.plant.fleet._replicas.values()]
    assert ejected == [False, False]


async def test_a_busy_one_is_not_waited_for(engine: StartEngine, serve: Serve) -> None:
    done = asyncio.Event()
    bad, busy = await engine(turns_away(429)), await engine(answers("busy", after=done))
    rig = await serve(snapshot(route(A, bad, busy, slots=1)))
    async with rig.client() as client:
        first = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(busy.asked) == 1)
        for _ in range(3):
            assert error_of(await client.post(PATH, json=CHAT)) == told(429)
        done.set()
        assert (await first).content == completion("busy")
        assert (await client.post(PATH, json=CHAT)).content == completion("busy")
    assert rig.waiting("bank") == 0


@pytest.mark.parametrize("status", [429, 500])
async def test_only_work_that_is_done_again_takes_from_the_retries(
    engine: StartEngine, serve: Serve, status: int
) -> None:
    bad = [await engine(turns_away(status)) for _ in range(2)]
    rig = await serve(snapshot(route(A, *bad, slots=1)))
    async with rig.client() as client:
        got = [await client.post(PATH, json=CHAT) for _ in range(12)]
    assert {error_of(answer) for answer in got} == {told(status)}, "never of a missing retry"
    retried = sum(len(one.asked) for one in bad) - len(got)
    assert retried == 12 if status == 429 else 0 < retried < RETRIES_QUIET_MIN + 0.2 * 12


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_the_champion_stands_in_for_a_canary_which_is_held_against_it(
    engine: StartEngine, serve: Serve, status: int
) -> None:
    """At once, however many replicas it has: they are alike in what they will not do."""
    champion = await engine(answers("champion"))
    canaries = [await engine(turns_away(status)) for _ in range(4)]
    rig = await serve(snapshot(route(A, champion), route(B, *canaries), share=1.0))
    async with rig.client() as client:
        got = [await client.post(PATH, json=CHAT) for _ in range(12)]
    assert {answer.content for answer in got} == {completion("champion")}
    assert {answer.headers["x-fairlead-release"] for answer in got} == {A}
    assert sum(len(canary.asked) for canary in canaries) == 12
    assert {(r.arm, r.error, r.attempts) for r in rig.requests()} == {("canary", STOOD_IN, 2)}


async def test_a_champion_on_the_same_engines_stands_in_on_those_not_asked_yet(
    engine: StartEngine, serve: Serve
) -> None:
    bad, good = await engine(turns_away(429)), await engine(answers("good"))
    rig = await serve(snapshot(route(A, bad, good), route(B, bad, good), share=1.0))
    async with rig.client() as client:
        got = [await client.post(PATH, json=CHAT) for _ in range(4)]
    assert {answer.content for answer in got} == {completion("good")}
    assert bad.asked
    by_attempts = {r.attempts: (r.release, r.error) for r in rig.requests()}
    assert by_attempts.pop(2) == (A, STOOD_IN)
    assert by_attempts in ({}, {1: (B, "")})


async def test_a_champion_that_fails_then_leaves_its_lane_to_others(
    engine: StartEngine, serve: Serve
) -> None:
    """What a canary turned away waits for the champion, never for the canary again."""
    done = asyncio.Event()
    canary = await engine(turns_away(429))
    failing = True

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (turns_away(503) if failing else answers("champion"))(asked, writer)

    champion = await engine(behave)
    rig = await serve(snapshot(route(A, champion, slots=1), route(B, canary, slots=1), share=1.0))
    async with rig.client() as client:
        asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: bool(champion.asked))
        canary.behave = answers("canary", after=done)
        busy = asyncio.ensure_future(client.post(PATH, json=CHAT))
        failing = False
        assert (await asking).content == completion("champion")
        done.set()
        assert (await busy).content in (completion("canary"), completion("champion"))
    assert rig.requests()[0].error == STOOD_IN


async def test_a_busy_champion_is_waited_for_and_holds_up_no_canary(
    engine: StartEngine, serve: Serve
) -> None:
    done = asyncio.Event()
    champion = await engine(answers("champion", after=done))
    canary = await engine(turns_away(429))
    limits = Limits(queue=2, queue_timeout_s=20)
    rig = await serve(
        snapshot(route(A, champion, slots=1), route(B, canary, slots=1), share=1.0, limits=limits)
    )
    async with rig.client() as client:
        asking = []
        for waiting in (0, 1, 2):
            asking.append(asyncio.ensure_future(client.post(PATH, json=CHAT)))
            await until(lambda: len(champion.asked) == 1 and rig.waiting("bank") == waiting)  # noqa: B023
        assert error_of(await client.post(PATH, json=CHAT)) == told(429), "too many wait"
        canary.behave = answers("canary")
        assert (await client.post(PATH, json=CHAT)).content == completion("canary")
        done.set()
        got = await asyncio.gather(*asking)
    assert {answer.content for answer in got} == {completion("champion")}


@pytest.mark.parametrize("status", STATUSES)
async def test_another_service_answers_when_its_own_will_not(
    engine: StartEngine, serve: Serve, status: int
) -> None:
    bad, spare = await engine(turns_away(status)), await engine(answers("spare"))
    own = snapshot(route(A, bad))
    bank = msgspec.structs.replace(own.services["bank"], fallbacks=("spare",))
    other = msgspec.structs.replace(
        bank, name="spare", fallbacks=(), releases={SPARE: route(SPARE, spare)}, champion=SPARE
    )
    rig = await serve(msgspec.structs.replace(own, services={"bank": bank, "spare": other}))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
        assert answer.content == completion("spare")
        assert answer.headers["x-fairlead-fallback"] == "spare"
        spare.behave = turns_away(429)
        assert error_of(await client.post(PATH, json=CHAT)) == told(429)
    assert (len(bad.asked), len(spare.asked)) == (2, 2)


async def test_a_hedge_that_is_open_is_waited_for(engine: StartEngine, serve: Serve) -> None:
    count = 0

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count == 1:
            await until(lambda: count == 2)
            await turns_away(429)(asked, writer)
        else:
            await answers("hedge", delay=0.1)(asked, writer)

    both = [await engine(behave) for _ in range(2)]
    rig = await serve(snapshot(route(A, *both), limits=Limits(hedge_after_ms=50, attempts=1)))
    async with rig.client() as client:
        answer = await client.post("/v1/embeddings", json={"model": "bank", "input": "hello"})
    assert answer.content == completion("hedge")
    assert count == 2


async def test_overloaded_as_one_provider_says_it_is_unavailable(
    engine: StartEngine, serve: Serve
) -> None:
    busy, good = await engine(turns_away(529)), await engine(answers("good"))
    rig = await serve(snapshot(route(A, busy, good)))
    async with rig.client() as client:
        got = [await client.post(PATH, json=CHAT) for _ in range(10)]
    assert {answer.content for answer in got} == {completion("good")}
    assert 0 < len(busy.asked) < 10, "it was left alone at once"
