"""Guardrails on live requests: what is sent, answered, recorded, counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
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
from openai import APIError, BadRequestError, OpenAI

from fairlead.domain.guardrail import Guardrail
from fairlead.domain.outcomes import failed_by_server
from fairlead.gateway.guardrails.turns import Step, Turns
from fairlead.gateway.limits import PLAIN_BUFFER_BYTES
from fairlead.gateway.requests.express import Express
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import Limits, ServiceRoute, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
SECRET = "project swordfish"
NO_SECRETS = Guardrail("secrets", "prompt", "block", phrases=(SECRET,))
SEES_SECRETS = Guardrail("secrets", "prompt", "flag", phrases=(SECRET,))
NO_LEAKS = Guardrail("leaks", "answer", "block", phrases=(SECRET,))
SEES_LEAKS = Guardrail("leaks", "answer", "flag", phrases=(SECRET,))
STREAM = {**CHAT, "stream": True}


def asks(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "bank", "messages": [{"role": "user", "content": text}], **more}


async def publish(rig: Rig, control: Control, newest: Snapshot) -> None:
    """The worker runs on it now."""

    def runs() -> bool:
        loaded = rig.worker.loaded if rig.worker is not None else None
        return loaded is not None and loaded.snapshot.version == newest.version

    control.publish(newest)
    await until(runs)


async def recorded(rig: Rig, count: int = 1) -> list[RequestRecord]:
    await until(lambda: len(rig.requests()) >= count)
    return rig.requests()


async def test_a_blocked_prompt_is_never_sent_and_its_error_quotes_nothing(
    engine: StartEngine, serve: Serve
) -> None:
    """400 in OpenAI's form, with the guardrail's name and the release's digest."""
    upstream = await engine(answers("hi"))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_SECRETS,))))
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=asks("Tell me of Project\nSwordfish")
        )
        fine = await client.post("/v1/chat/completions", json=asks("hello"))
    assert error_of(answer) == (400, "guardrail")
    assert "`secrets`" in answer.text
    assert "swordfish" not in answer.text.lower()
    assert answer.headers["x-fairlead-release"] == A
    assert fine.status_code == 200
    assert len(upstream.asked) == 1
    blocked, passed = await recorded(rig, 2)
    assert (blocked.guardrail_hits, blocked.guardrails, blocked.blocked_by) == (
        1,
        "secrets",
        "secrets",
    )
    assert (blocked.status, blocked.error, blocked.release, blocked.attempts) == (
        400,
        "guardrail",
        A,
        0,
    )
    assert not failed_by_server(blocked.status, blocked.error)
    assert (passed.guardrail_hits, passed.guardrails, passed.blocked_by) == (0, "", "")


async def test_a_flagged_prompt_goes_on_and_is_counted(engine: StartEngine, serve: Serve) -> None:
    """In its record, and in the worker's metrics."""
    upstream = await engine(answers("hi"))
    rig = await serve(snapshot(route(A, upstream, guardrails=(SEES_SECRETS,))))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=asks(SECRET))
        page = (await client.get("/metrics")).text
    assert answer.status_code == 200
    assert len(upstream.asked) == 1
    [record] = await recorded(rig)
    assert (record.guardrail_hits, record.guardrails, record.blocked_by) == (1, "secrets", "")
    assert (
        'fairlead_gateway_guardrail_hits_total{service="bank",release="aaaaaaaaaaaa",'
        'guardrail="secrets",blocked="false"} 1' in page
    )


async def test_only_the_release_of_the_request_counts(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    """The champion has no guardrails; the canary, which gets all units, has one."""
    upstream = await engine(answers("hi"))
    guarded = route(B, upstream, guardrails=(NO_SECRETS,))
    rig = await serve(snapshot(route(A, upstream), guarded, share=1.0))
    async with rig.client() as client:
        assert (await client.post("/v1/chat/completions", json=asks(SECRET))).status_code == 400
    await publish(rig, control, snapshot(route(A, upstream), guarded, share=0.0, version=2))
    async with rig.client() as client:
        assert (await client.post("/v1/chat/completions", json=asks(SECRET))).status_code == 200
    first, second = await recorded(rig, 2)
    assert (first.release, first.guardrail_hits) == (B, 1)
    assert (second.release, second.guardrail_hits) == (A, 0)


async def test_a_release_without_guardrails_takes_the_short_way_as_before(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is looked at, and the record says so."""
    upstream = await engine(answers("hi"))
    rig = await serve(snapshot(route(A, upstream)))
    assert rig.worker is not None
    assert rig.worker.loaded is not None
    live = rig.worker.loaded.services["bank"]
    assert (live.is_usual, live.is_guarded) == (True, False)
    started: list[Express] = []
    start = Express.start
    monkeypatch.setattr(Express, "start", lambda self: (started.append(self), start(self))[1])
    async with rig.client() as client:
        for _ in range(2):  # the first one opens the connection
            await client.post("/v1/chat/completions", json=asks(SECRET))
    assert len(started) == 1
    records = await recorded(rig, 2)
    assert {(r.guardrail_hits, r.guardrails, r.blocked_by) for r in records} == {(-1, "", "")}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("completions", {"prompt": SECRET}),
        ("completions", {"prompt": ["a", SECRET]}),
        ("completions", {"prompt": [1, 2, 3]}),
        ("completions", {"prompt": ["a", [1, 2, 3]]}),
        ("embeddings", {"input": [SECRET]}),
        ("chat/completions", {"messages": [], "tools": [{"function": {"description": SECRET}}]}),
        ("responses", {"input": SECRET}),
        ("responses", {"instructions": SECRET, "input": "x"}),
        ("responses", {"input": [{"content": [{"type": "input_text", "text": SECRET}]}]}),
        ("messages", {"system": [{"type": "text", "text": SECRET}], "messages": []}),
        ("messages", {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 1}),
        ("chat/completions", {"messages": [{"role": "assistant", "content": SECRET}]}),
        ("chat/completions", {"messages": [{"role": "system", "content": SECRET}]}),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [
                {"type": "text", "text": "project sword"}, {"type": "text", "text": "fish"}]}]},
        ),
        ("chat/completions", {"messages": [{"content": "ｐｒｏｊｅｃｔ sword\u200bfish"}]}),
        ("chat/completions", {"messages": [{"content": {"any": [{"thing": SECRET}]}}]}),
    ],
)  # fmt: skip
async def test_a_prompt_is_read_wherever_an_api_has_it(
    engine: StartEngine, serve: Serve, path: str, body: dict[str, Any]
) -> None:
    """Whoever is said to speak, in parts, and in letters that only look otherwise."""
    upstream = await engine(answers("hi"))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_SECRETS,))))
    async with rig.client() as client:
        answer = await client.post(f"/v1/{path}", json={"model": "bank", **body})
    assert answer.status_code == 400
    assert not upstream.asked
    form = answer.json()["error"]
    assert "`secrets`" in form["message"]


async def test_a_long_prompt_is_checked_to_its_end_and_in_turns(
    engine: StartEngine, serve: Serve
) -> None:
    """What stands behind half a million characters is found; others are answered meanwhile."""
    upstream = await engine(answers("hi"))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_SECRETS,))))
    async with rig.client() as client:
        long = await client.post("/v1/chat/completions", json=asks("so it is. " * 50_000 + SECRET))
        fine = await client.post("/v1/chat/completions", json=asks("so it is. " * 50_000))
    assert error_of(long) == (400, "guardrail")
    assert fine.status_code == 200


async def test_a_client_that_leaves_while_its_prompt_is_checked_is_recorded(
    engine: StartEngine, serve: Serve
) -> None:
    """And nothing is sent for it."""
    upstream = await engine(answers("hi"))
    rig = await serve(snapshot(route(A, upstream, guardrails=(SEES_SECRETS,))))
    async with rig.client() as client:
        with pytest.raises(httpx.TimeoutException):
            await client.post(
                "/v1/chat/completions", json=asks("so it is. " * 700_000), timeout=0.05
            )
    [record] = await recorded(rig)
    assert record.status in (200, 499)


async def test_a_blocked_plain_answer_keeps_its_form(engine: StartEngine, serve: Serve) -> None:
    """`content_filter`, as clients know it, with the answer's own usage and none of its words."""
    upstream = await engine(answers(f"Well: {SECRET.upper()}."))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_LEAKS,))))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    assert SECRET not in answer.text.lower()
    body = answer.json()
    [choice] = body["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"] == "This answer was withheld by the guardrail `leaks`."
    assert (body["id"], body["model"], body["usage"]["total_tokens"]) == ("c1", "m", 10)
    [record] = await recorded(rig)
    assert (record.status, record.error, record.completion_tokens) == (200, "", 3)
    assert (record.guardrail_hits, record.guardrails, record.blocked_by) == (1, "leaks", "leaks")


async def test_the_openai_client_understands_all_of_it(engine: StartEngine, serve: Serve) -> None:
    """The error of a prompt, the answer that was withheld, and the stream that was ended."""
    upstream = await engine(answers(SECRET))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_SECRETS, NO_LEAKS))))
    openai = OpenAI(base_url=f"{rig.url}/v1", api_key="fl-test-key-one", max_retries=0)

    def ask(text: str, **more: Any) -> Any:
        given: Any = {"model": "bank", "messages": [{"role": "user", "content": text}], **more}
        return openai.chat.completions.create(**given)

    with pytest.raises(BadRequestError) as refused:
        await asyncio.to_thread(ask, SECRET)
    assert refused.value.code == "guardrail"
    withheld = await asyncio.to_thread(ask, "hello")
    assert withheld.choices[0].finish_reason == "content_filter"
    upstream.behave = streams("one ", "project ", "swordfish")
    with pytest.raises(APIError, match="leaks"):
        await asyncio.to_thread(lambda: list(ask("hello", stream=True)))


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("completions", {"choices": [{"index": 0, "text": SECRET}]}, "content_filter"),
        (
            "responses",
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": SECRET}]}]},
            "incomplete",
        ),
        ("messages", {"type": "message", "content": [{"type": "text", "text": SECRET}]}, "refusal"),
        (
            "chat/completions",
            {"choices": [
                {"index": 0, "message": {"content": "fine"}},
                {"index": 1, "message": {"content": None, "tool_calls": [
                    {"function": {"name": "f", "arguments": f'{{"a": "{SECRET}"}}'}}]}},
            ]},
            "content_filter",
        ),
    ],
)  # fmt: skip
async def test_every_api_says_in_its_own_form_that_an_answer_was_withheld(
    engine: StartEngine, serve: Serve, path: str, body: dict[str, Any], reason: str
) -> None:
    """All choices of it, also where one calls a tool."""
    upstream = await engine(answers(body=json.dumps(body).encode()))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_LEAKS,))))
    asked: dict[str, Any] = {
        "model": "bank",
        "prompt": "x",
        "input": "x",
        "messages": [],
        "max_tokens": 9,
    }
    async with rig.client() as client:
        answer = await client.post(f"/v1/{path}", json=asked)
    assert answer.status_code == 200, answer.text
    assert SECRET not in answer.text
    assert reason in answer.text
    assert "withheld by the guardrail `leaks`" in answer.text


async def test_a_phrase_that_is_split_over_events_ends_the_stream(
    engine: StartEngine, serve: Serve
) -> None:
    """By an error event; the part that would complete the phrase is not passed on."""
    upstream = await engine(streams("It is pro", "ject  ", "sw", "ordfish", " indeed", gap=0.01))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_LEAKS,))))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=STREAM)
    assert answer.status_code == 200
    assert "ordfish" not in answer.text
    assert "[DONE]" not in answer.text
    last = answer.text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "guardrail"
    [record] = await recorded(rig)
    assert (record.status, record.error, record.blocked_by) == (200, "guardrail", "leaks")
    assert not failed_by_server(record.status, record.error)


async def test_a_flagged_stream_is_passed_on_whole(engine: StartEngine, serve: Serve) -> None:
    """Its record says what it hit."""
    upstream = await engine(streams("It is pro", "ject  ", "sw", "ordfish", " indeed"))
    rig = await serve(snapshot(route(A, upstream, guardrails=(SEES_LEAKS,))))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=STREAM)
    assert "indeed" in answer.text
    assert "[DONE]" in answer.text
    [record] = await recorded(rig)
    assert (record.error, record.guardrails, record.blocked_by) == ("", "leaks", "")


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        (
            "responses",
            [{"type": "response.output_text.delta", "delta": "project "},
             {"type": "response.output_text.delta", "delta": "swordfish"}],
        ),
        (
            "messages",
            [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "project s"}},
             {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "wordfish"}}],
        ),
    ],
)  # fmt: skip
async def test_streams_of_the_other_apis_are_ended_too(
    engine: StartEngine, serve: Serve, path: str, lines: list[dict[str, Any]]
) -> None:
    """In their own form of an error."""

    async def behave(asked: Any, writer: Any) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        for line in lines:
            data = f"event: {line['type']}\ndata: {json.dumps(line)}\n\n"
            writer.write(chunk(data.encode()))
            await writer.drain()
        writer.write(chunk(b""))

    upstream = await engine(behave)
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_LEAKS,))))
    asked = {"model": "bank", "input": "x", "messages": [], "max_tokens": 9, "stream": True}
    async with rig.client() as client:
        answer = await client.post(f"/v1/{path}", json=asked)
    assert "wordfish" not in answer.text
    assert "event: error" in answer.text
    assert "`leaks`" in answer.text


SCHEMA = json.dumps({"type": "object", "required": ["intent"]})


@pytest.mark.parametrize(
    ("text", "is_hit"), [('{"intent": "x"}', False), ('{"other": 1}', True), ("sorry", True)]
)
async def test_an_answer_that_does_not_fit_its_schema(
    engine: StartEngine, serve: Serve, text: str, is_hit: bool
) -> None:
    """A plain one is withheld; a stream can only be ended in the place of its end."""
    upstream = await engine(answers(text))
    guardrail = Guardrail("form", "answer", "block", schema=SCHEMA)
    rig = await serve(snapshot(route(A, upstream, guardrails=(guardrail,))))
    async with rig.client() as client:
        plain = await client.post("/v1/chat/completions", json=CHAT)
        upstream.behave = streams(text[:4], text[4:])
        stream = await client.post("/v1/chat/completions", json=STREAM)
    assert ("content_filter" in plain.text) == is_hit
    assert ('"code":"guardrail"' in stream.text) == is_hit
    assert ("[DONE]" in stream.text) != is_hit
    assert [r.guardrail_hits for r in await recorded(rig, 2)] == [int(is_hit)] * 2


async def test_an_answer_too_large_to_be_held_is_not_let_pass(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    """Blocked where a guardrail blocks; where it flags, it is passed on and counted."""
    body = completion("x" * (PLAIN_BUFFER_BYTES + 1))
    upstream = await engine(answers(body=body))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_LEAKS,))))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
        assert answer.json()["choices"][0]["finish_reason"] == "content_filter"

        async def in_parts(asked: Any, writer: Any) -> None:
            writer.write(head(200, transfer_encoding="chunked"))
            for at in range(0, len(body), 65536):
                writer.write(chunk(body[at : at + 65536]))
            writer.write(chunk(b""))

        upstream.behave = in_parts
        answer = await client.post("/v1/chat/completions", json=CHAT)
        assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
        flags = snapshot(route(A, upstream, guardrails=(SEES_LEAKS,)), version=2)
        await publish(rig, control, flags)
        answer = await client.post("/v1/chat/completions", json=CHAT)
        assert answer.content == body
    records = await recorded(rig, 3)
    assert [r.guardrail_hits for r in records] == [1, 1, 1]
    assert [r.blocked_by for r in records] == ["leaks", "leaks", ""]


async def test_a_fallback_is_asked_by_its_own_guardrails(engine: StartEngine, serve: Serve) -> None:
    """The service itself has none; the one that answers for it blocks the prompt."""
    upstream = await engine(answers("hi"))
    own = snapshot(route(A, "http://127.0.0.1:1"), limits=Limits(queue_timeout_s=0.2))
    bank = msgspec.structs.replace(own.services["bank"], fallbacks=("spare",))
    guarded = route(B, upstream, guardrails=(NO_SECRETS,))
    spare = ServiceRoute("spare", {B: guarded}, champion=B)
    rig = await serve(msgspec.structs.replace(own, services={"bank": bank, "spare": spare}))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=asks(SECRET))
        fine = await client.post("/v1/chat/completions", json=asks("hello"))
    assert error_of(answer) == (400, "guardrail")
    assert fine.status_code == 200
    assert len(upstream.asked) == 1


async def test_several_guardrails_are_all_noted(engine: StartEngine, serve: Serve) -> None:
    """Those of the prompt and those of the answer, in the order in which they were hit."""
    mail = Guardrail("mail", "answer", pii=("email",))
    short = Guardrail("short", "answer", max_characters=3)
    upstream = await engine(answers("write to ana@example.org"))
    rig = await serve(snapshot(route(A, upstream, guardrails=(SEES_SECRETS, mail, short))))
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=asks(SECRET))
    [record] = await recorded(rig)
    assert (record.guardrail_hits, record.guardrails) == (3, "secrets,mail,short")


async def test_what_flags_is_noted_beside_what_blocks(engine: StartEngine, serve: Serve) -> None:
    """Whatever their order."""
    short = Guardrail("short", "prompt", max_characters=3)
    upstream = await engine(answers("hi"))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_SECRETS, short))))
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=asks(SECRET))
    [record] = await recorded(rig)
    assert (record.guardrails, record.blocked_by) == ("secrets,short", "secrets")


async def test_events_that_end_in_the_middle_of_a_part_are_found_all_the_same(
    engine: StartEngine, serve: Serve
) -> None:
    """Bytes come as they like: an event in pieces, two in one."""
    data = event("pro") + event("ject sword") + event("fish")

    async def behave(asked: Any, writer: Any) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        for at in range(0, len(data), 7):
            writer.write(chunk(data[at : at + 7]))
            await writer.drain()
        writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))

    upstream = await engine(behave)
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_LEAKS,))))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=STREAM)
    assert "fish" not in answer.text
    assert '"code":"guardrail"' in answer.text


LONG = "so it is. " * 40_000
WIDE = "日本語" * 20_000


@pytest.mark.parametrize("text", [LONG, WIDE])
async def test_a_long_answer_is_looked_at_to_its_end_and_passed_on_unchanged(
    engine: StartEngine, serve: Serve, text: str
) -> None:
    """Plain and in a stream, in one event and in order with what comes behind it."""
    upstream = await engine(answers(text))
    rig = await serve(snapshot(route(A, upstream, guardrails=(NO_LEAKS,))))
    async with rig.client() as client:
        fine = await client.post("/v1/chat/completions", json=CHAT)
        upstream.behave = streams("so ", text, " and so on")
        stream = await client.post("/v1/chat/completions", json=STREAM)
        upstream.behave = answers(text + SECRET)
        withheld = await client.post("/v1/chat/completions", json=CHAT)
        upstream.behave = streams("so ", text + SECRET, " and so on")
        ended = await client.post("/v1/chat/completions", json=STREAM)
    assert fine.json()["choices"][0]["message"]["content"] == text
    said = [json.loads(line[6:]) for line in stream.text.splitlines() if line[6:].startswith("{")]
    deltas = [one["choices"][0]["delta"]["content"] for one in said if one["choices"]]
    assert deltas == ["so ", text, " and so on"]
    assert "[DONE]" in stream.text
    assert withheld.json()["choices"][0]["finish_reason"] == "content_filter"
    assert SECRET not in ended.text
    assert "and so on" not in ended.text
    assert '"code":"guardrail"' in ended.text
    assert [r.guardrail_hits for r in await recorded(rig, 4)] == [0, 0, 1, 1]


async def test_a_client_that_leaves_while_its_answer_is_looked_at_is_recorded(
    engine: StartEngine, serve: Serve
) -> None:
    """Its slot is free again for the next one."""
    upstream = await engine(streams("so ", *[WIDE] * 8))
    only = route(A, upstream, slots=1, guardrails=(SEES_LEAKS,))
    rig = await serve(snapshot(only))
    async with rig.client() as client:
        async with client.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
            async for _ in answer.aiter_bytes():
                break
        upstream.behave = answers("hi")
        fine = await client.post("/v1/chat/completions", json=CHAT)
    assert fine.status_code == 200
    first, _ = await recorded(rig, 2)
    assert first.status in (200, 499)


async def test_a_long_prompt_is_looked_at_by_a_fallback_as_well(
    engine: StartEngine, serve: Serve
) -> None:
    """With its slot taken meanwhile, which is free again when the prompt is blocked."""
    upstream = await engine(answers("hi"))
    own = snapshot(route(A, "http://127.0.0.1:1"), limits=Limits(queue_timeout_s=0.2))
    bank = msgspec.structs.replace(own.services["bank"], fallbacks=("spare",))
    guarded = route(B, upstream, slots=1, guardrails=(NO_SECRETS,))
    spare = ServiceRoute("spare", {B: guarded}, champion=B)
    rig = await serve(msgspec.structs.replace(own, services={"bank": bank, "spare": spare}))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=asks(LONG + SECRET))
        fine = await client.post("/v1/chat/completions", json=asks(LONG))
    assert error_of(answer) == (400, "guardrail")
    assert fine.status_code == 200
    assert len(upstream.asked) == 1


async def test_an_answer_that_is_looked_at_for_long_is_not_late(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has come in time: nobody else is asked."""

    def add(_: Turns, key: str, step: Step) -> None:
        def look() -> None:
            while step():
                pass

        asyncio.get_running_loop().call_later(1.5, look)

    monkeypatch.setattr(Turns, "add", add)
    upstream = await engine(answers("hi"))
    limits = Limits(attempt_timeout_s=1.0, attempts=3)
    rig = await serve(snapshot(route(A, upstream, guardrails=(SEES_LEAKS,)), limits=limits))
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=CHAT)  # The head is known from now on.
        upstream.behave = answers("so it is. " * 3_000)
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    assert [r.attempts for r in await recorded(rig, 2)] == [1, 1]


async def test_others_are_answered_while_an_answer_is_held_against_schemas(
    engine: StartEngine, serve: Serve
) -> None:
    """It takes a second or so in all, and none of it long."""
    schema = json.dumps({"items": {"anyOf": [*[{"type": "null"}] * 10, {"type": "integer"}]}})
    forms = tuple(Guardrail(f"form-{n}", "answer", schema=schema) for n in range(16))
    order: list[str] = []

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        is_slow = b"slow" in asked.body
        await answers(f"[{'1,' * 3_000}1]" if is_slow else "[1]")(asked, writer)
        order.append("said" if is_slow else "")

    upstream = await engine(behave)
    rig = await serve(snapshot(route(A, upstream, guardrails=forms)))
    async with rig.client() as client:

        async def ask(text: str) -> None:
            answer = await client.post("/v1/chat/completions", json=asks(text))
            assert answer.status_code == 200
            order.append(text)

        asking = asyncio.ensure_future(ask("slow"))
        while not asking.done():
            await ask("quick")
        await asking
    meanwhile = order[order.index("said") : order.index("slow")]
    assert meanwhile.count("quick") >= 5
    assert {record.guardrail_hits for record in await recorded(rig, 2)} == {0}
