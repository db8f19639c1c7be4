"""Each way in which a release can be worse without failing is found on live traffic, and named."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.shipping import prepare
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.views import RolloutView
from fairlead.manifest import parse_manifest
from fairlead.registry import Registry
from support.installation import Installation
from support.load import Connection

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]
CLIENTS = 12
USUAL_S = 0.03

MANIFEST = """
service: bank
release:
  name: {name}
  model: openai+http://127.0.0.1:{port}/v1?model={name}
  price: {{input_per_million: 1, output_per_million: 10}}
rollout:
  steps: [{{share: 50%, requests: 40, seconds: 0}}]
  settle_seconds: 0.5
  warm_up_seconds: 0
  margin: 0.1
  deadline_minutes: 5
  metrics:
    - {{source: duration_ms, tolerance: 50%, margin: 200%}}
    - {{source: cost, tolerance: 20%, margin: 100%}}
    - {{source: refusal, margin: 10%}}
    - {{source: format, margin: 10%}}
"""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A model server; what it is asked for by name says what is wrong with its answers."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = json.loads(await reader.readexactly(length)) if length else {}
            writer.write(_http(await _reply(body)))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _reply(asked: dict[str, Any]) -> dict[str, Any]:
    model = asked.get("model", "")
    await asyncio.sleep(USUAL_S * (3 if model == "slow" else 1))
    text = '{"intent": "card_lost"}'
    if model == "broken":
        text = "The intent is card_lost."
    tokens = 30 if model == "long" else 10
    return {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "content_filter" if model == "refusing" else "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": tokens},
        "data": [],
    }


def _http(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
    return f"{head}{len(data)}\r\n\r\n".encode() + data


@asynccontextmanager
async def model_server() -> AsyncIterator[int]:
    """The port of a server."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def spec(installation: Installation, name: str, port: int) -> ServiceSpec:
    text = MANIFEST.format(name=name, port=port)
    manifest = parse_manifest(text, Path("fairlead.yaml").absolute())
    return prepare(Registry(installation.paths.registry), manifest)


async def _traffic(installation: Installation, numbers: Any, stop: asyncio.Event) -> None:
    connection = Connection(installation.gateway, installation.key)
    body = {
        "model": "bank",
        "messages": [{"role": "user", "content": "I have lost my card"}],
        "response_format": {"type": "json_object"},
    }
    while not stop.is_set():
        session = f"s{next(numbers)}"
        reply = await connection.post("/v1/chat/completions", body, session=session)
        assert reply.status == 200, reply
    connection.close()


async def ended(installation: Installation, rollout: str) -> RolloutView:
    """The rollout, once it has ended; others run meanwhile."""
    while True:
        view = await asyncio.to_thread(installation.rollout, rollout)
        if view.outcome != "running":
            return view
        await asyncio.sleep(0.1)


async def test_a_release_that_is_worse_in_one_metric_is_rolled_back_naming_it(
    installation: Installation,
) -> None:
    """Slower, invalid JSON, more refusals, dearer; and one that is equal is promoted."""
    async with model_server() as port:
        first = await asyncio.to_thread(installation.ship, spec(installation, "good", port))
        assert (await ended(installation, first.id)).outcome == "promoted"
        stop, numbers = asyncio.Event(), itertools.count()
        clients = [
            asyncio.create_task(_traffic(installation, numbers, stop)) for _ in range(CLIENTS)
        ]
        seen: dict[str, tuple[str, str]] = {}
        for name in ("slow", "broken", "refusing", "long", "equal"):
            view = await asyncio.to_thread(installation.ship, spec(installation, name, port))
            view = await ended(installation, view.id)
            seen[name] = view.outcome, view.reason
        stop.set()
        await asyncio.gather(*clients)
    assert {name: outcome for name, (outcome, _) in seen.items()} == {
        "slow": "rolled_back",
        "broken": "rolled_back",
        "refusing": "rolled_back",
        "long": "rolled_back",
        "equal": "promoted",
    }, seen
    assert seen["slow"][1].startswith("duration_ms: canary slower, median")
    assert seen["broken"][1].startswith("format: canary 100.0 %, champion 0.0 %")
    assert seen["refusing"][1].startswith("refusal: canary 100.0 %, champion 0.0 %")
    assert seen["long"][1].startswith("cost: canary dearer, median")
