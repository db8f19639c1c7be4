"""Streams of a real vLLM server break at any place, and go on.

Both replicas are ways to one server that are cut as a killed server's connections are. One model's
tokens are letters; the other's are those of an ordinary byte-level BPE, which it says as its
tokenizer would cut them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from mortal import AfterBytes, AfterEvents, Mortal
from vllm_rig import Gateway

from support.bpe_models import Vocabulary
from support.vllm.bpe_llama import says
from support.vllm.servers import Server
from support.vllm.streams import CHAT, COMPLETIONS, greedy, summary

TOKENS, BPE_TOKENS = 200, 100
PROMPT = "how do i top up my card\n"
NEWLINE = "Ċ"

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


@pytest.fixture(scope="module")
def fluent(
    environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    """A server, and what its model says in words, parts of words and parts of characters."""
    known = Vocabulary()
    said, newline = known.fluent(), known.numbers[NEWLINE]
    assert newline not in said
    folder = tmp_path_factory.mktemp("bpe")
    model = says(folder / "model", known, said, begins_after=[newline])
    server = Server(environment, folder, "bpe", model)
    try:
        server.start()
        server.await_ready()
        yield server, known.text(said[:BPE_TOKENS])
    finally:
        server.kill()


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_text_in_words_and_parts_of_characters_reads_as_if_undisturbed(
    fluent: tuple[Server, str], gateway: Gateway, path: str
) -> None:
    server, text = fluent
    ways = [await Mortal(server.url).start() for _ in range(2)]
    rig = await gateway(*(way.url for way in ways))
    body = greedy(path, BPE_TOKENS, PROMPT)
    dice = random.Random(5)
    async with rig.client() as client:
        whole = await client.post(path, json=body, timeout=300)
        undisturbed = summary(whole.content)
        assert undisturbed["text"] == text
        assert undisturbed["completion_tokens"] == BPE_TOKENS
        for events in [*range(1, 12), *(dice.randrange(12, BPE_TOKENS // 3) for _ in range(8))]:
            cuts = AfterEvents(events)
            for way in ways:
                way.cuts = cuts
            answer = await client.post(path, json=body, timeout=300)
            assert summary(answer.content) == undisturbed, events
    # Where vLLM is ahead of its own server, a stream has fewer events than tokens.
    assert sum(way.deaths for way in ways) >= 12
    assert {(record.status, record.error) for record in rig.requests()} == {(200, "")}
    for way in ways:
        await way.stop()
