"""The `anthropic` package speaks to the gateway as to Anthropic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import pytest
from gateway_rig import KEY, Engine, Rig, hangs, until
from scripted import fails, lacks, never_ends

Gateway = Callable[..., Awaitable[Rig]]
HI: Any = [{"role": "user", "content": "hi"}]
ASKED: Any = {"model": "bank", "max_tokens": 9, "messages": HI}


def client_of(rig: Rig, key: str = KEY) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key=key, base_url=rig.url, max_retries=0)


async def test_a_message_is_answered_and_metered(gateway: Gateway, engine: Engine) -> None:
    """Its key comes in `x-api-key`; input that was cached counts as input."""
    rig = await gateway()
    async with client_of(rig) as client:
        for _ in range(2):  # the second one by a head that is known
            answer = await client.messages.create(**ASKED, metadata={"user_id": "u1"})
            assert answer.content[0].text == "Hello"
    assert engine.asked[0].headers["anthropic-version"] == "2023-06-01"
    assert "x-api-key" not in engine.asked[0].headers, "a key of the gateway goes no further"
    assert engine.asked[0].json == {**ASKED, "metadata": {"user_id": "u1"}}
    for record in rig.requests():
        assert (record.endpoint, record.key, record.status) == ("messages", "k1", 200)
        assert (record.prompt_tokens, record.completion_tokens) == (7, 3)


async def test_users_are_told_apart_by_their_metadata(gateway: Gateway) -> None:
    rig = await gateway()
    async with client_of(rig) as client:
        for user in ("u1", "u2", "u1"):
            await client.messages.create(**ASKED, metadata={"user_id": user})
    one, other, again = (record.unit for record in rig.requests())
    assert one == again != other


async def test_a_stream_of_messages(gateway: Gateway) -> None:
    rig = await gateway()
    async with client_of(rig) as client:
        async with client.messages.stream(**ASKED) as stream:
            texts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
        assert texts == ["Hel", "lo"]
        assert final.usage.output_tokens == 3
        assert (await client.messages.create(**ASKED)).content[0].text == "Hello"
    record = rig.requests()[0]
    assert (record.stream, record.error) == (True, "")
    assert (record.prompt_tokens, record.completion_tokens) == (7, 3)


async def test_its_exceptions_are_raised(gateway: Gateway) -> None:
    rig = await gateway()
    async with client_of(rig) as client:
        with pytest.raises(anthropic.NotFoundError) as missing:
            await client.messages.create(**{**ASKED, "model": "nobody"})
        assert missing.value.body["type"] == "error"
        assert missing.value.body["error"]["type"] == "not_found_error"
    async with client_of(rig, key="wrong") as stranger:
        with pytest.raises(anthropic.AuthenticationError):
            await stranger.messages.create(**ASKED)


async def test_an_engine_s_own_errors_get_anthropic_s_form(gateway: Gateway) -> None:
    """llama.cpp and vLLM answer in OpenAI's form whatever was asked."""
    error = {"error": {"message": "too long", "type": "invalid_request_error", "code": 400}}
    async with client_of(await gateway(fails((400, error, {})))) as client:
        with pytest.raises(anthropic.BadRequestError) as refused:
            await client.messages.create(**ASKED)
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}
    assert refused.value.body == body


async def test_an_engine_without_messages_is_said_so(gateway: Gateway) -> None:
    async with client_of(await gateway(lacks)) as client:
        with pytest.raises(anthropic.BadRequestError, match="does not serve messages"):
            await client.messages.create(**ASKED)


async def test_a_wait_past_its_deadline_has_anthropic_s_form(gateway: Gateway) -> None:
    async with client_of(await gateway(hangs, request_timeout_s=0.3)) as client:
        with pytest.raises(anthropic.InternalServerError) as late:
            await client.messages.create(**ASKED)
    assert late.value.body["error"]["type"] == "api_error"


async def test_a_broken_stream_ends_with_an_error_event(gateway: Gateway, engine: Engine) -> None:
    rig = await gateway(never_ends())
    async with client_of(rig) as client:
        stream = await client.messages.create(**ASKED, stream=True)
        reading = asyncio.ensure_future(_read(stream))
        await until(lambda: stream.response.num_bytes_downloaded > 0)
        await engine.kill()
        with pytest.raises(anthropic.APIError, match="in the middle"):
            await reading


async def _read(stream: Any) -> None:
    async for _ in stream:
        pass
