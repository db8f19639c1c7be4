"""The `openai` package speaks to the gateway as to OpenAI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pydantic
import pytest
from gateway_rig import KEY, A, Asked, Engine, Rig, hangs, refuses_midway, streams, until
from scripted import fails, lacks, never_ends, speaks

Gateway = Callable[..., Awaitable[Rig]]

HI: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Intent(pydantic.BaseModel):
    intent: str


def client_of(rig: Rig, *, retries: int = 0, key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=f"{rig.url}/v1", max_retries=retries)


@pytest.fixture
async def rig(gateway: Gateway) -> Rig:
    return await gateway()


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(rig) as made:
        yield made


async def test_chat(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="bank", messages=HI, user="u"
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
        messages=HI,
        stream=True,
        **({"stream_options": {"include_usage": True}} if asks_usage else {}),  # type: ignore[call-overload]
    )
    texts, usages = [], []
    async for part in stream:
        texts += [choice.delta.content for choice in part.choices if choice.delta.content]
        usages += [part.usage] if part.usage is not None else []
    assert texts == ["Hel", "lo"]
    assert len(usages) == int(asks_usage)


async def test_completions_and_their_stream(client: openai.AsyncOpenAI) -> None:
    text = await client.completions.create(model="bank", prompt="p")
    assert text.choices[0].text == "Hello"
    stream = await client.completions.create(model="bank", prompt="p", stream=True)
    assert "".join([part.choices[0].text async for part in stream]) == "Hello"


async def test_embeddings_and_models(client: openai.AsyncOpenAI, rig: Rig) -> None:
    many = await client.embeddings.create(model="bank", input=["x", "y"], encoding_format="float")
    assert [each.embedding for each in many.data] == [[0.5, -0.5]] * 2
    assert [model.id async for model in client.models.list()] == ["bank"]
    assert (await client.models.retrieve("bank")).id == "bank"
    assert rig.requests()[0].prompt_tokens == 7


async def test_tools_are_passed_through_both_ways(
    client: openai.AsyncOpenAI, engine: Engine
) -> None:
    answer = await client.chat.completions.create(
        model="bank", messages=HI, tools=[WEATHER], tool_choice="auto"
    )
    assert engine.asked[0].json["tools"] == [WEATHER]
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Bern"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    said = answer.choices[0].message.model_dump(exclude_none=True)
    await client.chat.completions.create(model="bank", messages=[*HI, said, result])
    assert engine.asked[1].json["messages"][1:] == [said, result]


async def test_tools_in_a_stream(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="bank", messages=HI, tools=[WEATHER]) as stream:
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or ()
    assert (call.id, call.function.name) == ("call_1", "weather")
    assert json.loads(call.function.arguments) == {"city": "Bern"}


async def test_structured_output(client: openai.AsyncOpenAI, engine: Engine) -> None:
    answer = await client.chat.completions.parse(model="bank", messages=HI, response_format=Intent)
    assert answer.choices[0].message.parsed == Intent(intent="lost_card")
    sent = engine.asked[0].json["response_format"]
    assert (sent["type"], sent["json_schema"]["name"]) == ("json_schema", "Intent")


async def test_structured_output_in_a_stream(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="bank", messages=HI, response_format=Intent
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == Intent(intent="lost_card")


async def test_responses(client: openai.AsyncOpenAI, rig: Rig) -> None:
    answer = await client.responses.create(model="bank", input="hi", user="u")
    assert answer.output_text == "Hello"
    record = rig.requests()[0]
    assert (record.endpoint, record.prompt_tokens, record.completion_tokens) == ("responses", 7, 3)


async def test_a_stream_of_responses(client: openai.AsyncOpenAI, rig: Rig) -> None:
    stream = await client.responses.create(model="bank", input="hi", stream=True)
    events = [event async for event in stream]
    texts = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert texts == ["Hel", "lo"]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Hello"
    record = rig.requests()[0]
    assert (record.error, record.stream) == ("", True)
    assert (record.prompt_tokens, record.completion_tokens) == (7, 3)


async def test_an_engine_without_responses_is_said_so(gateway: Gateway) -> None:
    async with client_of(await gateway(lacks)) as client:
        with pytest.raises(openai.BadRequestError, match="does not serve responses"):
            await client.responses.create(model="bank", input="hi")


async def test_what_the_api_itself_does_not_find_is_passed_on(gateway: Gateway) -> None:
    error = {"message": "gone", "type": "invalid_request_error", "param": "previous_response_id"}
    async with client_of(await gateway(fails((404, {"error": error}, {})))) as client:
        with pytest.raises(openai.NotFoundError, match="gone"):
            await client.responses.create(model="bank", input="hi", previous_response_id="r")


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


async def test_what_the_engine_refuses_is_a_bad_request(gateway: Gateway) -> None:
    error = {"message": "too long", "type": "invalid_request_error", "code": "context_length"}
    async with client_of(await gateway(fails((400, {"error": error}, {})))) as client:
        with pytest.raises(openai.BadRequestError, match="too long") as refused:
            await client.chat.completions.create(model="bank", messages=HI)
    assert refused.value.code == "context_length"


async def test_a_replica_that_always_breaks_is_an_internal_server_error(gateway: Gateway) -> None:
    async with client_of(await gateway(refuses_midway)) as client:
        with pytest.raises(openai.InternalServerError) as broken:
            await client.chat.completions.create(model="bank", messages=HI)
    assert broken.value.status_code >= 502


async def test_a_full_queue_is_a_rate_limit_error(gateway: Gateway, engine: Engine) -> None:
    rig = await gateway(hangs, queue=0)
    async with client_of(rig) as client:
        streams_open = [client.chat.completions.create(model="bank", messages=HI) for _ in range(4)]
        waiting = [asyncio.ensure_future(each) for each in streams_open]
        await until(lambda: len(engine.asked) == 4)
        with pytest.raises(openai.RateLimitError) as full:
            await client.chat.completions.create(model="bank", messages=HI)
        assert full.value.code == "queue_full"
        assert full.value.response.headers["retry-after"] == "1"
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_its_retries_wait_as_the_gateway_says(gateway: Gateway, engine: Engine) -> None:
    """A provider's 429 with `retry-after` comes through, and the client asks again."""
    busy = {"error": {"message": "busy", "type": "rate_limit_exceeded", "code": "rate_limit"}}
    behave = fails((429, busy, {"retry_after": "0"}), (429, busy, {"retry_after": "0"}))
    rig = await gateway(behave)
    async with client_of(rig, retries=2) as client:
        answer = await client.chat.completions.create(model="bank", messages=HI)
    assert answer.choices[0].message.content == "Hello"
    assert [record.status for record in rig.requests()] == [429, 429, 200]


async def test_a_wait_past_its_deadline_is_tried_again_by_the_client(
    gateway: Gateway, engine: Engine
) -> None:
    rig = await gateway(queue_timeout_s=0.2)
    await engine.kill()
    async with client_of(rig, retries=3) as client:
        asking = asyncio.ensure_future(client.chat.completions.create(model="bank", messages=HI))
        await until(lambda: bool(rig.requests()))
        await engine.start()
        assert (await asking).choices[0].message.content == "Hello"
    first = rig.requests()[0]
    assert first.status in (502, 503)


async def test_a_client_that_closes_its_stream_cancels_the_generation(
    gateway: Gateway, engine: Engine
) -> None:
    rig = await gateway(never_ends())
    async with client_of(rig) as client:
        stream = await client.chat.completions.create(model="bank", messages=HI, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await until(lambda: engine.hung_up == 1)
    await until(lambda: len(rig.requests()) == 1)
    assert rig.requests()[0].status == 499


async def test_a_call_that_is_cancelled_cancels_the_generation(
    gateway: Gateway, engine: Engine
) -> None:
    rig = await gateway(hangs)
    async with client_of(rig) as client:
        asking = asyncio.ensure_future(client.chat.completions.create(model="bank", messages=HI))
        await until(lambda: len(engine.asked) == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: engine.hung_up == 1)
    await until(lambda: [record.status for record in rig.requests()] == [499])


async def test_a_call_that_takes_longer_than_its_timeout_is_cancelled_and_tried_again(
    gateway: Gateway, engine: Engine
) -> None:
    async def hangs_first(asked: Asked, writer: asyncio.StreamWriter) -> None:
        engine.behave = speaks
        await hangs(asked, writer)

    rig = await gateway(hangs_first)
    async with client_of(rig, retries=1).with_options(timeout=0.5) as client:
        answer = await client.chat.completions.create(model="bank", messages=HI)
    assert answer.choices[0].message.content == "Hello"
    assert engine.hung_up == 1
    assert [record.status for record in rig.requests()] == [499, 200]


async def test_a_stream_that_breaks_is_an_api_error_and_not_a_silent_end(gateway: Gateway) -> None:
    async with client_of(await gateway(streams("a", "b", "c", cut_after=2))) as client:
        stream = await client.chat.completions.create(model="bank", messages=HI, stream=True)
        with pytest.raises(openai.APIError, match="in the middle"):
            async for _ in stream:
                pass
