"""Streams of a real vLLM server break at any place, and go on.

Both replicas are ways to one server that are cut as a killed server's connections are.
"""

from __future__ import annotations

import random

import pytest
from mortal import AfterBytes, Mortal
from vllm_rig import Gateway

from support.vllm.servers import Server
from support.vllm.streams import CHAT, COMPLETIONS, greedy, summary

TOKENS = 200

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_that_breaks_reads_as_if_undisturbed(
    servers: list[Server], gateway: Gateway, path: str
) -> None:
    dice = random.Random(3)
    one, two = await Mortal(servers[0].url).start(), await Mortal(servers[0].url).start()
    rig = await gateway(one.url, two.url)
    body = greedy(path, TOKENS)
    async with rig.client() as client:
        whole = await client.post(path, json=body, timeout=300)
        undisturbed = summary(whole.content)
        assert undisturbed["completion_tokens"] == TOKENS
        for _ in range(4):
            for way in (one, two):
                way.cuts = AfterBytes(dice.randrange(600, len(whole.content) // 2))
            answer = await client.post(path, json=body, timeout=300)
            assert summary(answer.content) == undisturbed
    assert one.deaths + two.deaths >= 4
    await one.stop()
    await two.stop()
