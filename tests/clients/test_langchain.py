"""LangChain's `ChatOpenAI`, `OpenAI` and `OpenAIEmbeddings` speak to the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import httpx
import openai
import pydantic
import pytest
from gateway_rig import KEY, Engine, Rig, hangs, streams, until
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from scripted import fails, never_ends

Gateway = Callable[..., Awaitable[Rig]]


class Intent(pydantic.BaseModel):
    """What the customer wants."""

    intent: str


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the test's own loop; LangChain keeps its own ones for ever."""
    async with httpx.AsyncClient(verify=False) as made:
        yield made


def model_of(
    rig: Rig, http: httpx.AsyncClient, name: str = "bank", *, retries: int = 0, key: str = KEY
) -> ChatOpenAI:
    return ChatOpenAI(
        model=name,
        base_url=f"{rig.url}/v1",
        api_key=key,
        max_retries=retries,
        http_async_client=http,
    )


def embeddings_of(rig: Rig, http: httpx.AsyncClient, name: str = "bank") -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model=name,
        base_url=f"{rig.url}/v1",
        api_key=KEY,
        check_embedding_ctx_length=False,
        max_retries=0,
        http_async_client=http,
    )


async def test_answer_and_stream(gateway: Gateway, http: httpx.AsyncClient) -> None:
    rig = await gateway()
    model = model_of(rig, http)
    answer = await model.ainvoke("hi")
    assert answer.content == "Hello"
    assert answer.usage_metadata["total_tokens"] == 10
    assert "".join([str(part.content) async for part in model.astream("hi")]) == "Hello"
    assert [record.stream for record in rig.requests()] == [False, True]


async def test_completions_and_their_stream(gateway: Gateway, http: httpx.AsyncClient) -> None:
    rig = await gateway()
    model = OpenAI(
        model="bank", base_url=f"{rig.url}/v1", api_key=KEY, max_retries=0, http_async_client=http
    )
    assert await model.ainvoke("p") == "Hello"
    assert "".join([part async for part in model.astream("p")]) == "Hello"
    assert [record.endpoint for record in rig.requests()] == ["completions"] * 2


async def test_tools(gateway: Gateway, http: httpx.AsyncClient) -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        return city

    answer = await model_of(await gateway(), http).bind_tools([weather]).ainvoke("hi")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Bern"})


async def test_structured_output(gateway: Gateway, http: httpx.AsyncClient) -> None:
    model = model_of(await gateway(), http).with_structured_output(Intent, method="json_schema")
    assert await model.ainvoke("hi") == Intent(intent="lost_card")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # LangChain's own
async def test_structured_output_in_a_stream(gateway: Gateway, http: httpx.AsyncClient) -> None:
    model = model_of(await gateway(), http).with_structured_output(Intent, method="json_schema")
    assert [part async for part in model.astream("hi")][-1] == Intent(intent="lost_card")


async def test_embeddings(gateway: Gateway, engine: Engine, http: httpx.AsyncClient) -> None:
    rig = await gateway()
    model = embeddings_of(rig, http)
    assert await model.aembed_documents(["x", "y"]) == [[0.5, -0.5]] * 2
    assert engine.asked[0].json["input"] == ["x", "y"]


async def test_tools_in_a_stream(gateway: Gateway, http: httpx.AsyncClient) -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        return city

    model = model_of(await gateway(), http).bind_tools([weather])
    whole = None
    async for part in model.astream("hi"):
        whole = part if whole is None else whole + part
    assert whole is not None
    (call,) = whole.tool_calls
    assert (call["name"], call["args"], call["id"]) == ("weather", {"city": "Bern"}, "call_1")


async def test_an_answer_to_a_tool_goes_back(
    gateway: Gateway, engine: Engine, http: httpx.AsyncClient
) -> None:
    model = model_of(await gateway(), http)
    call = {"name": "weather", "args": {"city": "Bern"}, "id": "call_1"}
    said = AIMessage("", tool_calls=[call])
    await model.ainvoke([HumanMessage("hi"), said, ToolMessage("sunny", tool_call_id="call_1")])
    _, asked, answered = engine.asked[0].json["messages"]
    assert asked["tool_calls"][0]["id"] == "call_1"
    assert (answered["role"], answered["content"]) == ("tool", "sunny")


async def test_errors(gateway: Gateway, http: httpx.AsyncClient) -> None:
    rig = await gateway()
    with pytest.raises(openai.NotFoundError):
        await model_of(rig, http, "nobody").ainvoke("hi")
    with pytest.raises(openai.AuthenticationError):
        await model_of(rig, http, key="wrong").ainvoke("hi")
    with pytest.raises(openai.NotFoundError):
        await embeddings_of(rig, http, "nobody").aembed_query("x")


async def test_what_the_engine_refuses_is_a_bad_request(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    error = {"message": "too long", "type": "invalid_request_error", "code": "context_length"}
    rig = await gateway(fails((400, {"error": error}, {})))
    with pytest.raises(openai.BadRequestError, match="too long"):
        await model_of(rig, http).ainvoke("hi")


async def test_a_stream_that_breaks_is_an_error_and_not_a_silent_end(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    rig = await gateway(streams("a", "b", "c", cut_after=2))
    texts = []

    async def read() -> None:
        async for part in model_of(rig, http).astream("hi"):
            texts.append(part.content)

    with pytest.raises(openai.APIError, match="in the middle"):
        await read()
    assert "".join(texts) == "ab"


async def test_its_retries_end_when_the_provider_is_free(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    busy = {"error": {"message": "busy", "type": "rate_limit_exceeded", "code": "rate_limit"}}
    rig = await gateway(fails(*[(429, busy, {"retry_after": "0"})] * 2))
    assert (await model_of(rig, http, retries=2).ainvoke("hi")).content == "Hello"
    assert [record.status for record in rig.requests()] == [429, 429, 200]


async def test_a_stream_that_is_left_cancels_the_generation(
    gateway: Gateway, engine: Engine, http: httpx.AsyncClient
) -> None:
    rig = await gateway(never_ends())
    async with aclosing(model_of(rig, http).astream("hi")) as parts:
        async for _ in parts:
            break
    await until(lambda: engine.hung_up == 1)
    await until(lambda: [record.status for record in rig.requests()] == [499])


async def test_a_call_that_is_cancelled_cancels_the_generation(
    gateway: Gateway, engine: Engine, http: httpx.AsyncClient
) -> None:
    rig = await gateway(hangs)
    asking = asyncio.ensure_future(model_of(rig, http).ainvoke("hi"))
    await until(lambda: len(engine.asked) == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: engine.hung_up == 1)
    await until(lambda: [record.status for record in rig.requests()] == [499])
