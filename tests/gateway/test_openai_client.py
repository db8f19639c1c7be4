"""The `openai` package speaks to the gateway as to OpenAI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import openai
import pytest
from gateway_rig import KEY, USAGE, A, Asked, Engine, Rig, answers, head, route, snapshot, streams

from fairlead.wire.snapshot import Limits, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]


async def speaks_openai(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answers by path, as an OpenAI-compatible server does."""
    if asked.path.endswith("/chat/completions"):
        await (streams("Hel", "lo") if asked.json.get("stream") else answers("Hello"))(
            asked, writer
        )
        return
    if asked.path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
        body = {"object": "list", "data": data, "model": "m", "usage": USAGE}
    else:
        choice = {"index": 0, "text": "done", "finish_reason": "stop", "logprobs": None}
        body = {
            "id": "t",
            "object": "text_completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": USAGE,
        }
    content = json.dumps(body).encode()
    writer.write(head(200, content_length=len(content)) + content)
    await writer.drain()


@pytest.fixture
async def client(engine: StartEngine, serve: Serve) -> AsyncIterator[openai.AsyncOpenAI]:
    rig = await serve(snapshot(route(A, await engine(speaks_openai)), limits=Limits(queue=0)))
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0) as made:
        yield made


async def test_chat(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="bank", messages=[{"role": "user", "content": "hi"}], user="u"
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 10
    assert raw.headers["x-fairlead-release"] == A
    assert raw.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("asks_usage", [False, True])
async def test_chat_stream(client: openai.AsyncOpenAI, asks_usage: bool) -> None:
    stream = await client.chat.completions.create(
        model="bank",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        **({"stream_options": {"include_usage": True}} if asks_usage else {}),  # type: ignore[call-overload]
    )
    texts, usages = [], []
    async for part in stream:
        texts += [choice.delta.content for choice in part.choices]
        usages += [part.usage] if part.usage is not None else []
    assert texts == ["Hel", "lo"]
    assert len(usages) == int(asks_usage)


async def test_completions_embeddings_and_models(client: openai.AsyncOpenAI) -> None:
    text = await client.completions.create(model="bank", prompt="p")
    assert text.choices[0].text == "done"
    embedding = await client.embeddings.create(model="bank", input="x", encoding_format="float")
    assert embedding.data[0].embedding == [0.5, -0.5]
    assert [model.id async for model in client.models.list()] == ["bank"]
    assert (await client.models.retrieve("bank")).id == "bank"


async def test_its_exceptions_are_raised(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.completions.create(model="nobody", prompt="p")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").completions.create(model="bank", prompt="p")
    with pytest.raises(openai.BadRequestError) as bad:
        await client.completions.create(model="bank", prompt="p", stream="x")  # type: ignore[call-overload]
    assert bad.value.param == "stream"
