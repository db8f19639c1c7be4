"""Streams of real llama.cpp replicas break at many places, with models whose tokens are ordinary.

The replicas are ways to one server that are cut as a killed server's connections are.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import A, Rig, route, snapshot, until
from mortal import AfterEvents, Mortal

from fairlead.wire.snapshot import Limits, Snapshot
from support.bpe_models import Vocabulary, rambler, says
from support.vllm.streams import CHAT, COMPLETIONS, events_of, greedy, summary
from support.vllm.streams import said as said_by_user

Serve = Callable[[Snapshot | None], Awaitable[Rig]]

TOKENS = 100
CUTS = 24
PROMPT = "how do i top up my card\n"
NEWLINE = "Ċ"
SAME = ("id", "object", "model")
"""llama.cpp gives each event the time at which it was made."""
SETTINGS = '{"context": 4096, "slots": 2, "threads": 1}'
LIMITS = Limits(attempts=8, queue_timeout_s=30, request_timeout_s=60)

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def known() -> Vocabulary:
    return Vocabulary()


@asynccontextmanager
async def serving(model: Path) -> AsyncIterator[list[Mortal]]:
    """Three ways to a llama.cpp server of this model."""
    ready = model.with_suffix(".ready")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fairlead.engines.llamacpp", "--model", str(model), "--alias", "m",
        "--settings", SETTINGS, "--ready-file", str(ready),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    ways: list[Mortal] = []
    try:
        await until(lambda: ready.exists() or process.returncode is not None, within_s=60)
        assert process.returncode is None
        ways += [await Mortal(ready.read_text().strip()).start() for _ in range(3)]
        yield ways
    finally:
        for way in ways:
            await way.stop()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ask(rig: Rig, body: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """What a client reads in all, and in each event."""
    async with rig.client() as client:
        answer = await client.post(path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert b'"error"' not in answer.content, answer.text[-600:]
    choices = [e["choices"][0] for e in events_of(answer.content) if e["choices"]]
    texts = [c["delta"].get("content") if "delta" in c else c["text"] for c in choices]
    return summary(answer.content, SAME), [text for text in texts if text]


def places() -> Iterator[tuple[int, ...]]:
    """After which events a stream is cut: after nearly each one, and at several."""
    dice = random.Random(5)
    yield from ((after,) for after in range(1, CUTS))
    for _ in range(6):
        yield tuple(dice.randrange(1, TOKENS // 4) for _ in range(3))


async def before(ways: list[Mortal], serve: Serve) -> Rig:
    """A gateway."""
    champion = route(A, *(way.url for way in ways), continues="llama.cpp")
    return await serve(snapshot(champion, limits=LIMITS))


async def undisturbed_and_broken(
    ways: list[Mortal], rig: Rig, path: str, prompt: str = PROMPT, **more: Any
) -> dict[str, Any]:
    """What an undisturbed stream reads as; broken ones must read so, too."""
    body = greedy(path, TOKENS, prompt, **more)
    whole, _ = await ask(rig, body, path)
    for events in places():
        cuts = AfterEvents(*events)
        for way in ways:
            way.cuts = cuts
        assert (await ask(rig, body, path))[0] == whole, events
        assert cuts.is_used_up
    assert {(r.status, r.error) for r in rig.requests()} == {(200, "")}
    return whole


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("kind", ["fluent", "halting"])
async def test_a_text_in_words_and_parts_of_characters_reads_as_if_undisturbed(
    known: Vocabulary, serve: Serve, tmp_path: Path, kind: str, path: str
) -> None:
    said = known.fluent() if kind == "fluent" else known.halting()
    newline = known.numbers[NEWLINE]
    assert newline not in said
    model = says(tmp_path / "m.gguf", known, said, begins_after=[newline])
    async with serving(model) as ways:
        whole = await undisturbed_and_broken(ways, await before(ways, serve), path)
    assert whole["text"] == known.text(said[:TOKENS])
    assert whole["completion_tokens"] == TOKENS


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_what_depends_on_each_token_before_reads_as_if_undisturbed(
    known: Vocabulary, serve: Serve, tmp_path: Path, path: str
) -> None:
    async with serving(rambler(tmp_path / "m.gguf", known)) as ways:
        rig = await before(ways, serve)

        async def is_read_back(prompt: str) -> bool:
            whole, texts = await ask(rig, greedy(path, TOKENS, prompt), path)
            return [known.text([number]) for number in known.read(whole["text"])] == texts

        prompts = [f"how do i top up {number} cards\n" for number in range(20)]
        others = [prompt for prompt in prompts if not await is_read_back(prompt)]
        assert others, "one that is not read back as it was said"
        whole = await undisturbed_and_broken(ways, rig, path, others[0])
    assert whole["completion_tokens"] == TOKENS


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_text_that_ends_the_last_word_before_it_reads_as_if_undisturbed(
    known: Vocabulary, serve: Serve, tmp_path: Path, path: str
) -> None:
    fluent = known.fluent()
    left, right = next(
        (known.numbers[one], known.numbers[other])
        for one, other in known.merges
        if one.startswith("Ġ") and len(one) > 2 and known.is_text(known.numbers[other])
        and not {known.numbers[one], known.numbers[other]} & set(fluent)
    )  # fmt: skip
    prompt = "where is" + known.text([left])
    assert known.read(prompt)[-1] == left
    assert known.read(prompt + known.text([right]))[-1] not in (left, right)
    said = [right, *fluent]
    model = says(tmp_path / "m.gguf", known, said, begins_after=[left])
    async with serving(model) as ways:
        rig = await before(ways, serve)
        begun = {"messages": [*said_by_user(PROMPT), {"role": "assistant", "content": prompt}]}
        more = begun if path == CHAT else {}
        whole = await undisturbed_and_broken(ways, rig, path, prompt, **more)
    assert whole["text"] == known.text(said[:TOKENS])
