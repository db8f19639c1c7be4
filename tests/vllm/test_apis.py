"""vLLM in all APIs that it speaks, asked through the gateway by real clients."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest
from gateway_rig import KEY, Rig
from vllm_rig import Gateway

from support.vllm.servers import Server
from support.vllm.streams import said

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

TOKENS = 12
TEXT = "how do i top up my card"


def openai_client(rig: Rig) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0)


async def test_every_api_gives_the_same_answer_and_is_metered(
    servers: list[Server], gateway: Gateway
) -> None:
    rig = await gateway(servers[0].url)
    texts: list[str] = []
    said_usage: list[tuple[int, int]] = []
    async with openai_client(rig) as client:
        chat = await client.chat.completions.create(
            model="bank", messages=said(TEXT), max_tokens=TOKENS, temperature=0
        )
        assert chat.usage is not None
        texts.append(chat.choices[0].message.content or "")
        said_usage.append((chat.usage.prompt_tokens, chat.usage.completion_tokens))
        asked: Any = {
            "model": "bank", "input": said(TEXT), "max_output_tokens": TOKENS, "temperature": 0,
        }  # fmt: skip
        answer = await client.responses.create(**asked)
        assert answer.usage is not None
        texts.append(answer.output_text)
        said_usage.append((answer.usage.input_tokens, answer.usage.output_tokens))
        deltas, last = [], None
        async for event in await client.responses.create(**asked, stream=True):
            if event.type == "response.output_text.delta":
                deltas.append(event.delta)
            last = event
        assert last is not None
        texts.append("".join(deltas))
        usage = last.response.usage
        said_usage.append((usage.input_tokens, usage.output_tokens))
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=rig.url, max_retries=0) as other:
        asked = {
            "model": "bank",
            "messages": said(TEXT),
            "max_tokens": TOKENS,
            "extra_body": {"temperature": 0},
        }
        message = await other.messages.create(**asked)
        texts.append(message.content[0].text)
        said_usage.append((message.usage.input_tokens, message.usage.output_tokens))
        async with other.messages.stream(**asked) as messages:
            texts.append(await messages.get_final_text())
            final = await messages.get_final_message()
            said_usage.append((final.usage.input_tokens, final.usage.output_tokens))
    assert len(texts[0]) == TOKENS
    assert texts == [texts[0]] * 5
    records = rig.requests()
    others = ["responses", "responses", "messages", "messages"]
    assert [r.endpoint for r in records] == ["chat/completions", *others]
    assert {(r.status, r.error, r.key) for r in records} == {(200, "", "k1")}
    assert [(r.prompt_tokens, r.completion_tokens) for r in records] == said_usage
    assert {r.completion_tokens for r in records} == {TOKENS}


async def test_errors_of_the_engine_reach_the_client_as_they_are(
    servers: list[Server], gateway: Gateway
) -> None:
    rig = await gateway(servers[0].url)
    async with openai_client(rig) as client:
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await client.chat.completions.create(
                model="bank", messages=said("a" * 3000), max_tokens=TOKENS
            )
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=rig.url, max_retries=0) as other:
        with pytest.raises(anthropic.BadRequestError, match="maximum context length"):
            await other.messages.create(model="bank", messages=said("a" * 3000), max_tokens=TOKENS)
    assert [(r.status, r.error) for r in rig.requests()] == [(400, "upstream_rejected")] * 2


async def test_turns_of_a_conversation_find_its_beginning_cached(
    servers: list[Server], gateway: Gateway
) -> None:
    rig = await gateway(*(server.url for server in servers), balance="prefix")
    hits = [server.metric("vllm:prefix_cache_hits_total") for server in servers]
    conversation = said("please tell me about my card, my account and my money. " * 12)
    async with openai_client(rig) as client:
        for _ in range(4):
            answer = await client.chat.completions.create(
                model="bank", messages=conversation, max_tokens=TOKENS, temperature=0
            )
            text = answer.choices[0].message.content or ""
            conversation += [{"role": "assistant", "content": text}, *said("and then?")]
    records = rig.requests()
    assert len({r.replica for r in records}) == 1
    now = [server.metric("vllm:prefix_cache_hits_total") for server in servers]
    gained = [after - before for before, after in zip(hits, now, strict=True)]
    # All of the earlier turns but the last, partly filled block of each.
    asked = sum(r.prompt_tokens for r in records[1:])
    assert min(gained) == 0
    assert 0.8 * asked < max(gained) < asked
