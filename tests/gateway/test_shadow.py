"""Shadow traffic: copies go to another release, are counted exactly, and no client notices."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from gateway_rig import (
    CHAT,
    A,
    Asked,
    B,
    Behaviour,
    Control,
    Engine,
    Rig,
    answers,
    completion,
    hangs,
    head,
    refuses_midway,
    reset,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.domain.release import Prompt
from fairlead.gateway.copies import shadow
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import Limits, ReleaseRoute, Shadow, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
STREAM = {**CHAT, "stream": True}


def mirrored(
    champion: ReleaseRoute,
    shadow: ReleaseRoute,
    *,
    share: float = 1.0,
    concurrent: int = 16,
    timeout_s: float = 0.0,
    version: int = 1,
    limits: Limits | None = None,
) -> Snapshot:
    base = snapshot(champion, version=version, limits=limits)
    service = msgspec.structs.replace(
        base.services["bank"],
        releases={champion.digest: champion, shadow.digest: shadow},
        shadow=Shadow(shadow.digest, share, concurrent, timeout_s),
        rollout="ro-1",
    )
    return msgspec.structs.replace(base, services={"bank": service})


def by_arm(rig: Rig, arm: str) -> list[RequestRecord]:
    return [record for record in rig.requests() if record.arm == arm]


def counted(rig: Rig) -> dict[str, int]:
    """The metric: how many copies came to which outcome."""
    assert rig.worker is not None
    state = rig.worker.plant.metrics.shadows.state()
    return {labels[2]: int(values[0]) for labels, values in state.series}


async def settled(rig: Rig, total: int) -> dict[str, int]:
    await until(lambda: sum(counted(rig).values()) >= total)
    await asyncio.sleep(0.01)  # the turn in which their records are written
    return counted(rig)


async def test_a_copy_is_answered_recorded_and_never_returned(
    engine: StartEngine, serve: Serve
) -> None:
    live, trial = await engine(answers("live")), await engine(answers("shadow"))
    trial_route = route(B, trial, prompt=Prompt(system="be brief"), sampling={"temperature": 0.5})
    rig = await serve(mirrored(route(A, live), trial_route))
    async with rig.client() as client:
        for _ in range(5):
            answer = await client.post(PATH, json=CHAT)
            assert answer.content == completion("live")
            assert answer.headers["x-fairlead-release"] == A
    assert await settled(rig, 5) == {"answered": 5}
    champions, shadows = by_arm(rig, "champion"), by_arm(rig, "shadow")
    assert {r.id for r in shadows} == {f"{r.id}.shadow" for r in champions}
    assert {r.unit for r in shadows} == {r.unit for r in champions}
    for record in shadows:
        assert (record.release, record.status, record.error, record.rho) == (B, 200, "", 0.0)
        assert (record.prompt_tokens, record.completion_tokens) == (7, 3)
        assert (record.rollout, record.attempts) == ("ro-1", 1)
    # The copy is shaped by the shadow's own template and sampling.
    assert trial.asked[0].json["messages"][0] == {"role": "system", "content": "be brief"}
    assert trial.asked[0].json["temperature"] == 0.5
    assert live.asked[0].json == CHAT


async def test_a_stream_is_copied_and_metered_to_its_end(engine: StartEngine, serve: Serve) -> None:
    live, trial = await engine(streams("a", "b")), await engine(streams("x", "y", "z", gap=0.01))
    rig = await serve(mirrored(route(A, live), route(B, trial)))
    async with rig.client() as client:
        answer = await client.post(PATH, json=STREAM)
    assert b'"a"' in answer.content
    assert b'"x"' not in answer.content
    assert await settled(rig, 1) == {"answered": 1}
    (record,) = by_arm(rig, "shadow")
    assert record.stream
    assert record.completion_tokens == 3
    assert 0 <= record.ttft_ms <= record.duration_ms
    assert record.itl_ms > 0


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_of_a_copy_it_is_recorded_whether_it_refuses_as_of_its_live_request(
    engine: StartEngine, serve: Serve, body: dict[str, object]
) -> None:
    refusal = "I'm sorry, but I can't help with that."
    serving = (streams("yes"), streams(refusal)) if "stream" in body else (
        answers("yes"), answers(refusal)
    )  # fmt: skip
    live, trial = await engine(serving[0]), await engine(serving[1])
    made = mirrored(route(A, live), route(B, trial))
    service = msgspec.structs.replace(made.services["bank"], facts=("format", "refusal"))
    rig = await serve(msgspec.structs.replace(made, services={"bank": service}))
    asked = {**body, "response_format": {"type": "json_object"}}
    async with rig.client() as client:
        await client.post(PATH, json=asked)
        await client.post(PATH, json=body)
    await settled(rig, 2)
    shown = [[(r.refused, r.malformed) for r in by_arm(rig, arm)] for arm in ("champion", "shadow")]
    assert shown == [[(0, 1), (0, -1)], [(1, 1), (1, -1)]]


async def test_the_share_is_of_the_requests(engine: StartEngine, serve: Serve) -> None:
    live, trial = await engine(), await engine()
    rig = await serve(
        mirrored(route(A, live, slots=64), route(B, trial, slots=64), share=0.25, concurrent=64)
    )
    async with rig.client() as client:
        for _ in range(10):
            await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(20)))
    await until(lambda: len(trial.asked) == sum(counted(rig).values()))
    assert 25 <= len(trial.asked) <= 76  # 200 * 0.25 = 50, sd 6.1: four of them on each side
    assert set(counted(rig)) == {"answered"}


async def resets(asked: Asked, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def redirects(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(head(302, content_length=0, location="http://127.0.0.1:9/"))
    await writer.drain()


@pytest.mark.parametrize(
    ("behave", "status", "error"),
    [
        (resets, 502, "upstream_error"),
        (refuses_midway, 502, "upstream_error"),
        (answers(status=503), 503, "upstream_error"),
        (answers(status=500), 500, "upstream_error"),
        (answers(status=400), 400, "upstream_rejected"),
        (answers(status=401), 502, "upstream_credentials"),
        (redirects, 502, "upstream_error"),
    ],
    ids=["reset", "half an answer", "503", "500", "400", "401", "redirect"],
)
async def test_a_copy_that_fails_is_recorded_and_the_client_has_its_answer(
    engine: StartEngine, serve: Serve, behave: Behaviour, status: int, error: str
) -> None:
    live, trial = await engine(answers("live")), await engine(behave)
    rig = await serve(mirrored(route(A, live), route(B, trial)))
    async with rig.client() as client:
        answer = await client.post(PATH, json=CHAT)
    assert answer.content == completion("live")
    assert await settled(rig, 1) == {"failed": 1}
    (record,) = by_arm(rig, "shadow")
    assert (record.status, record.error) == (status, error)
    assert len(trial.asked) == 1


async def test_a_shadow_that_is_not_there_fails_its_copy_and_is_passed_over(
    engine: StartEngine, serve: Serve
) -> None:
    live, gone = await engine(answers("live")), await engine()
    await gone.kill()
    rig = await serve(mirrored(route(A, live), route(B, gone)))
    async with rig.client() as client:
        for _ in range(4):
            assert (await client.post(PATH, json=CHAT)).status_code == 200
    outcomes = await settled(rig, 4)
    assert sum(outcomes.values()) == 4
    assert set(outcomes) <= {"failed", "dropped"}
    assert len(by_arm(rig, "shadow")) == outcomes["failed"]


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
async def test_a_shadow_that_hangs_delays_nobody_and_is_ended_in_time(
    engine: StartEngine, serve: Serve, body: dict[str, object]
) -> None:
    behave = streams("a") if body is STREAM else answers("live")
    live, trial = await engine(behave), await engine(hangs)
    rig = await serve(
        mirrored(
            route(A, live),
            route(B, trial, slots=3),
            limits=Limits(queue_timeout_s=2.0, request_timeout_s=4.0),
        )
    )
    async with rig.client() as client:
        for _ in range(10):
            assert (await client.post(PATH, json=body)).status_code == 200
        # All were answered though every copy hangs: none waited for one.
        assert not [r for r in by_arm(rig, "shadow") if r.error != "timeout"]
        outcomes = await settled(rig, 10)
    assert outcomes["dropped"] + outcomes["failed"] == 10
    assert outcomes["failed"] >= 3
    records = by_arm(rig, "shadow")
    assert len(records) == outcomes["failed"]
    assert {(r.status, r.error) for r in records} == {(504, "timeout")}
    # Copies that hang do not hold back what is known of live requests.
    assert len(by_arm(rig, "champion")) == 10
    assert trial.hung_up >= 3


async def test_a_copy_is_ended_after_the_shadow_s_own_time(
    engine: StartEngine, serve: Serve
) -> None:
    live, trial = await engine(answers("live")), await engine(hangs)
    rig = await serve(mirrored(route(A, live), route(B, trial), timeout_s=0.3))
    async with rig.client() as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
    assert await settled(rig, 1) == {"failed": 1}
    [record] = by_arm(rig, "shadow")
    assert (record.status, record.error) == (504, "timeout")
    assert 300 <= record.duration_ms < 30_000, "the limits of the service give it 120 s"


async def test_a_hanging_copy_does_not_hold_back_the_watermark(
    engine: StartEngine, serve: Serve
) -> None:
    live, trial = await engine(), await engine(hangs)
    rig = await serve(mirrored(route(A, live), route(B, trial)))
    async with rig.client() as client:
        await client.post(PATH, json=CHAT)
    await until(lambda: bool(trial.asked))
    (record,) = by_arm(rig, "champion")
    await until(lambda: any(p.complete_until > record.started_at for p in rig.progress()))
    assert not by_arm(rig, "shadow")


async def test_open_copies_of_a_service_are_bounded(engine: StartEngine, serve: Serve) -> None:
    release = asyncio.Event()
    live, trial = await engine(), await engine(answers(after=release))
    rig = await serve(mirrored(route(A, live), route(B, trial, slots=64), concurrent=2))
    async with rig.client() as client:
        for _ in range(7):
            await client.post(PATH, json=CHAT)
    await until(lambda: counted(rig).get("dropped") == 5)
    release.set()
    assert await settled(rig, 7) == {"answered": 2, "dropped": 5}
    assert len(trial.asked) == len(by_arm(rig, "shadow")) == 2


async def test_on_a_shared_replica_copies_leave_a_slot_free_and_give_way(
    engine: StartEngine, serve: Serve
) -> None:
    """Releases that differ in their prompt alone run on the same replicas."""
    release = asyncio.Event()

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.headers["x-request-id"].endswith(".shadow"):
            await hangs(asked, writer)
        await answers("live", after=release)(asked, writer)

    both = await engine(behave)
    rig = await serve(mirrored(route(A, both, slots=3), route(B, both, slots=3)))
    async with rig.client() as client:
        asking = [asyncio.ensure_future(client.post(PATH, json=CHAT)) for _ in range(3)]
        # The third live request finds its slot taken by a copy, which gives it back.
        await until(
            lambda: sum(".shadow" not in a.headers["x-request-id"] for a in both.asked) == 3
        )
        release.set()
        assert {(await one).status_code for one in asking} == {200}
        outcomes = await settled(rig, 3)
    assert sum(outcomes.values()) == 3
    assert Counter(r.status for r in by_arm(rig, "champion")) == {200: 3}
    ended = [r for r in by_arm(rig, "shadow") if r.error == "shadow_ended"]
    assert len(ended) == outcomes.get("ended", 0)


async def test_a_failing_copy_does_not_eject_a_replica_that_clients_use(
    engine: StartEngine, serve: Serve
) -> None:
    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        is_copy = asked.headers["x-request-id"].endswith(".shadow")
        await (answers(status=503) if is_copy else answers("live"))(asked, writer)

    both = await engine(behave)
    rig = await serve(mirrored(route(A, both), route(B, both)))
    async with rig.client() as client:
        for number in range(1, 6):
            assert (await client.post(PATH, json=CHAT)).status_code == 200
            assert await settled(rig, number) == {"failed": number}
    assert max(r.attempts for r in by_arm(rig, "champion")) == 1
    assert max(r.duration_ms for r in by_arm(rig, "champion")) < 5_000


async def test_when_the_shadow_is_over_its_copies_end_and_its_replicas_are_free(
    engine: StartEngine, control: Control, serve: Serve
) -> None:
    live, trial = await engine(answers("live")), await engine(hangs)
    rig = await serve(mirrored(route(A, live), route(B, trial)))
    async with rig.client() as client:
        await client.post(PATH, json=CHAT)
        await until(lambda: bool(trial.asked))
        control.publish(snapshot(route(A, live), version=2))
        assert await settled(rig, 1) == {"ended": 1}
        await until(lambda: trial.hung_up == 1)
        assert (await client.post(PATH, json=CHAT)).content == completion("live")
    await until(lambda: control.questions[-1].open_replicas == ())
    (record,) = by_arm(rig, "shadow")
    assert (record.status, record.error) == (499, "shadow_ended")
    assert len(trial.asked) == 1


async def test_copies_are_not_counted_among_the_requests_of_clients(
    engine: StartEngine, serve: Serve
) -> None:
    live, trial = await engine(), await engine(answers(status=500))
    rig = await serve(mirrored(route(A, live), route(B, trial)))
    async with rig.client() as client:
        for _ in range(3):
            await client.post(PATH, json=CHAT)
        await settled(rig, 3)
        page = (await client.get("/metrics")).text
    assert (
        'fairlead_gateway_requests_total{service="bank",release="aaaaaaaaaaaa",code="200"} 3'
        in page
    )
    assert 'release="bbbbbbbbbbbb",code=' not in page
    assert 'release="bbbbbbbbbbbb",outcome="failed"} 3' in page


async def test_a_copy_is_no_part_of_the_live_requests_trace(
    engine: StartEngine, serve: Serve, rig: Rig
) -> None:
    rig.settings = msgspec.structs.replace(rig.settings, trace_share=1.0)
    champion, shadow = await engine(), await engine()
    await serve(mirrored(route(A, champion), route(B, shadow)))
    async with rig.client() as client:
        await client.post(PATH, json=CHAT)
    await settled(rig, 1)
    assert "traceparent" in champion.asked[0].headers
    assert "traceparent" not in shadow.asked[0].headers
    assert [record.trace for record in by_arm(rig, "shadow")] == [""]
    assert by_arm(rig, "champion")[0].trace


async def test_bodies_of_open_copies_are_bounded(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are held when their clients have gone: a further one is dropped, and not for good."""
    monkeypatch.setattr(shadow, "SHADOW_BODY_BYTES_MAX", 25_000)
    release = asyncio.Event()
    live, trial = await engine(), await engine(answers(after=release))
    rig = await serve(mirrored(route(A, live), route(B, trial, slots=64)))
    large = {**CHAT, "messages": [{"role": "user", "content": "x" * 10_000}]}
    async with rig.client() as client:
        for _ in range(4):
            assert (await client.post(PATH, json=large)).status_code == 200
        await until(lambda: counted(rig).get("dropped") == 2)
        release.set()
        assert await settled(rig, 4) == {"answered": 2, "dropped": 2}
        for _ in range(2):
            await client.post(PATH, json=large)
        assert await settled(rig, 6) == {"answered": 4, "dropped": 2}
