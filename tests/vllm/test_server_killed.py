"""A vLLM server is killed in the middle of answers; another one goes on with them or gives them.

One kill for all, in the last file of the folder: a killed server is not started again.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from gateway_rig import Control, until
from vllm_rig import Gateway, before

from support.vllm.servers import Server
from support.vllm.streams import CHAT, COMPLETIONS, greedy, summary

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

TOKENS = 1_500
EARLY = 12
"""Events that a client has of each stream at least when the server is killed."""

TOOL = {
    "type": "function",
    "function": {
        "name": "top_up",
        "parameters": {
            "type": "object",
            "properties": {"card": {"type": "string"}},
            "required": ["card"],
        },
    },
}
GOES_ON = {
    "chat": (CHAT, greedy(CHAT, TOKENS)),
    "another chat": (CHAT, greedy(CHAT, TOKENS, "my card was stolen")),
    "chat with tools that are not called": (CHAT, greedy(CHAT, TOKENS, tools=[TOOL])),
    "completion": (COMPLETIONS, greedy(COMPLETIONS, TOKENS)),
}
ENDS = {
    "probabilities": (CHAT, greedy(CHAT, TOKENS, logprobs=True)),
    "several choices": (CHAT, greedy(CHAT, TOKENS, n=2, temperature=1)),
}
ALL = {**GOES_ON, **ENDS}
PLAIN = {k: v for k, v in greedy(CHAT, TOKENS).items() if not k.startswith("stream")}


class Reading:
    """A client that reads one stream."""

    def __init__(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
        self.content = b""
        self._task = asyncio.ensure_future(self._read(client, path, body))

    @property
    def events(self) -> int:
        """What it has so far."""
        return self.content.count(b"\n\n")

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended."""
        return self._task.done()

    async def whole(self) -> bytes:
        """All of it; raises when the answer is not framed to its end."""
        await self._task
        return self.content

    async def _read(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
        async with client.stream("POST", path, json=body, timeout=300) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for part in answer.aiter_bytes():
                self.content += part


async def test_answers_of_a_killed_server_go_on_are_given_by_another_or_end_with_an_error(
    servers: list[Server], gateway: Gateway, control: Control
) -> None:
    victim, other = servers
    rig = await gateway(victim.url)
    async with rig.client(limits=httpx.Limits(max_connections=20)) as client:
        # Those that end are asked too: what vLLM prepares for them is ready when it counts.
        wholes = {n: Reading(client, *asked) for n, asked in ALL.items()}
        whole = {name: await reading.whole() for name, reading in wholes.items()}
        plain = (await client.post(CHAT, json=PLAIN, timeout=300)).json()
        undisturbed = {name: summary(whole[name]) for name in GOES_ON}
        assert {one["completion_tokens"] for one in undisturbed.values()} == {TOKENS}
        asking = asyncio.ensure_future(client.post(CHAT, json=PLAIN, timeout=300))
        readings = {n: Reading(client, *asked) for n, asked in ALL.items()}
        await until(
            lambda: all(r.events >= EARLY or r.is_over for r in readings.values()), within_s=120
        )
        # However fast it is, it is in the middle of all of them when it is killed. (Servers that
        # die in the middle of what they write: `test_broken_streams.py`.)
        victim.pause()
        try:
            # Only now there is another server, so that all of them are on the one that is killed.
            control.publish(before(victim.url, other.url, version=2))
            await until(lambda: control.questions[-1].version == 2)
            await asyncio.sleep(0.1)  # What it had written before has come.
            over = {name: r.content for name, r in readings.items() if r.is_over}
            assert not over
            assert not asking.done()
        finally:
            victim.kill()
        answer = (await asking).json()
        read = {name: await reading.whole() for name, reading in readings.items()}
    for name in GOES_ON:
        assert summary(read[name]) == undisturbed[name], name
    for name in ENDS:
        *events, last, nothing = read[name].decode().split("\n\n")
        assert nothing == ""
        assert len(events) >= EARLY
        error = json.loads(last.removeprefix("data: "))["error"]
        assert error["code"] == "upstream_cut", name
        assert not any('"error"' in event for event in events)
    assert answer["choices"] == plain["choices"]
    assert answer["usage"] == plain["usage"]
    records = rig.requests()[len(ALL) + 1 :]
    errors = [""] * (len(GOES_ON) + 1) + ["upstream_cut"] * len(ENDS)
    assert sorted(r.error for r in records) == errors
    for record in records:
        if not record.error:
            assert record.attempts == 2
            assert record.replica.endswith(other.url.rpartition(":")[2])
            assert record.completion_tokens == TOKENS
