"""`curl`, as in the documentation's examples."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable

import pytest
from gateway_rig import CHAT, KEY, A, Asked, Engine, Rig, chunk, event, head, until
from scripted import never_ends

Gateway = Callable[..., Awaitable[Rig]]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


async def curl(rig: Rig, path: str, *options: str, body: object = None, key: str = KEY) -> str:
    """What curl prints; its exit code must be 0."""
    process = await start(rig, path, *options, body=body, key=key)
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return out.decode()


async def start(
    rig: Rig, path: str, *options: str, body: object = None, key: str = KEY
) -> asyncio.subprocess.Process:
    data = [] if body is None else ["-d", json.dumps(body), "-H", "content-type: application/json"]
    return await asyncio.create_subprocess_exec(
        "curl", "-sS", *options, "-H", f"authorization: Bearer {key}", *data, rig.url + path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_a_plain_answer_with_its_head(gateway: Gateway) -> None:
    out = await curl(await gateway(), "/v1/chat/completions", "-i", body=CHAT)
    head, _, body = out.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert f"x-fairlead-release: {A}" in head
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hello"


async def test_a_stream_comes_as_it_is_made(gateway: Gateway) -> None:
    goes_on = asyncio.Event()

    async def makes_it(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        writer.write(chunk(event("a")))
        await goes_on.wait()
        writer.write(chunk(event("b")) + chunk(b"data: [DONE]\n\n") + chunk(b""))
        await writer.drain()

    rig = await gateway(makes_it)
    process = await start(rig, "/v1/chat/completions", "-N", body={**CHAT, "stream": True})
    assert process.stdout is not None
    first = await process.stdout.readline()
    assert b'"content": "a"' in first, "and the rest is not made yet"
    goes_on.set()
    rest = await process.stdout.read()
    assert b'"content": "b"' in rest
    assert rest.endswith(b"data: [DONE]\n\n")
    assert await process.wait() == 0


async def test_a_large_body_is_sent_after_100_continue(gateway: Gateway, engine: Engine) -> None:
    large = {**CHAT, "messages": [{"role": "user", "content": "x" * 90_000}]}
    out = await curl(
        await gateway(), "/v1/chat/completions", "-H", "expect: 100-continue", body=large
    )
    assert json.loads(out)["object"] == "chat.completion"
    assert engine.asked[0].json == large


async def test_errors_are_shown_or_end_it(gateway: Gateway) -> None:
    rig = await gateway()
    out = await curl(rig, "/v1/chat/completions", "-w", " %{http_code}", body=CHAT, key="wrong")
    assert out.endswith(" 401")
    assert json.loads(out[:-4])["error"]["code"] == "invalid_api_key"
    failing = await start(rig, "/v1/nothing", "--fail")
    await failing.communicate()
    assert failing.returncode == 22


async def test_messages_with_x_api_key(gateway: Gateway) -> None:
    rig = await gateway()
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-N", "-H", f"x-api-key: {KEY}", "-H", "anthropic-version: 2023-06-01",
        "-d", json.dumps({**CHAT, "max_tokens": 9, "stream": True}), f"{rig.url}/v1/messages",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.startswith(b"event: message_start\n")
    assert out.endswith(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
    refused = await curl(rig, "/v1/chat/completions", "-H", f"x-api-key: {KEY}", body=CHAT, key="")
    assert json.loads(refused)["error"]["code"] == "invalid_api_key", "elsewhere it is no key"


async def test_ctrl_c_cancels_the_generation(gateway: Gateway, engine: Engine) -> None:
    rig = await gateway(never_ends())
    process = await start(rig, "/v1/chat/completions", "-N", body={**CHAT, "stream": True})
    assert process.stdout is not None
    await process.stdout.readline()
    process.terminate()
    await process.communicate()
    await until(lambda: engine.hung_up == 1)
