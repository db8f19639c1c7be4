"""A real vLLM's metrics are read, and say what its answers said."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from vllm_rig import Gateway

from fairlead.control.metrics.engine_text import FIGURES, Reading, read_engine_text
from support.vllm.servers import Server
from support.vllm.streams import COMPLETIONS

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

TOKENS = ("prompt_tokens_total", "generation_tokens_total")
WITHIN_S = 20.0
"""vLLM counts what it has done at its next step."""


async def reading(client: httpx.AsyncClient, server: Server) -> Reading:
    """What this server says of itself."""
    told = await client.get(f"{server.url}/metrics")
    assert told.status_code == 200
    found = read_engine_text(told.content)
    assert found is not None
    return found


async def test_all_that_is_wanted_of_an_engine_is_in_it_and_counts_the_tokens_of_answers(
    servers: list[Server], gateway: Gateway
) -> None:
    server = servers[0]
    rig = await gateway(server.url)
    async with httpx.AsyncClient(timeout=60.0) as direct, rig.client() as client:
        before = await reading(direct, server)
        assert before.engine == "vllm"
        wanted = {figure.suffix for figure in FIGURES if "vllm" in figure.of}
        assert set(before.values) == wanted
        told = [0, 0]
        for number in range(3):
            body = {"model": "bank", "prompt": f"{number} and so on", "max_tokens": 12}
            answer = await client.post(COMPLETIONS, json=body)
            assert answer.status_code == 200, answer.text
            usage = answer.json()["usage"]
            told[0] += usage["prompt_tokens"]
            told[1] += usage["completion_tokens"]
        deadline = asyncio.get_running_loop().time() + WITHIN_S
        while True:
            after = await reading(direct, server)
            grown = [after.values[name] - before.values[name] for name in TOKENS]
            if grown == told or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.2)
    assert grown == told
    assert after.values["decode_seconds_total"] > before.values["decode_seconds_total"]
    assert after.values["requests_running"] == after.values["requests_waiting"] == 0
