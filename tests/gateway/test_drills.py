"""A drill's fault meets the answers of its own arm only, on streams and plain answers alike."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from gateway_rig import CHAT, USAGE, A, B, Engine, Rig, answers, event, route, snapshot, streams

from fairlead.domain.fault import Fault, FaultKind
from fairlead.gateway.replicas.faults import TEXTS, WRONG_JSON, StreamFault, in_place
from fairlead.gateway.requests.refusals import is_refusal
from fairlead.gateway.streams.events import EventSplitter
from fairlead.wire.snapshot import Limits, Shadow, Snapshot

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]
PATH = "/v1/chat/completions"
STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
FACTS = ("format", "refusal")


def drilled(
    served: Engine,
    kind: FaultKind,
    *,
    share: float = 1.0,
    harm: int | None = 100,
    version: int = 1,
    limits: Limits | None = None,
    slots: int = 4,
    **fault: float,
) -> Snapshot:
    """Champion and drill on the same replica."""
    bad = route(B, served, slots=slots, fault=Fault(kind, **fault))
    base = snapshot(route(A, served, slots=slots), bad, share=share, version=version, limits=limits)
    service = msgspec.structs.replace(base.services["bank"], harm=harm, facts=FACTS)
    return msgspec.structs.replace(base, services={"bank": service})


def plain(answer: Any) -> str:
    return answer.json()["choices"][0]["message"]["content"]


def streamed(text: str) -> str:
    said = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for e in said for c in e["choices"])


@pytest.mark.parametrize("kind", ["wrong", "format", "refusal", "toxic"])
@pytest.mark.parametrize("stream", [False, True])
async def test_another_text_is_said_and_everything_else_stays_true(
    serve: Serve, engine: StartEngine, kind: FaultKind, stream: bool
) -> None:
    served = await engine(streams("he", "llo", " you") if stream else answers("hello you"))
    rig = await serve(drilled(served, kind))
    async with rig.client() as client:
        for _ in range(2):  # The second one would take the short way.
            answer = await client.post(PATH, json=STREAM if stream else CHAT)
            assert answer.status_code == 200
            assert answer.headers["x-fairlead-drill"] == kind
            assert answer.headers["x-fairlead-release"] == B
            said = streamed(answer.text) if stream else plain(answer)
            assert said == TEXTS[kind]
    await rig.stop()
    for record in rig.requests():
        assert (record.arm, record.release, record.rollout) == ("canary", B, "ro-1")
        assert record.refused == int(kind == "refusal")
        assert (record.prompt_tokens, record.completion_tokens) == (7, 3), "what the engine used"


async def test_the_champions_arm_is_as_it_was(serve: Serve, engine: StartEngine) -> None:
    served = await engine(answers("hello"))
    rig = await serve(drilled(served, "wrong", share=0.5))
    async with rig.client() as client:
        arms = {"champion": "hello", "canary": TEXTS["wrong"]}
        seen = set()
        for n in range(40):
            answer = await client.post(PATH, json=CHAT, headers={"x-session-id": f"s{n}"})
            arm = "champion" if answer.headers["x-fairlead-release"] == A else "canary"
            assert plain(answer) == arms[arm]
            assert ("x-fairlead-drill" in answer.headers) == (arm == "canary")
            seen.add(arm)
    assert seen == set(arms)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_is_a_server_error_and_not_held_against_the_replica(
    serve: Serve, engine: StartEngine, stream: bool
) -> None:
    served = await engine(streams("he", "llo") if stream else answers("hello"))
    rig = await serve(drilled(served, "error"))
    async with rig.client() as client:
        for _ in range(12):
            answer = await client.post(PATH, json=STREAM if stream else CHAT)
            assert answer.status_code == 502
        assert len(served.asked) == 12, "it is not tried again"
    await rig.stop()
    assert {r.error for r in rig.requests()} == {"upstream_error"}
    assert len(rig.requests()) == 12


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_answer_begins_later_and_holds_no_slot_of_the_replica_meanwhile(
    serve: Serve, engine: StartEngine, stream: bool
) -> None:
    served = await engine(streams("he", "llo") if stream else answers("hello"))
    limits = Limits(queue_timeout_s=0.2, request_timeout_s=10.0, attempt_timeout_s=0.2)
    rig = await serve(drilled(served, "slow", delay_ms=600.0, slots=1, limits=limits))
    began = time.monotonic()
    async with rig.client() as client:
        asked = [client.post(PATH, json=STREAM if stream else CHAT) for _ in range(5)]
        for answer in await asyncio.gather(*asked):
            assert answer.status_code == 200
            assert (streamed(answer.text) if stream else plain(answer)) == "hello"
    assert time.monotonic() - began >= 0.6
    await rig.stop()
    for record in rig.requests():
        assert record.ttft_ms >= 590.0
        assert record.attempts == 1, "the fault is not the replica's lateness"


async def test_a_client_that_leaves_during_the_delay_is_recorded(
    serve: Serve, engine: StartEngine
) -> None:
    served = await engine(answers("hello"))
    rig = await serve(drilled(served, "slow", delay_ms=60_000.0))
    async with rig.client() as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.post(PATH, json=CHAT)
    await rig.stop()
    assert [r.status for r in rig.requests()] == [499]


async def test_the_rate_says_how_many_answers_are_met(serve: Serve, engine: StartEngine) -> None:
    served = await engine(answers("hello"))
    rig = await serve(drilled(served, "wrong", rate=0.5))
    async with rig.client() as client:
        said = [plain(await client.post(PATH, json=CHAT)) for _ in range(60)]
    assert 10 < said.count("hello") < 50
    assert set(said) == {"hello", TEXTS["wrong"]}


async def test_no_more_than_the_harm_budget_is_assigned_over_all_snapshots(
    serve: Serve, engine: StartEngine
) -> None:
    """Also by one session that stays on the canary, and at the same time."""
    served = await engine(answers("hello", delay=0.05))
    rig = await serve(drilled(served, "wrong", harm=3))
    assert rig.worker is not None
    async with rig.client() as client:
        first = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(10)))
        assert [plain(a) for a in first].count(TEXTS["wrong"]) == 3
        rig.worker._use(drilled(served, "wrong", harm=3, version=2))
        assert plain(await client.post(PATH, json=CHAT)) == "hello"
    await rig.stop()
    after = [r for r in rig.requests() if r.arm == "champion"]
    assert {r.rho for r in after} == {0.0}, "what comes after is not counted as assigned by chance"
    assert len(after) == 8


@pytest.mark.parametrize("stream", [False, True])
async def test_the_drills_error_is_its_clients_and_no_replicas(
    serve: Serve, engine: StartEngine, stream: bool
) -> None:
    """Though another replica, and the champion itself, would answer in its place."""
    both = [await engine(streams("he") if stream else answers("he")) for _ in range(2)]
    base = snapshot(route(A, *both), route(B, *both, fault=Fault("error")), share=1.0)
    service = msgspec.structs.replace(base.services["bank"], harm=100)
    rig = await serve(msgspec.structs.replace(base, services={"bank": service}))
    async with rig.client() as client:
        for number in range(1, 25):
            answer = await client.post(PATH, json=STREAM if stream else CHAT)
            assert answer.status_code == 502
            assert sum(len(one.asked) for one in both) == number, "nobody is asked again"
    assert rig.worker is not None
    fleet = rig.worker.plant.fleet
    assert {one.counts[1] for one in fleet._replicas.values()} == {0}


async def test_copies_meet_the_fault_and_clients_do_not(serve: Serve, engine: StartEngine) -> None:
    served = await engine(answers("hello"))
    base = snapshot(route(A, served))
    bad = route(B, served, fault=Fault("error"))
    service = msgspec.structs.replace(
        base.services["bank"],
        releases={**base.services["bank"].releases, B: bad},
        shadow=Shadow(B, 1.0),
        rollout="ro-1",
    )
    rig = await serve(msgspec.structs.replace(base, services={"bank": service}))
    async with rig.client() as client:
        for _ in range(3):
            assert plain(await client.post(PATH, json=CHAT)) == "hello"
    await rig.stop()
    by_arm = {r.arm: r.error for r in rig.requests()}
    assert by_arm == {"champion": "", "shadow": "upstream_error"}


def test_a_wrong_answer_stays_json_where_that_was_asked_for(serve: Serve) -> None:
    from fairlead.gateway.replicas.faults import FaultyAnswer

    asked = msgspec.json.encode({**CHAT, "response_format": {"type": "json_object"}})
    assert FaultyAnswer(None, Fault("wrong"), asked)._text == WRONG_JSON  # type: ignore[arg-type]
    assert is_refusal(TEXTS["refusal"])
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(TEXTS["format"])


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_cut_anywhere(size: int) -> None:
    data = event("he") + event("llo") + b": ping\n\n" + b"data: [DONE]\n\n"
    fault = StreamFault("bad")
    out = b"".join(fault.feed(data[i : i + size]) for i in range(0, len(data), size)) + fault.rest
    assert streamed(out.decode()) == "bad"
    assert len(EventSplitter().feed(out)) == 4
    assert out.endswith(b": ping\n\ndata: [DONE]\n\n")


RESPONSE = {"output": [{"content": [{"type": "output_text", "text": "a"}]}], "text": {"format": 1}}
ODD = {"choices": "?", "output": 1, "content": None}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"choices": [{"text": "a"}]}, {"choices": [{"text": "bad"}]}),
        (RESPONSE, {**RESPONSE, "output": [{"content": [{"type": "output_text", "text": "bad"}]}]}),
        ({"content": [{"text": "a"}]}, {"content": [{"text": "bad"}]}),
        ({"choices": [{"message": {"content": None}}]},) * 2,
        (ODD, ODD),
    ],
)
def test_each_apis_answer_is_known(given: object, said: object) -> None:
    assert json.loads(in_place(json.dumps(given).encode(), "bad")) == said
    assert in_place(b"no json", "bad") == b"no json"
    assert json.loads(in_place(json.dumps(USAGE).encode(), "bad")) == USAGE
