"""A text that would not be read back as it was said is said again from where that begins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from typing import Any, Literal

import pytest
from gateway_rig import (
    CHAT,
    A,
    Asked,
    Behaviour,
    Engine,
    Rig,
    chunk,
    event,
    head,
    reset,
    route,
    snapshot,
)

from fairlead.gateway.streams.recount import Reading
from fairlead.wire.snapshot import Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]

SAID = ["Your", " ca", "rd", " was", " sent", "."]
READ = ["Your", " card", " was", " sent", "."]
OTHER = ["Your", " card", " is", " on", " its", " way"]
"""What the same engine says of a text in which it reads `READ`."""
TOKENS = sorted({*SAID, *READ, *OTHER}, key=len, reverse=True)
Tells = Literal["pieces", "numbers", "nothing"]
GREEDY = {**CHAT, "stream": True, "temperature": 0, "stream_options": {"include_usage": True}}
BEGUN = [*CHAT["messages"], {"role": "assistant", "content": "Your ca"}]
PROMPT_TOKENS = 7


def ends(pieces: Sequence[str | bytes]) -> tuple[int, ...]:
    return tuple(accumulate(len(p.encode() if isinstance(p, str) else p) for p in pieces))


def speaks(
    *, cut_after: int | None = None, says: Sequence[str] = SAID, tells: Tells = "pieces"
) -> Behaviour:
    """An engine that says `says` in its own tokens, if it is not asked to go on from others.

    Args:
        tells: What it tells of the tokens that it reads in a text.
    """

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = asked.json
        if asked.path == "/tokenize":
            read = reads(body["content"])
            numbers = [TOKENS.index(piece) for piece in read]
            pieces = [{"id": n, "piece": p} for n, p in zip(numbers, read, strict=True)]
            answer = json.dumps({"tokens": pieces if tells == "pieces" else numbers}).encode()
            status = 404 if tells == "nothing" else 200
            writer.write(head(status, content_length=len(answer)) + answer)
            await writer.drain()
            return
        last = body["messages"][-1]
        given = last["content"] if last["role"] == "assistant" else ""
        read = reads(given)
        left = list(says[len(read) :] if read == list(says[: len(read)]) else OTHER[len(read) :])
        limit = body.get("max_tokens", 100)
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        for number, text in enumerate(left[:limit]):
            if number == cut_after:
                await writer.drain()
                await asyncio.sleep(0.02)
                reset(writer)
                return
            writer.write(chunk(event(text)))
            await writer.drain()
        count, prompt = len(left[:limit]), PROMPT_TOKENS + len(read)
        usage = {"prompt_tokens": prompt, "completion_tokens": count}
        writer.write(chunk(event(None, usage={**usage, "total_tokens": prompt + count})))
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        writer.write(chunk(b"data: %b\n\n" % json.dumps({"choices": [end]}).encode()))
        writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))
        await writer.drain()

    return behave


def reads(text: str) -> list[str]:
    """The longest tokens first, as many a tokenizer does."""
    found: list[str] = []
    while text:
        found.append(next(token for token in TOKENS if text.startswith(token)))
        text = text[len(found[-1]) :]
    return found


class Answer:
    def __init__(self, content: bytes) -> None:
        lines = content.decode().split("\n\n")[:-1]
        events = [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]
        self.is_done = lines[-1] == "data: [DONE]"
        self.errors = [e["error"]["code"] for e in events if "error" in e]
        choices = [c for e in events for c in e.get("choices", [])]
        self.texts = [c["delta"].get("content", "") for c in choices]
        self.text = "".join(self.texts)
        self.usage = next((e["usage"] for e in events if e.get("usage")), None)


async def ask(rig: Rig, body: dict[str, Any]) -> Answer:
    async with rig.client() as client:
        return Answer((await client.post("/v1/chat/completions", json=body)).content)


async def broken(
    engine: StartEngine,
    serve: Serve,
    body: dict[str, Any],
    second: Behaviour,
    first: Behaviour | int,
) -> tuple[Answer, Rig, list[Any]]:
    """A stream that breaks, and what was asked for it and for its rest.

    Args:
        first: How the engine behaves first, or after how many events it dies.
    """
    dying = speaks(cut_after=first) if isinstance(first, int) else first

    async def dies(asked: Asked, writer: asyncio.StreamWriter) -> None:
        one.behave = second
        await dying(asked, writer)

    one = await engine(dies)
    rig = await serve(snapshot(route(A, one, continues="llama.cpp")))

    answer = await ask(rig, body)
    return answer, rig, [asked.json for asked in one.asked if asked.path != "/tokenize"]


@pytest.mark.parametrize("cut_after", range(1, len(SAID)))
async def test_a_stream_that_leaves_nothing_to_chance_reads_as_if_undisturbed(
    engine: StartEngine, serve: Serve, cut_after: int
) -> None:
    body = {**GREEDY, "max_tokens": 6}
    answer, rig, asked = await broken(engine, serve, body, speaks(), cut_after)
    assert (answer.text, answer.is_done, answer.errors) == ("".join(SAID), True, [])
    assert answer.usage == {"prompt_tokens": 7, "completion_tokens": 6, "total_tokens": 13}
    first, rest = asked
    kept = 2 if cut_after == 2 else 1
    said = [*first["messages"], {"role": "assistant", "content": "".join(SAID[:kept])}]
    assert rest == {**first, "messages": said, "max_tokens": 6 - kept}
    assert rig.requests()[0].completion_tokens == 6


async def test_what_is_left_to_chance_is_gone_on_with_from_the_text(
    engine: StartEngine, serve: Serve
) -> None:
    answer, _, asked = await broken(
        engine, serve, {**GREEDY, "temperature": 0.5}, speaks(says=READ), 4
    )
    assert asked[1]["messages"][-1]["content"] == "Your card was"
    assert (answer.text, answer.is_done) == ("".join(READ), True)
    # Four tokens were said, which are read as three: those are no part of the prompt.
    assert answer.usage == {"prompt_tokens": 7, "completion_tokens": 6, "total_tokens": 13}


async def test_what_a_client_had_begun_is_read_with_what_was_said(
    engine: StartEngine, serve: Serve
) -> None:
    assert reads("rd was") == SAID[2:4], "alone it is read as it was said"
    assert reads("Your card was") != SAID[:4]
    body = {**GREEDY, "messages": BEGUN}
    answer, _, (first, rest) = await broken(engine, serve, body, speaks(), 2)
    assert (answer.text, answer.is_done) == ("".join(SAID[2:]), True)
    assert rest == first, "from where the client had begun"


@pytest.mark.parametrize("tells", ["numbers", "nothing"])
@pytest.mark.parametrize("messages", [CHAT["messages"], BEGUN], ids=["said", "begun"])
async def test_where_the_engine_does_not_tell_how_it_reads_all_is_said_again(
    engine: StartEngine, serve: Serve, tells: Tells, messages: list[Any]
) -> None:
    body = {**GREEDY, "messages": messages, "max_tokens": 6}
    answer, rig, (first, rest) = await broken(engine, serve, body, speaks(tells=tells), 3)
    says = SAID if messages is not BEGUN else SAID[2:]
    assert (answer.text, answer.is_done, answer.errors) == ("".join(says), True, [])
    assert rest == first
    assert rig.requests()[0].completion_tokens == len(says)


@pytest.mark.parametrize("messages", [CHAT["messages"], BEGUN], ids=["said", "begun"])
async def test_numbers_of_tokens_bound_what_is_left_to_chance(
    engine: StartEngine, serve: Serve, messages: list[Any]
) -> None:
    """A text that is read in far more tokens than were said is not gone on with."""
    phrase = ["".join(SAID[2:]) + " is on its way", "."]
    body = {**GREEDY, "temperature": 0.5, "messages": messages}
    first = speaks(says=[*SAID[:2], *phrase] if messages is BEGUN else phrase, cut_after=1)
    answer, _, asked = await broken(engine, serve, body, speaks(tells="numbers"), first)
    assert (answer.text, answer.errors) == (phrase[0], ["upstream_cut"])
    assert len(asked) == 1


@pytest.mark.parametrize(
    "says",
    [
        pytest.param(["Your", " order", " was", " sent"], id="another word"),
        pytest.param(["Your", " ca", "r"], id="an end before"),
    ],
)
async def test_if_it_becomes_another_text_the_stream_ends_with_an_error_event(
    engine: StartEngine, serve: Serve, says: list[str]
) -> None:
    answer, rig, asked = await broken(engine, serve, GREEDY, speaks(says=says), 4)
    assert (answer.text, answer.errors) == ("Your card was", ["upstream_diverged"])
    assert len(asked) == 2, "and nobody else is asked"
    assert rig.requests()[0].error == "upstream_diverged"
    async with rig.client() as client:
        metrics = (await client.get("/metrics")).text
    (counted,) = [
        line for line in metrics.splitlines() if line.startswith("fairlead_gateway_request_errors")
    ]
    assert 'error="upstream_diverged"} 1' in counted


@pytest.mark.parametrize(
    ("said", "read", "more", "alike"),
    [
        pytest.param(SAID, READ, {}, (4, 1), id="a word in other pieces"),
        pytest.param(READ, READ, {}, (19, 5), id="all the same"),
        pytest.param(["Your", " card"], ["Your", " ca", "rd"], {}, (4, 1), id="in more pieces"),
        pytest.param(
            ["Your", " card"], ["Your", " ca", "rd"], {}, (4, 1), id="in parts"
        ),
        pytest.param(["a", "日本"], ["a", b"\xe6", b"\x97\xa5\xe6", b"\x9c\xac"], {}, (7, 4),
                     id="parts of characters"),
        pytest.param(["a", "\ufffd"], ["a", b"\xef", b"\xbf\xbd"], {}, (1, 1),
                     id="what was no character"),
        pytest.param(["Your"], [" Your"], {}, (4, 1), id="a space put before"),
        pytest.param(["Your"], [" ", "Your"], {}, (4, 1), id="a space put before, alone"),
        pytest.param(["Your"], ["my", " Your"], {"lead": 3}, (0, 0), id="begun in the prompt"),
        pytest.param([" Your"], ["my", " Your"], {"lead": 2}, (5, 1), id="behind the prompt"),
        pytest.param(["Your", " card"], ["Your"], {}, None, id="another text"),
    ],
)  # fmt: skip
def test_how_far_a_text_is_read_as_it_was_said(
    said: list[str], read: list[str | bytes], more: dict[str, Any], alike: tuple[int, int] | None
) -> None:
    places = ends(read)
    reading = Reading(len(read), places[-1], read[0] == " ", places)
    assert reading.as_said("".join(said).encode(), ends(said), **more) == alike
