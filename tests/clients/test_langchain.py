"""LangChain's `ChatOpenAI` and `OpenAIEmbeddings` speak to the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import openai
import pydantic
import pytest
from gateway_rig import KEY, Engine, Rig
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

Gateway = Callable[..., Awaitable[Rig]]


class Intent(pydantic.BaseModel):
    """What the customer wants."""

    intent: str


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the test's own loop; LangChain keeps its own ones for ever."""
    async with httpx.AsyncClient(verify=False) as made:
        yield made


def model_of(rig: Rig, http: httpx.AsyncClient, name: str = "bank") -> ChatOpenAI:
    return ChatOpenAI(
        model=name,
        base_url=f"{rig.url}/v1",
        api_key=KEY,
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


async def test_embeddings(gateway: Gateway, engine: Engine, http: httpx.AsyncClient) -> None:
    rig = await gateway()
    model = OpenAIEmbeddings(
        model="bank",
        base_url=f"{rig.url}/v1",
        api_key=KEY,
        check_embedding_ctx_length=False,
        http_async_client=http,
    )
    assert await model.aembed_documents(["x", "y"]) == [[0.5, -0.5]] * 2
    assert engine.asked[0].json["input"] == ["x", "y"]


async def test_errors(gateway: Gateway, http: httpx.AsyncClient) -> None:
    with pytest.raises(openai.NotFoundError):
        await model_of(await gateway(), http, "nobody").ainvoke("hi")
