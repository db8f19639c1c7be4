"""The sample of prompts and answers: what is in it, when it is written, and who pays for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from gateway_rig import (
    CHAT,
    A,
    Engine,
    Rig,
    answers,
    hangs,
    refuses_midway,
    route,
    snapshot,
    streams,
    until,
)

from fairlead.domain.capture import Capture, is_captured
from fairlead.gateway.copies import capture as capturing
from fairlead.gateway.copies.captured_text import (
    TURNS_MAX,
    answer_of,
    prompt_of,
    streamed_answer_of,
)
from fairlead.gateway.replicas.routing import is_canary_unit
from fairlead.gateway.requests.express import Express
from fairlead.wire.record import ProgressRecord, RequestRecord, SampleRecord
from fairlead.wire.snapshot import Snapshot

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[Snapshot | None], Awaitable[Rig]]
PATH = "/v1/chat/completions"
ALL = Capture(1.0)


def capturing_snapshot(engine: Engine, capture: Capture | None = ALL, **more: object) -> Snapshot:
    made = snapshot(route(A, engine), **more)
    services = {
        name: msgspec.structs.replace(service, capture=capture)
        for name, service in made.services.items()
    }
    return msgspec.structs.replace(made, services=services)


def samples(rig: Rig) -> list[SampleRecord]:
    return [r for r in rig.records() if isinstance(r, SampleRecord)]


async def test_a_plain_answer_is_kept_redacted_beside_its_record(
    serve: Serve, engine: StartEngine
) -> None:
    served = await engine(answers("ask jane@example.com"))
    rig = await serve(
        capturing_snapshot(served, msgspec.structs.replace(ALL, patterns=("KD-\\d+",)))
    )
    body = {**CHAT, "messages": [{"role": "system", "content": "be kind"},
            {"role": "user", "content": "I am KD-77, card 4111 1111 1111 1111"}]}  # fmt: skip
    async with rig.client() as client:
        answer = await client.post(PATH, json=body)
    await until(lambda: len(samples(rig)) == 1)
    (kept,), (record,) = samples(rig), rig.requests()
    assert answer.json()["choices"][0]["message"]["content"] == "ask jane@example.com"
    assert kept.id == record.id
    assert (kept.service, kept.key, kept.unit) == (record.service, record.key, record.unit)
    assert kept.at == pytest.approx(record.started_at, abs=0.05)
    assert kept.keep_until == kept.at + ALL.retention_s
    assert json.loads(kept.prompt) == [
        ["system", "be kind"],
        ["user", "I am [redacted], card [card]"],
    ]
    assert (kept.answer, kept.is_cut) == ("ask [email]", False)
    spool = b"".join(p.read_bytes() for p in (rig.folder / "spool").glob("*/*.seg"))
    assert b"1111 1111" not in spool
    assert b"jane@" not in spool


async def test_a_stream_is_kept_as_its_client_had_it(serve: Serve, engine: StartEngine) -> None:
    rig = await serve(capturing_snapshot(await engine(streams("one ", "two ", "three"))))
    async with rig.client() as client:
        await client.post(PATH, json={**CHAT, "stream": True})
    await until(lambda: len(samples(rig)) == 1)
    assert samples(rig)[0].answer == "one two three"


async def test_prompts_or_answers_alone_and_never_too_much(
    serve: Serve, engine: StartEngine
) -> None:
    long = msgspec.structs.replace(ALL, bytes_max=64, prompts=False)
    rig = await serve(capturing_snapshot(await engine(answers("ä" * 100)), long))
    async with rig.client() as client:
        await client.post(PATH, json=CHAT)
        await until(lambda: len(samples(rig)) == 1)
    kept = samples(rig)[0]
    assert (kept.prompt, kept.answer, kept.is_cut) == ("", "ä" * 32, True)


async def test_of_a_long_conversation_the_end_is_kept(serve: Serve, engine: StartEngine) -> None:
    short = msgspec.structs.replace(ALL, bytes_max=64, answers=False)
    rig = await serve(capturing_snapshot(await engine(), short))
    turns = [{"role": "user", "content": f"{n} " + "x" * 30} for n in range(9)]
    async with rig.client() as client:
        await client.post(PATH, json={**CHAT, "messages": turns})
        await until(lambda: len(samples(rig)) == 1)
    kept = samples(rig)[0]
    assert json.loads(kept.prompt) == [["user", "7 " + "x" * 30], ["user", "8 " + "x" * 30]]
    assert (kept.answer, kept.is_cut) == ("", True)


@pytest.mark.parametrize(
    "behave", [refuses_midway, answers(status=500), streams("half", "lost", cut_after=1)],
    ids=["cut", "500", "stream cut"],
)  # fmt: skip
async def test_what_goes_wrong_is_in_the_sample_too(
    serve: Serve, engine: StartEngine, behave: Callable[..., Awaitable[None]]
) -> None:
    """Else a release that fails would have a sample of its good answers only."""
    rig = await serve(capturing_snapshot(await engine(behave)))
    async with rig.client() as client:
        await client.post(PATH, json={**CHAT, "stream": True})
        await until(lambda: len(samples(rig)) == 1)
    assert samples(rig)[0].answer in ("", "half")
    assert rig.requests()[0].error


async def test_a_client_that_leaves_is_in_the_sample_too(serve: Serve, engine: StartEngine) -> None:
    served = await engine(hangs)
    rig = await serve(capturing_snapshot(served))
    async with rig.client() as client:
        asking = asyncio.create_task(client.post(PATH, json=CHAT))
        await until(lambda: bool(served.asked))
        asking.cancel()
        await until(lambda: len(samples(rig)) == 1)
    assert rig.requests()[0].status == 499


async def test_a_worker_that_stops_writes_its_samples(serve: Serve, engine: StartEngine) -> None:
    served = await engine(hangs)
    rig = await serve(capturing_snapshot(served))
    rig.worker._settings = msgspec.structs.replace(rig.worker._settings, drain_s=0.0)  # type: ignore[union-attr]
    async with rig.client() as client:
        asking = asyncio.create_task(client.post(PATH, json=CHAT))
        await until(lambda: bool(served.asked))
        await rig.stop()
        await asyncio.gather(asking, return_exceptions=True)
    assert [r.id for r in rig.requests()] == [s.id for s in samples(rig)]


async def test_nothing_is_complete_before_its_sample_is_written(
    serve: Serve, engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes by the watermark never takes a request of the sample for one that is not."""
    monkeypatch.setattr(capturing.Captures, "over", lambda self, captured: None)
    rig = await serve(capturing_snapshot(await engine()))
    async with rig.client() as client:
        await client.post(PATH, json=CHAT)
        await until(lambda: len(rig.progress()) >= 2)
    assert rig.worker is not None
    assert rig.worker._captures.open_count == 1
    started_at = rig.requests()[0].started_at
    assert all(r.complete_until <= started_at for r in rig.progress()[1:])
    await rig.stop()
    kinds = [type(r) for r in rig.records() if not isinstance(r, ProgressRecord)]
    assert kinds == [RequestRecord, SampleRecord]


async def test_units_are_chosen_whole_and_the_others_take_the_short_way(
    serve: Serve, engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same units in each life of a worker; requests that are not chosen pay nothing."""
    begun: list[str] = []
    start = Express.start

    def noted(self: Express) -> None:
        begun.append(self._call.assignment.unit)
        start(self)

    monkeypatch.setattr(Express, "start", noted)
    half = msgspec.structs.replace(ALL, share=0.5, per_minute=6_000)
    rig = await serve(capturing_snapshot(await engine(), half))
    async with rig.client() as client:
        for turn in range(2):
            for user in range(20):
                await client.post(PATH, json={**CHAT, "user": f"u{user}"})
            await until(lambda n=turn: len(rig.requests()) == 20 * (n + 1))  # type: ignore[misc]
    kept = {s.id for s in samples(rig)}
    for record in rig.requests():
        assert (record.id in kept) == is_captured(half, record.unit)
    assert 0 < len(kept) < 40
    assert begun
    assert not any(is_captured(half, unit) for unit in begun)


async def test_a_minute_has_its_bound_over_all_workers(serve: Serve, engine: StartEngine) -> None:
    few = msgspec.structs.replace(ALL, per_minute=6)
    given = msgspec.structs.replace(capturing_snapshot(await engine(), few), workers=2)
    rig = await serve(given)
    async with rig.client() as client:
        for _ in range(9):
            await client.post(PATH, json=CHAT)
    await until(lambda: len(rig.requests()) == 9)
    # Three in a minute; a minute may have begun in between.
    assert 3 <= len(samples(rig)) <= 6


async def test_a_service_that_keeps_nothing_has_no_sample(
    serve: Serve, engine: StartEngine
) -> None:
    rig = await serve(capturing_snapshot(await engine(), None))
    async with rig.client() as client:
        await client.post(PATH, json=CHAT)
    await until(lambda: len(rig.requests()) == 1)
    assert samples(rig) == []


def test_the_sample_tells_nothing_of_the_arm() -> None:
    """Among those that are chosen, the canary has its share, whatever the salt of the split."""
    units = [f"{number:016x}" for number in range(20_000)]
    chosen = [unit for unit in units if is_captured(Capture(0.2), unit)]
    for salt in ("", "capture", "a1b2"):
        canary = sum(is_canary_unit(salt, unit, 0.3) for unit in chosen)
        assert 0.27 < canary / len(chosen) < 0.33


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"},
          {"type": "image_url", "image_url": {"url": "data:x"}}]}]}, [("user", "a[image_url]")]),
        ({"prompt": "b"}, [("user", "b")]),
        ({"instructions": "i", "input": "c"}, [("system", "i"), ("user", "c")]),
        ({"system": [{"type": "text", "text": "s"}],
          "messages": [{"role": "user", "content": "d"}]},
         [("system", "s"), ("user", "d")]),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "e"}]}]},
         [("user", "e")]),
        ({"messages": 7}, []),
        ([], []),
    ],
)  # fmt: skip
def test_prompts_of_each_api(body: object, turns: list[tuple[str, str]]) -> None:
    assert prompt_of(json.dumps(body).encode()) == (turns, False)


def test_of_a_very_long_conversation_the_end_is_read() -> None:
    """And it is said that there was more."""
    said = [{"role": "user", "content": str(number)} for number in range(TURNS_MAX + 1)]
    turns, is_cut = prompt_of(json.dumps({"messages": said}).encode())
    assert (len(turns), turns[-1], is_cut) == (TURNS_MAX, ("user", str(TURNS_MAX)), True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"choices": [{"message": {"content": "a"}}]}, "a"),
        ({"choices": [{"message": {"content": None, "tool_calls": [1]}}]}, "[1]"),
        ({"choices": [{"text": "b"}]}, "b"),
        ({"choices": []}, ""),
        ({"output": [{"type": "message", "role": "assistant",
          "content": [{"type": "output_text", "text": "c"}]}]}, "c"),
        ({"content": [{"type": "text", "text": "d"}]}, "d"),
        ("none", ""),
    ],
)  # fmt: skip
def test_answers_of_each_api(body: object, text: str) -> None:
    assert answer_of(json.dumps(body).encode()) == text


def test_streams_of_each_api() -> None:
    chat = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
    responses = b'data: {"type":"response.output_text.delta","delta":"b"}\n\n'
    delta = b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"c"}}'
    messages = b"event: content_block_delta\ndata: %b\n\n" % delta
    assert streamed_answer_of(chat + responses + messages + b"data: {nothing\n\n") == "abc"
