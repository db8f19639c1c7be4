"""An engine that speaks the OpenAI APIs and Anthropic's, with answers that are always the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from gateway_rig import USAGE, Asked, Behaviour, chunk, event, head

TEXTS = ("Hel", "lo")
ARGUMENTS = ('{"city": ', '"Bern"}')
INTENT = '{"intent": "lost_card"}'


async def speaks(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answers by path and by what is asked for."""
    body = asked.json
    plain, events = _ANSWERS[asked.path.removeprefix("/v1/")]
    if body.get("stream"):
        await _stream(writer, events(body))
    else:
        await _send(writer, 200, plain(body))


def fails(*answers: tuple[int, dict[str, Any], dict[str, str]]) -> Behaviour:
    """First gives these answers (status, body, headers), then behaves well."""
    left = list(answers)

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if left:
            status, body, headers = left.pop(0)
            await _send(writer, status, body, **headers)
        else:
            await speaks(asked, writer)

    return behave


async def lacks(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Knows no path at all."""
    await _send(writer, 404, {"detail": "Not Found"})


def never_ends(texts: int = 1000) -> Behaviour:
    """A stream that goes on until the client leaves."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        for number in range(texts):
            writer.write(chunk(event(f"{number} ")))
            await writer.drain()
            await asyncio.sleep(0.02)

    return behave


async def _send(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any], **headers: str
) -> None:
    content = json.dumps(body).encode()
    writer.write(head(status, content_length=len(content), **headers) + content)
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, events: Iterator[bytes]) -> None:
    writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
    for each in events:
        writer.write(chunk(each))
        await writer.drain()
    writer.write(chunk(b""))
    await writer.drain()


# Chat


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "Hello"}
    reason = "stop"
    if body.get("tools"):
        call = {"name": body["tools"][0]["function"]["name"], "arguments": "".join(ARGUMENTS)}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        }
        reason = "tool_calls"
    elif body.get("response_format"):
        message["content"] = INTENT
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return _object("chat.completion", choices=[choice], usage=USAGE)


def _chat_events(body: dict[str, Any]) -> Iterator[bytes]:
    if body.get("tools"):
        name = body["tools"][0]["function"]["name"]
        first = {"index": 0, "id": "call_1", "type": "function"}
        call = {**first, "function": {"name": name, "arguments": ""}}
        yield _delta({"role": "assistant", "tool_calls": [call]})
        for part in ARGUMENTS:
            yield _delta({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
        yield _delta({}, "tool_calls")
    else:
        texts = (INTENT[:9], INTENT[9:]) if body.get("response_format") else TEXTS
        for text in texts:
            yield _delta({"role": "assistant", "content": text})
        yield _delta({}, "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event(None, usage=USAGE)
    yield b"data: [DONE]\n\n"


def _delta(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _data(_object("chat.completion.chunk", choices=[choice]))


# Completions, embeddings


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    return _object("text_completion", choices=[_text("Hello", "stop")], usage=USAGE)


def _completion_events(body: dict[str, Any]) -> Iterator[bytes]:
    for text in TEXTS:
        yield _data(_object("text_completion", choices=[_text(text)]))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _data(_object("text_completion", choices=[], usage=USAGE))
    yield b"data: [DONE]\n\n"


def _text(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [
        {"object": "embedding", "index": number, "embedding": [0.5, -0.5]}
        for number, _ in enumerate(texts)
    ]
    return {"object": "list", "data": data, "model": "m", "usage": USAGE}


# Responses


def _response(body: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_text", "text": "Hello", "annotations": []}]
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "m",
        "output": [{**message, "content": content}] if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 7,
            "output_tokens": 3,
            "total_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        if status == "completed"
        else None,
    }


def _response_events(body: dict[str, Any]) -> Iterator[bytes]:
    yield _named("response.created", response=_response(body, "in_progress"), sequence_number=0)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    for number, text in enumerate(TEXTS, 1):
        yield _named("response.output_text.delta", delta=text, sequence_number=number, **place)
    yield _named("response.completed", response=_response(body), sequence_number=3)


# Messages


def _message(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 3},
    }


def _message_events(body: dict[str, Any]) -> Iterator[bytes]:
    usage = {"input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 0}
    begun = {**_message(body), "content": [], "stop_reason": None, "usage": usage}
    yield _named("message_start", message=begun)
    yield _named("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for text in TEXTS:
        yield _named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    yield _named("content_block_stop", index=0)
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _named("message_delta", delta=delta, usage={"output_tokens": 3})
    yield _named("message_stop")


def _object(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "object": kind, "created": 1, "model": "m", **more}


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _named(name: str, **body: Any) -> bytes:
    return f"event: {name}\n".encode() + _data({"type": name, **body})


_ANSWERS: dict[str, Any] = {
    "chat/completions": (_chat, _chat_events),
    "completions": (_completion, _completion_events),
    "embeddings": (_embeddings, None),
    "responses": (_response, _response_events),
    "messages": (_message, _message_events),
}
