"""Over real sockets: retry budgets, late attempts, fallbacks, fair queues, shedding, hedges."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from gateway_rig import (
    CHAT,
    KEY,
    KEYS,
    OTHER_KEY,
    A,
    Asked,
    B,
    Control,
    Engine,
    Rig,
    answers,
    completion,
    error_of,
    hangs,
    reset,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.gateway.limits import RETRIES_QUIET_MIN, RETRY_SHARE
from fairlead.gateway.replicas import retry_budget
from fairlead.gateway.waiting.admission import Admission
from fairlead.wire.snapshot import Limits, ReleaseRoute, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
EMBED = "/v1/embeddings"
SPARE = "sha256:" + "c" * 64


def queue_of(rig: Rig) -> Admission:
    assert rig.worker is not None
    queue = rig.worker.plant.queue
    assert isinstance(queue, Admission)
    return queue


def metric(rig: Rig, name: str, *labels: str) -> float:
    assert rig.worker is not None
    value: float = getattr(rig.worker.plant.metrics, name).get(labels)
    return value


async def resets(asked: Asked, writer: asyncio.StreamWriter) -> None:
    reset(writer)


# Retry budget and back-off


async def test_when_every_replica_fails_retries_add_a_fifth_of_load_and_no_more(
    engine: StartEngine, serve: Serve
) -> None:
    bad = [await engine(answers(status=503)) for _ in range(3)]
    limits = Limits(attempts=10, queue_timeout_s=15, request_timeout_s=20)
    rig = await serve(snapshot(route(A, *bad, slots=1), limits=limits))
    async with rig.client() as client:
        got = [await client.post(PATH, json=CHAT) for _ in range(8)]
    sent = sum(len(one.asked) for one in bad)
    assert sent <= len(got) + RETRIES_QUIET_MIN + RETRY_SHARE * len(got)
    assert sent > len(got), "some were retried"
    assert error_of(got[-1]) == (503, "retry_budget_exhausted")
    assert got[-1].headers["retry-after"] == "1"
    assert metric(rig, "retries_refused", "bank") > 0
    assert rig.requests()[-1].error == "retry_budget_exhausted"


async def test_refused_connections_cost_no_budget(engine: StartEngine, serve: Serve) -> None:
    gone, good = await engine(), await engine(answers("good"))
    await gone.kill()
    rig = await serve(snapshot(route(A, gone, good, slots=1)))
    queue = queue_of(rig)
    async with rig.client() as client:
        while metric(rig, "retries", "bank", "refused") < 3:
            answer = await client.post(PATH, json=CHAT)
            assert answer.content == completion("good"), answer.text
            await asyncio.sleep(0.02)
    assert metric(rig, "retries_refused", "bank") == 0
    assert queue._queues["bank"].budget.tokens > RETRIES_QUIET_MIN


async def test_a_replica_that_failed_a_request_rests_before_the_same_request_comes_again(
    engine: StartEngine, serve: Serve
) -> None:
    async def fails_once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await answers(
            "well" if len(one.asked) > 1 else "", status=200 if len(one.asked) > 1 else 503
        )(asked, writer)

    one = await engine(fails_once)
    rig = await serve(snapshot(route(A, one)))
    queue = queue_of(rig)
    queue._random = lambda: 0.999
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
    assert answer.content == completion("well")
    assert queue.depth("bank") == 0
    assert queue._waiting == 0


@pytest.fixture
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who failed is not asked again by the same request for half a minute."""
    monkeypatch.setattr(retry_budget, "BACKOFF_S_MIN", 60.0)
    monkeypatch.setattr(retry_budget, "BACKOFF_S_MAX", 60.0)


@pytest.mark.usefixtures("long_rests")
async def test_a_client_that_leaves_while_its_request_rests_leaves_nothing_behind(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(answers(status=503))
    rig = await serve(snapshot(route(A, one), limits=Limits(queue_timeout_s=60)))
    queue = queue_of(rig)
    async with rig.client() as client:
        asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(queue._resting) == 1)
        assert queue.depth("bank") == 1
        asking.cancel()
        await until(lambda: not queue._resting)
    assert queue._waiting == 0
    assert rig.requests()[0].status == 499


@pytest.mark.usefixtures("long_rests")
async def test_a_request_that_rests_takes_a_new_replica_at_once(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    bad, good = await engine(answers(status=503)), await engine(answers("good"))
    limits = Limits(queue_timeout_s=60)
    rig = await serve(snapshot(route(A, bad), limits=limits))
    async with rig.client() as client:
        asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(queue_of(rig)._resting) == 1)
        control.publish(snapshot(route(A, bad, good), limits=limits, version=2))
        assert (await asking).content == completion("good")


# Attempts that take too long


async def test_an_attempt_without_a_first_byte_is_given_up_and_another_replica_asked(
    engine: StartEngine, serve: Serve
) -> None:
    slow, good = await engine(hangs), await engine(answers("good"))
    rig = await serve(snapshot(route(A, slow, good), limits=Limits(attempt_timeout_s=0.3)))
    async with rig.client() as client:
        for _ in range(4):
            assert (await client.post(PATH, json=CHAT)).content == completion("good")
    assert slow.asked
    await until(lambda: slow.hung_up == len(slow.asked))
    assert metric(rig, "retries", "bank", "timeout") == len(slow.asked)


async def test_a_stream_that_has_begun_is_not_cut_by_the_attempt_timeout(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(streams(*"abcdef", gap=0.25))
    rig = await serve(snapshot(route(A, one), limits=Limits(attempt_timeout_s=1.0)))
    async with rig.client() as client:
        answer = await client.post(PATH, json={**CHAT, "stream": True})
    assert answer.text.count("data: ") == 7
    assert rig.requests()[0].error == ""


async def test_when_all_attempts_were_late_the_answer_is_504(
    engine: StartEngine, serve: Serve
) -> None:
    one, two = await engine(hangs), await engine(hangs)
    limits = Limits(attempts=2, attempt_timeout_s=0.2)
    rig = await serve(snapshot(route(A, one, two), limits=limits))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
    assert error_of(answer) == (504, "timeout")
    assert rig.requests()[0].attempts == 2


# Fallbacks


def with_spare(
    champion: ReleaseRoute, spare: ReleaseRoute, canary: ReleaseRoute | None = None, **more: Any
) -> Snapshot:
    """The service `bank` with the fallbacks `gone` and `spare`."""
    made = snapshot(champion, canary, **more)
    bank = msgspec.structs.replace(made.services["bank"], fallbacks=("gone", "spare"))
    other = msgspec.structs.replace(
        bank,
        name="spare",
        fallbacks=(),
        releases={spare.digest: spare},
        champion=spare.digest,
        canary=None,
        rollout=None,
        phase=0,
    )
    return msgspec.structs.replace(made, services={"bank": bank, "spare": other})


def assert_fell_back(answer: httpx.Response, text: str) -> None:
    assert answer.content == completion(text)
    assert answer.headers["x-fairlead-release"] == SPARE
    assert answer.headers["x-fairlead-fallback"] == "spare"


async def test_without_a_usable_replica_the_fallback_answers_with_its_prompt_and_model(
    engine: StartEngine, serve: Serve
) -> None:
    gone, spare = await engine(), await engine(answers("spare"))
    await gone.kill()
    there = route(SPARE, spare, sampling={"temperature": 0.5}, upstream_model="real-name")
    rig = await serve(with_spare(route(A, gone), there))
    async with rig.client() as client:
        for _ in range(3):
            assert_fell_back(await client.post(PATH, json=CHAT), "spare")
        own = await client.post(PATH, json={**CHAT, "model": "spare"})
        assert "x-fairlead-fallback" not in own.headers
    assert spare.asked[0].json["temperature"] == 0.5
    assert spare.asked[0].json["model"] == "real-name"
    *fell, direct = rig.requests()
    for record in fell:
        assert (record.service, record.release, record.status) == ("bank", SPARE, 200)
        assert record.error == "service_unavailable_fell_back"
        assert (record.rho, record.rollout) == (0.0, "")
    assert (direct.service, direct.error) == ("spare", "")
    assert metric(rig, "fallbacks", "bank", "spare") == 3


@pytest.mark.parametrize("failure", [resets, answers(status=503)], ids=["reset", "503"])
async def test_when_all_attempts_have_failed_the_fallback_answers(
    engine: StartEngine, serve: Serve, failure: object
) -> None:
    bad, spare = await engine(failure), await engine(answers("spare"))
    limits = Limits(attempts=1, queue_timeout_s=5)
    rig = await serve(with_spare(route(A, bad), route(SPARE, spare), limits=limits))
    async with rig.client() as client:
        assert_fell_back(await client.post(PATH, json=CHAT), "spare")
    assert rig.requests()[0].attempts == 2


async def test_a_service_whose_champion_is_gone_is_answered_by_its_fallback(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    spare, own = await engine(answers("spare")), await engine(answers("own"))
    made = with_spare(route(A), route(SPARE, spare))
    bank = msgspec.structs.replace(made.services["bank"], releases={}, champion=None)
    rig = await serve(
        msgspec.structs.replace(made, services={"bank": bank, "spare": made.services["spare"]})
    )
    async with rig.client() as client:
        assert_fell_back(await client.post(PATH, json=CHAT), "spare")
        await spare.kill()
        asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: queue_of(rig)._waiting == 1)
        control.publish(with_spare(route(A, own), route(SPARE), version=2))
        back = await asking
    assert back.content == completion("own")
    assert "x-fairlead-fallback" not in back.headers
    assert [r.error for r in rig.requests()] == ["service_unavailable_fell_back", ""]


async def test_when_the_fallback_fails_too_its_failure_is_the_answer(
    engine: StartEngine, serve: Serve
) -> None:
    bad, spare = await engine(answers(status=503)), await engine(answers(status=503))
    limits = Limits(attempts=1, queue_timeout_s=5)
    rig = await serve(with_spare(route(A, bad), route(SPARE, spare), limits=limits))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
    assert error_of(answer) == (502, "upstream_error")
    assert answer.headers["x-fairlead-fallback"] == "spare"
    assert len(spare.asked) == 1


async def test_a_canary_that_needs_the_fallback_answers_for_it_before_the_judge(
    engine: StartEngine, serve: Serve
) -> None:
    """Assigned by a throw of the dice, then failed: leaving it out would favour its release."""
    well, bad, spare = await engine(answers("A")), await engine(resets), await engine(answers("s"))
    limits = Limits(attempts=1, queue_timeout_s=5)
    rig = await serve(
        with_spare(route(A, well), route(SPARE, spare), route(B, bad), share=1.0, limits=limits)
    )
    async with rig.client() as client:
        assert_fell_back(await client.post(PATH, json=CHAT), "s")
    (record,) = rig.requests()
    assert (record.arm, record.rho, record.rollout) == ("canary", 1.0, "ro-1")
    assert record.error == "service_unavailable_fell_back"


async def test_while_the_fallback_stands_in_for_the_champion_nobody_is_assigned(
    engine: StartEngine, serve: Serve
) -> None:
    gone, canary, spare = await engine(), await engine(answers("B")), await engine(answers("s"))
    rig = await serve(with_spare(route(A), route(SPARE, spare), route(B, canary), share=0.5))
    async with rig.client() as client:
        for number in range(8):
            answer = await client.post(PATH, json=CHAT, headers={"x-session-id": f"s{number}"})
            assert_fell_back(answer, "s")
    assert {(r.arm, r.rho) for r in rig.requests()} == {("champion", 0.0)}
    assert not canary.asked
    assert not gone.asked


# Fair queues


async def test_a_flood_of_one_key_does_not_starve_another(
    engine: StartEngine, serve: Serve
) -> None:
    turn = asyncio.Semaphore(0)

    async def one_by_one(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await turn.acquire()
        await answers()(asked, writer)

    one = await engine(one_by_one)
    limits = Limits(queue=20, queue_timeout_s=30, request_timeout_s=60)
    rig = await serve(snapshot(route(A, one, slots=1), limits=limits))
    queue = queue_of(rig)
    async with (
        rig.client(limits=httpx.Limits(max_connections=200)) as flooder,
        rig.client(OTHER_KEY) as other,
    ):
        flood = [asyncio.ensure_future(flooder.post(PATH, json=CHAT)) for _ in range(40)]
        await until(lambda: queue.depth("bank") == 20 and sum(f.done() for f in flood) == 19)
        modest = [asyncio.ensure_future(other.post(PATH, json=CHAT)) for _ in range(3)]
        await until(lambda: sum(f.done() for f in flood) == 22)
        assert queue.depth("bank") == 20, "the flooder has given up three of its places"
        for served in range(1, 9):
            turn.release()
            await until(lambda: len(one.asked) == served + 1)  # noqa: B023 - used at once
        turn.release()
        got = await asyncio.wait_for(asyncio.gather(*modest), 20)
        assert {a.status_code for a in got} == {200}
        for _ in range(40):
            turn.release()
        codes = [(await f).status_code for f in flood]
    assert codes.count(429) == 22
    assert codes.count(200) == 18
    assert {r.key for r in rig.requests() if r.status == 429} == {"k1"}


async def test_a_key_with_a_higher_priority_goes_first(engine: StartEngine, serve: Serve) -> None:
    goes_on = asyncio.Event()
    one = await engine(answers(after=goes_on))
    made = snapshot(route(A, one, slots=1), limits=Limits(queue_timeout_s=30))
    keys = (KEYS[0], msgspec.structs.replace(KEYS[1], priority=5))
    rig = await serve(msgspec.structs.replace(made, keys=keys))
    queue = queue_of(rig)
    async with rig.client() as low, rig.client(OTHER_KEY) as high:
        asking = []
        for number, client in enumerate((low, low, low, high, high)):
            asking.append(asyncio.ensure_future(client.post(PATH, json=CHAT)))
            await until(lambda: len(one.asked) + queue.depth("bank") == number + 1)  # noqa: B023
        goes_on.set()
        await asyncio.gather(*asking)
    order = [
        r.key for r in sorted(rig.requests(), key=lambda r: r.started_at + r.duration_ms / 1e3)
    ]
    assert order == ["k1", "k2", "k2", "k1", "k1"]


async def test_a_wait_that_cannot_end_in_time_is_refused_at_once_with_how_long_it_is(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(answers(delay=0.2))
    limits = Limits(queue=1000, queue_timeout_s=2.0)
    rig = await serve(snapshot(route(A, one, slots=1), limits=limits))
    async with rig.client(limits=httpx.Limits(max_connections=300)) as client:
        asking = [asyncio.ensure_future(client.post(PATH, json=CHAT)) for _ in range(100)]
        await until(lambda: any(a.done() and a.result().status_code == 503 for a in asking))
        early = next(a.result() for a in asking if a.done() and a.result().status_code == 503)
        got = await asyncio.gather(*asking)
    assert error_of(early) == (503, "wait_too_long")
    assert int(early.headers["retry-after"]) > 2
    by_error: dict[str, int] = {}
    for record in rig.requests():
        by_error[record.error] = by_error.get(record.error, 0) + 1
    assert by_error["wait_too_long"] > by_error.get("queue_timeout", 0)
    assert by_error[""] >= 4
    assert len(got) == 100
    assert queue_of(rig)._waiting == 0


# Hedging


def embeddings(limits: Limits, *engines: Engine) -> Snapshot:
    return snapshot(route(A, *engines), limits=limits)


EMBEDDING = {"model": "bank", "input": "hello"}


async def test_a_slow_embedding_is_asked_of_a_second_replica_and_the_first_answer_counts(
    engine: StartEngine, serve: Serve
) -> None:
    slow, fast = await engine(hangs), await engine(answers("fast"))
    rig = await serve(embeddings(Limits(hedge_after_ms=50), slow, fast))
    async with rig.client() as client:
        for _ in range(4):
            assert (await client.post(EMBED, json=EMBEDDING)).content == completion("fast")
        assert slow.asked
        await until(lambda: slow.hung_up == len(slow.asked))
    assert metric(rig, "hedges", "bank", "won") == len(slow.asked)
    records = rig.requests()
    assert len(records) == 4
    assert {(r.status, r.error, r.attempts) for r in records} == {(200, "", 1)}
    assert {r.replica for r in records} == {f"r-{fast.port}"}
    assert rig.worker is not None
    assert rig.worker.plant.fleet.open_replicas == ()


async def test_the_second_attempt_is_cancelled_when_the_first_one_is_answered(
    engine: StartEngine, serve: Serve
) -> None:
    slow, hanging = await engine(answers("slow", delay=0.6)), await engine(hangs)
    rig = await serve(embeddings(Limits(hedge_after_ms=50, attempts=2), slow, hanging))
    async with rig.client() as client:
        while not metric(rig, "hedges", "bank", "lost"):
            asked = len(slow.asked)
            asking = asyncio.ensure_future(client.post(EMBED, json=EMBEDDING))
            await until(lambda: len(slow.asked) > asked)  # noqa: B023 - used at once
            assert (await asking).content == completion("slow")
    await until(lambda: hanging.hung_up == len(hanging.asked))


async def test_when_the_first_fails_the_second_is_waited_for(
    engine: StartEngine, serve: Serve
) -> None:
    has_failed = asyncio.Event()
    count = 0

    async def the_first_fails(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count == 1:
            await until(lambda: count == 2)
            reset(writer)
            has_failed.set()
        else:
            await answers("second", after=has_failed)(asked, writer)

    one, two = [await engine(the_first_fails) for _ in range(2)]
    rig = await serve(embeddings(Limits(hedge_after_ms=50, attempts=1), one, two))
    async with rig.client() as client:
        assert (await client.post(EMBED, json=EMBEDDING)).content == completion("second")
    assert (len(one.asked), len(two.asked)) == (1, 1)


async def test_when_both_fail_it_is_retried_once_more(engine: StartEngine, serve: Serve) -> None:
    count = 0

    async def fails_once_both_are_asked(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count > 2:
            await answers("third")(asked, writer)
        else:
            await until(lambda: count >= 2)
            reset(writer)

    one, two = [await engine(fails_once_both_are_asked) for _ in range(2)]
    rig = await serve(embeddings(Limits(hedge_after_ms=50, queue_timeout_s=10), one, two))
    async with rig.client() as client:
        assert (await client.post(EMBED, json=EMBEDDING)).content == completion("third")
    (record,) = rig.requests()
    assert (record.status, record.error) == (200, "")


async def test_only_embeddings_are_hedged(engine: StartEngine, serve: Serve) -> None:
    one, two = await engine(answers(delay=0.3)), await engine(answers(delay=0.3))
    rig = await serve(embeddings(Limits(hedge_after_ms=10), one, two))
    async with rig.client(KEY) as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    assert len(one.asked) + len(two.asked) == 1
