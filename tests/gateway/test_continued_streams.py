"""A replica dies in the middle of a stream; another one goes on, and the client sees one stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

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
    chunk,
    hangs,
    head,
    reset,
    route,
    snapshot,
    until,
)

from fairlead.domain.release import Prompt
from fairlead.wire.snapshot import Limits, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]

WORDS = ["Your", " card", " was", " sent", ".\n\n", "It", " takes", " five", " days", "."]
TEXT = "".join(WORDS)
PROMPT_TOKENS = 7
CHAT_PATH = "/v1/chat/completions"
TEXT_PATH = "/v1/completions"
STREAM = {**CHAT, "stream": True}
PROMPT: dict[str, Any] = {"model": "bank", "prompt": "Where is it? ", "stream": True}


def speaks(
    number: int,
    *,
    cut_after: int | None = None,
    trims: bool = False,
    before_done: bool = False,
    delta: dict[str, Any] | None = None,
    tokens_factor: int = 1,
    error: dict[str, Any] | None = None,
) -> Behaviour:
    """An engine that says `WORDS`, one a token, from wherever the request's text ends.

    Args:
        cut_after: It dies after so many events with text.
        trims: Its chat template trims what was said.
        before_done: It dies after the event with the finish reason.
        delta: Sent before the text.
        tokens_factor: It reads so many tokens in each word, and names them by number.
        error: Instead of dying it reports this, and ends the stream.
    """

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = asked.json
        if asked.path == "/tokenize":
            answer = json.dumps({"tokens": tokens_of(body, tokens_factor)}).encode()
            writer.write(head(200, content_length=len(answer)) + answer)
            await writer.drain()
            return
        is_chat = asked.path == CHAT_PATH
        said = said_in(body) if is_chat else body["prompt"].removeprefix(PROMPT["prompt"])
        said = said.strip() if trims else said
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 10**6
        base = {
            "id": f"id-{number}",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": number,
            "model": f"model-{number}",
            "system_fingerprint": f"fp-{number}",
        }

        def sends(choice: dict[str, Any] | None, **more: Any) -> None:
            choices = [] if choice is None else [{"index": 0, "finish_reason": None, **choice}]
            data = json.dumps({**base, "choices": choices, **more})
            writer.write(chunk(b"data: %b\n\n" % data.encode()))

        def text(value: str) -> dict[str, Any]:
            return {"delta": {"content": value}} if is_chat else {"text": value, "logprobs": None}

        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        if is_chat:
            sends({"delta": {"role": "assistant", "content": ""}})
        if delta is not None:
            sends({"delta": delta})
        count = 0
        words = list(after(said, len(TEXT)))
        for word in words[:limit]:
            if count == cut_after and error is not None:
                report = b"data: %b\n\n" % json.dumps({"error": error}).encode()
                writer.write(chunk(report) + chunk(b"data: [DONE]\n\n") + chunk(b""))
                await writer.drain()
                return
            if count == cut_after:
                await dies(writer)
                return
            sends(text(word))
            await writer.drain()
            await asyncio.sleep(0.001)
            count += 1
        end = {"delta": {}} if is_chat else {"text": ""}
        sends({**end, "finish_reason": "length" if len(words) > limit else "stop"})
        if before_done:
            await dies(writer)
            return
        prompt = PROMPT_TOKENS + len(list(after("", len(said))))
        if body.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": prompt, "completion_tokens": count}
            sends(None, usage={**usage, "total_tokens": prompt + count})
        writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))
        await writer.drain()

    return behave


def tokens_of(body: dict[str, Any], factor: int) -> list[Any]:
    """How it reads a text: in words, as it says it."""
    text = body["content"] if "content" in body else body["prompt"]
    words = [PROMPT["prompt"]] if text.startswith(PROMPT["prompt"]) else []
    at = sum(map(len, words))
    for word in WORDS:
        if at < len(text):
            words.append(text[at : at + len(word)])
            at += len(word)
    if factor == 1 and "with_pieces" in body:
        return [{"id": number, "piece": word} for number, word in enumerate(words)]
    return list(range(len(words) * factor))


async def dies(writer: asyncio.StreamWriter) -> None:
    writer.write(b"2f\r\ndata: {half an eve")
    await writer.drain()
    await asyncio.sleep(0.02)
    reset(writer)


def said_in(body: dict[str, Any]) -> str:
    last = body["messages"][-1]
    return str(last["content"]) if last["role"] == "assistant" else ""


def after(said: str, end: int) -> Iterator[str]:
    """The words (or the rest of one) between the end of `said` and `end`."""
    assert TEXT.startswith(said), said
    at = 0
    for word in WORDS:
        start, at = at, at + len(word)
        if at > len(said) and start < end:
            yield word[max(0, len(said) - start) :]


class Stream:
    """A stream as a client reads it."""

    def __init__(self, content: bytes) -> None:
        assert content.endswith(b"\n\n")
        lines = content.decode().split("\n\n")[:-1]
        assert all(line.startswith("data: ") for line in lines)
        self.is_done = lines[-1] == "data: [DONE]"
        assert lines.count("data: [DONE]") <= 1
        self.events = [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]
        self.errors = [e["error"]["code"] for e in self.events if "error" in e]
        chunks = [e for e in self.events if "error" not in e]
        self.identities = {
            (e["id"], e["object"], e["created"], e["model"], e["system_fingerprint"])
            for e in chunks
        }
        choices = [e["choices"][0] for e in chunks if e["choices"]]
        deltas = [c["delta"] if "delta" in c else {"content": c["text"]} for c in choices]
        self.text = "".join(d.get("content") or "" for d in deltas)
        self.roles = sum("role" in d for d in deltas)
        self.finishes = [c["finish_reason"] for c in choices if c["finish_reason"]]
        self.usage = [e["usage"] for e in chunks if e.get("usage")]


async def ask(rig: Rig, body: dict[str, Any], path: str = CHAT_PATH) -> Stream:
    async with rig.client() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return Stream(answer.content)


@pytest.mark.parametrize("path", [CHAT_PATH, TEXT_PATH])
@pytest.mark.parametrize("engine_kind", ["llama.cpp", "vllm"])
@pytest.mark.parametrize("at", range(len(WORDS)))
async def test_a_stream_that_breaks_anywhere_reads_as_if_nothing_had_happened(
    engine: StartEngine, serve: Serve, path: str, engine_kind: str, at: int
) -> None:
    trims = engine_kind == "vllm" and path == CHAT_PATH
    one = await engine(speaks(1, cut_after=at, trims=trims))
    two = await engine(speaks(2, cut_after=None, trims=trims))
    rig = await serve(snapshot(route(A, one, two, continues=engine_kind)))
    wish = {**(STREAM if path == CHAT_PATH else PROMPT), "seed": 3, "temperature": 0}
    wish["stream_options"] = {"include_usage": True}
    streams = [await ask(rig, wish, path) for _ in range(2)]
    assert any(asked.path == path for asked in one.asked), "each had its turn"
    for stream in streams:
        assert stream.text == TEXT
        assert stream.is_done
        assert stream.roles == (path == CHAT_PATH)
        assert stream.finishes == ["stop"]
        assert len(stream.identities) == 1
        (usage,) = stream.usage
        assert usage["prompt_tokens"] == PROMPT_TOKENS
        assert usage["completion_tokens"] == len(WORDS)
        assert usage["total_tokens"] == PROMPT_TOKENS + len(WORDS)
    assert {(r.status, r.error) for r in rig.requests()} == {(200, "")}
    assert sorted(r.attempts for r in rig.requests()) == [1, 2]
    assert {(r.prompt_tokens, r.completion_tokens) for r in rig.requests()} == {
        (PROMPT_TOKENS, len(WORDS))
    }
    continued = 0 if at == 0 and path == TEXT_PATH else 1
    async with rig.client() as client:
        metrics = (await client.get("/metrics")).text
    name = 'fairlead_gateway_streams_continued_total{service="bank"}'
    assert (f"{name} 1" in metrics) == bool(continued)
    rest = [a.json for a in two.asked if a.path == path and a.json.get("seed") == 3]
    assert rest


DEAD = {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}
ITS_OWN = {"message": "The prompt is too long.", "type": "BadRequestError", "code": 400}


@pytest.mark.parametrize("at", [0, 1, 4])
async def test_an_engine_that_reports_its_own_failure_is_gone_on_from(
    engine: StartEngine, serve: Serve, at: int
) -> None:
    one = await engine(speaks(1, cut_after=at, error=DEAD))
    two = await engine(speaks(2))
    rig = await serve(snapshot(route(A, one, two, continues="llama.cpp")))
    for _ in range(2):
        stream = await ask(rig, STREAM)
        assert (stream.text, stream.errors, stream.is_done) == (TEXT, [], True)
        assert len(stream.identities) == 1
    assert one.asked, "each had its turn"
    assert {(r.status, r.error) for r in rig.requests()} == {(200, "")}
    assert sorted(r.attempts for r in rig.requests()) == [1, 2]


async def test_a_failure_reported_before_anything_was_said_is_retried_on_any_engine(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(speaks(1, cut_after=0, error=DEAD))
    two = await engine(speaks(2))
    rig = await serve(snapshot(route(A, one, two)))
    for _ in range(2):
        stream = await ask(rig, PROMPT, TEXT_PATH)
        assert (stream.text, stream.errors, stream.is_done) == (TEXT, [], True)
    assert one.asked, "each had its turn"


async def test_an_error_that_is_the_requests_own_is_the_clients(
    engine: StartEngine, serve: Serve
) -> None:
    engines = [await engine(speaks(n, cut_after=2, error=ITS_OWN)) for n in range(2)]
    rig = await serve(snapshot(route(A, *engines, continues="llama.cpp")))
    stream = await ask(rig, STREAM)
    assert (stream.text, stream.errors) == ("".join(WORDS[:2]), [400])
    assert sum(len(each.asked) for each in engines) == 1
    (record,) = rig.requests()
    assert (record.status, record.error, record.attempts) == (200, "upstream_error", 1)


async def test_a_failure_that_nobody_can_go_on_from_is_told_as_the_engine_said_it(
    engine: StartEngine, serve: Serve
) -> None:
    engines = [await engine(speaks(n, cut_after=2, error=DEAD)) for n in range(2)]
    rig = await serve(snapshot(route(A, *engines)))
    stream = await ask(rig, STREAM)
    assert (stream.text, stream.errors) == ("".join(WORDS[:2]), [500])
    assert rig.requests()[0].error == "upstream_error"


@pytest.mark.parametrize("asks_usage", [False, True])
async def test_what_is_asked_of_the_next_engine(
    engine: StartEngine, serve: Serve, asks_usage: bool
) -> None:
    one = await engine(speaks(1, cut_after=3))
    rig = await serve(
        snapshot(
            route(
                A, one, continues="llama.cpp", sampling={"max_tokens": 8}, prompt=Prompt(system="S")
            )
        )
    )
    wish: dict[str, Any] = {**STREAM, "stop": ["END"], "seed": 5, "min_tokens": 4}
    if asks_usage:
        wish["stream_options"] = {"include_usage": True}
    asking = asyncio.ensure_future(ask(rig, wish))
    await until(lambda: len(one.asked) == 1)
    one.behave = speaks(2)
    stream = await asking
    assert stream.text == "".join(WORDS[:8])
    assert stream.finishes == ["length"]
    assert len(stream.usage) == asks_usage
    first, count, rest = one.asked
    assert count.path == "/tokenize"
    assert count.json == {"content": "Your card was", "add_special": False, "with_pieces": True}
    assert rest.json == {
        **first.json,
        "messages": [*first.json["messages"], {"role": "assistant", "content": "Your card was"}],
        "max_tokens": 5,
        "min_tokens": 1,
    }
    assert rest.json["stream_options"] == {"include_usage": True}


async def test_vllm_is_told_to_go_on_from_the_last_message(
    engine: StartEngine, serve: Serve
) -> None:
    one, two = await engine(speaks(1, cut_after=5)), await engine(speaks(2, cut_after=5))
    rig = await serve(snapshot(route(A, one, two, continues="vllm")))
    one_cut = asyncio.ensure_future(ask(rig, {**STREAM, "max_completion_tokens": 9}))
    await until(lambda: bool(one.asked or two.asked))
    (one if not one.asked else two).behave = speaks(2)
    assert (await one_cut).text == "".join(WORDS[:9])
    rest = (one if one.asked[0].path == "/tokenize" else two).asked[-1].json
    assert rest["messages"][-1] == {"role": "assistant", "content": "Your card was sent."}
    assert rest["continue_final_message"] is True
    assert rest["add_generation_prompt"] is False


@pytest.mark.parametrize("temperature", [0, 1])
async def test_a_text_that_the_client_began_is_gone_on_with(
    engine: StartEngine, serve: Serve, temperature: float
) -> None:
    one = await engine(speaks(1, cut_after=2))
    rig = await serve(snapshot(route(A, one, continues="llama.cpp")))
    begun = [*CHAT["messages"], {"role": "assistant", "content": "Your card"}]
    wish = {**STREAM, "messages": begun, "max_tokens": 6, "temperature": temperature}
    wish["stream_options"] = {"include_usage": True}
    asking = asyncio.ensure_future(ask(rig, wish))
    await until(lambda: len(one.asked) == 1)
    one.behave = speaks(2)
    stream = await asking
    assert (stream.text, stream.finishes) == ("".join(WORDS[2:8]), ["length"])
    assert stream.usage[0]["completion_tokens"] == 6
    first, count, rest = (asked.json for asked in one.asked)
    assert count["content"] == "Your card was sent"
    said = {"role": "assistant", "content": "Your card was sent"}
    assert rest == {**first, "messages": [*CHAT["messages"], said], "max_tokens": 4}


def speaks_but_does_not_count(behave: Behaviour, status: int = 404) -> Behaviour:
    async def without(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/tokenize":
            writer.write(head(status, content_length=0))
        else:
            await behave(asked, writer)

    return without


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_a_replica_that_will_not_go_on_leaves_it_to_another(
    engine: StartEngine, serve: Serve, status: int
) -> None:
    came: list[str] = []

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path != "/tokenize":
            came.append(asked.path)
        if len(came) == 2:
            await answers(status=status)(asked, writer)
        else:
            await speaks(len(came), cut_after=2 if len(came) == 1 else None)(asked, writer)

    engines = [await engine(behave) for _ in range(3)]
    rig = await serve(snapshot(route(A, *engines, continues="llama.cpp")))
    stream = await ask(rig, STREAM)
    assert stream.text == TEXT
    assert stream.errors == []
    assert len(came) == 3
    (record,) = rig.requests()
    assert (record.status, record.error, record.attempts) == (200, "", 3)


async def test_a_stream_may_break_as_often_as_there_are_attempts(
    engine: StartEngine, serve: Serve
) -> None:
    engines = [await engine(speaks(n, cut_after=2)) for n in range(4)]
    limits = Limits(attempts=3, queue_timeout_s=3)
    rig = await serve(snapshot(route(A, *engines, continues="llama.cpp"), limits=limits))
    stream = await ask(rig, STREAM)
    assert stream.text == "".join(WORDS[:6])
    assert (stream.errors, stream.is_done) == (["upstream_cut"], False)
    assert len(stream.identities) == 1
    (record,) = rig.requests()
    assert (record.status, record.error, record.attempts) == (200, "upstream_cut", 3)


async def test_five_replicas_can_share_one_stream(engine: StartEngine, serve: Serve) -> None:
    engines = [await engine(speaks(n, cut_after=2)) for n in range(5)]
    limits = Limits(attempts=6, queue_timeout_s=3)
    rig = await serve(snapshot(route(A, *engines, continues="llama.cpp"), limits=limits))
    stream = await ask(rig, {**STREAM, "stream_options": {"include_usage": True}})
    assert (stream.text, stream.finishes, stream.is_done) == (TEXT, ["stop"], True)
    assert len(stream.identities) == 1
    assert stream.roles == 1
    (usage,) = stream.usage
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (PROMPT_TOKENS, len(WORDS))


@pytest.mark.parametrize("asks_usage", [False, True])
@pytest.mark.parametrize("path", [CHAT_PATH, TEXT_PATH])
async def test_when_only_the_end_is_missing_nothing_is_said_again(
    engine: StartEngine, serve: Serve, asks_usage: bool, path: str
) -> None:
    one = await engine(speaks(1, before_done=True))
    rig = await serve(snapshot(route(A, one, continues="llama.cpp")))
    wish = {**(STREAM if path == CHAT_PATH else PROMPT), "max_tokens": 4}
    if asks_usage:
        wish["stream_options"] = {"include_usage": True}
    asking = asyncio.ensure_future(ask(rig, wish, path))
    await until(lambda: len(one.asked) == 1)
    one.behave = speaks(2)
    stream = await asking
    assert (stream.text, stream.finishes) == ("".join(WORDS[:4]), ["length"])
    assert stream.is_done
    assert len(one.asked) == 1 + asks_usage
    if asks_usage:
        assert stream.usage[0]["completion_tokens"] == 4
        assert stream.usage[0]["prompt_tokens"] == PROMPT_TOKENS
    assert rig.requests()[0].error == ""


@pytest.mark.parametrize("asks_usage", [False, True])
async def test_a_stream_that_breaks_at_its_limit_ends_there(
    engine: StartEngine, serve: Serve, asks_usage: bool
) -> None:
    one = await engine(speaks(1, cut_after=4))
    rig = await serve(snapshot(route(A, one, continues="vllm")))
    # The engine would say more than it may: it dies before it says that it must not.
    wish: dict[str, Any] = {**STREAM, "max_tokens": 4}
    if asks_usage:
        wish["stream_options"] = {"include_usage": True}

    async def cut_at_the_limit(asked: Asked, writer: asyncio.StreamWriter) -> None:
        longer = json.dumps({**asked.json, "max_tokens": 5}).encode()
        await speaks(1, cut_after=4)(Asked(asked.path, asked.headers, longer, asked.writer), writer)

    one.behave = cut_at_the_limit
    asking = asyncio.ensure_future(ask(rig, wish))
    await until(lambda: len(one.asked) == 1)
    one.behave = speaks(2)
    stream = await asking
    assert (stream.text, stream.finishes) == ("".join(WORDS[:4]), ["length"])
    assert stream.is_done
    assert len(stream.identities) == 1
    if asks_usage:
        assert stream.usage[0]["completion_tokens"] == 4


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"grammar": "root ::= [a-z]+"},
        {"tool_choice": "required"},
        {"messages": [{"role": "assistant", "content": [{"type": "text", "text": ""}]}]},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_what_the_engine_could_not_go_on_with_ends_with_an_error_event(
    engine: StartEngine, serve: Serve, more: dict[str, Any]
) -> None:
    async def deaf(asked: Asked, writer: asyncio.StreamWriter) -> None:
        plain = json.dumps(STREAM).encode()
        await speaks(1, cut_after=2)(Asked(asked.path, asked.headers, plain, writer), writer)

    one, two = await engine(deaf), await engine(deaf)
    rig = await serve(snapshot(route(A, one, two, continues="llama.cpp")))
    stream = await ask(rig, {**STREAM, **more})
    assert (stream.text, stream.errors) == ("Your card", ["upstream_cut"])
    assert len(one.asked) + len(two.asked) == 1
    assert rig.requests()[0].error == "upstream_cut"


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]},
        {"function_call": {"name": "f", "arguments": "{"}},
        {"reasoning_content": "Hm"},
        {"something_new": "?"},
    ],
    ids=lambda delta: next(iter(delta)),
)
async def test_a_call_or_a_thought_half_way_ends_with_an_error_event(
    engine: StartEngine, serve: Serve, delta: dict[str, Any]
) -> None:
    one, two = [await engine(speaks(n, cut_after=2, delta=delta)) for n in (1, 2)]
    rig = await serve(snapshot(route(A, one, two, continues="llama.cpp")))
    stream = await ask(rig, STREAM)
    assert stream.errors == ["upstream_cut"]
    assert len(one.asked) + len(two.asked) == 1


async def test_a_text_that_is_read_back_as_other_tokens_is_not_gone_on_with(
    engine: StartEngine, serve: Serve
) -> None:
    one, two = [await engine(speaks(n, cut_after=3, tokens_factor=3)) for n in (1, 2)]
    rig = await serve(snapshot(route(A, one, two, continues="llama.cpp")))
    stream = await ask(rig, STREAM)
    assert (stream.text, stream.errors) == ("Your card was", ["upstream_cut"])
    assert sorted(a.path for e in (one, two) for a in e.asked) == ["/tokenize", CHAT_PATH]


async def test_a_remote_provider_s_stream_ends_with_an_error_event(
    engine: StartEngine, serve: Serve
) -> None:
    one, two = [await engine(speaks(n, cut_after=2)) for n in (1, 2)]
    rig = await serve(snapshot(route(A, one, two)))
    stream = await ask(rig, STREAM)
    assert stream.errors == ["upstream_cut"]
    assert len(one.asked) + len(two.asked) == 1


async def test_without_another_replica_it_waits_and_then_ends_with_an_error_event(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(speaks(1, cut_after=2))
    limits = Limits(queue_timeout_s=0.3)
    rig = await serve(snapshot(route(A, one, continues="llama.cpp"), limits=limits))
    asking = asyncio.ensure_future(ask(rig, STREAM))
    await until(lambda: rig.waiting("bank") == 1)
    await one.kill()
    stream = await asking
    assert stream.text in ("Your", "Your card")
    assert stream.errors == ["upstream_cut"]


async def test_only_the_same_release_goes_on(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    canary, champion = await engine(speaks(1, cut_after=2)), await engine(speaks(2))
    limits = Limits(queue_timeout_s=5)
    both = route(A, champion, continues="llama.cpp"), route(B, canary, continues="llama.cpp")
    rig = await serve(snapshot(*both, share=1.0, limits=limits))
    asking = asyncio.ensure_future(ask(rig, STREAM))
    await until(lambda: rig.waiting("bank") == 1)
    await canary.kill()
    # Others of its arm are not held up by it: they go to the champion.
    other = await ask(rig, STREAM)
    assert other.text == TEXT
    assert not asking.done()
    control.publish(snapshot(both[0], version=2, limits=limits))
    stream = await asking
    assert stream.errors == ["upstream_cut"]
    assert all(said_in(a.json) == "" for a in champion.asked)


async def test_an_engine_that_refuses_the_rest_ends_the_stream_with_an_error_event(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(speaks(1, cut_after=2))
    rig = await serve(snapshot(route(A, one, continues="llama.cpp")))

    async def refuses(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = b'{"error": {"message": "no prefill here"}}'
        writer.write(head(400, content_length=len(body)) + body)
        await writer.drain()

    asking = asyncio.ensure_future(ask(rig, STREAM))
    await until(lambda: len(one.asked) == 1)
    one.behave = refuses
    stream = await asking
    assert stream.errors == ["upstream_cut"]
    assert [a.path for a in one.asked] == [CHAT_PATH, "/tokenize", CHAT_PATH]


async def test_a_stream_that_is_never_gone_on_with_times_out_with_an_error_event(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine(speaks(1, cut_after=2))
    limits = Limits(request_timeout_s=0.6)
    rig = await serve(snapshot(route(A, one, continues="llama.cpp"), limits=limits))
    asking = asyncio.ensure_future(ask(rig, STREAM))
    await until(lambda: len(one.asked) == 1)
    one.behave = hangs
    stream = await asking
    assert stream.errors == ["timeout"]


async def test_a_long_text_that_breaks_late_is_gone_on_with(
    engine: StartEngine, serve: Serve
) -> None:
    """Longer than what is kept raw, so that it was read in several blocks."""
    words = [f" word{n}" for n in range(400)]
    rig_text = "".join(words)

    def says(cut_after: int | None) -> Behaviour:
        async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
            if asked.path == "/tokenize":
                await speaks_but_does_not_count(behave)(asked, writer)
                return
            start = len(said_in(asked.json).split())
            writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
            for number, word in enumerate(words[start:]):
                if number == cut_after:
                    await dies(writer)
                    return
                choice = {"index": 0, "delta": {"content": word}}
                same = {"id": "i", "object": "o", "created": 1, "model": "m"}
                data = {**same, "system_fingerprint": "f", "choices": [choice]}
                data["choices"][0]["finish_reason"] = None
                writer.write(chunk(b"data: %b\n\n" % json.dumps(data).encode()))
            writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))
            await writer.drain()

        return behave

    one, two = await engine(says(333)), await engine(says(333))
    rig = await serve(snapshot(route(A, one, two, continues="llama.cpp")))
    stream = await ask(rig, STREAM)
    assert stream.text == rig_text
    assert stream.is_done
