"""llama.cpp itself behind the gateway, asked by real clients in all APIs that it speaks."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from gateway_rig import KEY, A, Control, Rig, route, snapshot, until

MODEL = Path(__file__).parents[2] / "examples" / "banking" / "models" / "a.gguf"
HI: Any = [{"role": "user", "content": "I lost my card"}]
INTENT = "lost_or_stolen_card"

pytestmark = pytest.mark.live


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway before llama.cpp, with sampling defaults."""
    ready = tmp_path / "ready"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fairlead.engines.llamacpp", "--model", str(MODEL), "--alias", "m",
        "--settings", '{"context": 1024, "slots": 2, "threads": 1}', "--ready-file", str(ready),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    control = Control()
    await control.engine.start()
    made = Rig(tmp_path, control.engine.url)
    try:
        await until(ready.exists, within_s=60)
        sampling = {"temperature": 0, "max_tokens": 12, "stop": "§"}
        one = route(A, ready.read_text().strip(), sampling=sampling)
        yield await made.start(snapshot(one))
    finally:
        await made.stop()
        made.socket.close()
        await control.engine.stop()
        process.kill()
        await process.wait()


async def test_every_api_gives_the_same_answer_and_is_metered(rig: Rig) -> None:
    texts = []
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0) as client:
        chat = await client.chat.completions.create(model="bank", messages=HI)
        texts.append(chat.choices[0].message.content or "")
        texts.append((await client.responses.create(model="bank", input=HI)).output_text)
        stream = await client.responses.create(model="bank", input=HI, stream=True)
        deltas = [e.delta async for e in stream if e.type == "response.output_text.delta"]
        texts.append("".join(deltas))
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=rig.url, max_retries=0) as other:
        asked: Any = {"model": "bank", "max_tokens": 12, "messages": HI}
        texts.append((await other.messages.create(**asked)).content[0].text)
        async with other.messages.stream(**asked) as messages:
            texts.append(await messages.get_final_text())
    assert [json.loads(text)["intent"] for text in texts] == [INTENT] * 5
    records = rig.requests()
    others = ["responses", "responses", "messages", "messages"]
    assert [r.endpoint for r in records] == ["chat/completions", *others]
    assert {(r.status, r.error) for r in records} == {(200, "")}
    assert len({r.prompt_tokens for r in records}) == 1, "what is cached counts, in each API"
    assert all(0 < r.completion_tokens <= 12 for r in records)
