"""The text of prompts and answers, out of the bodies of the APIs that the gateway serves.

What cannot be read gives no text: whether it is a good body is for its engine to say.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.gateway.streams import events
from fairlead.gateway.streams.events import EventSplitter, EventTooLarge

_PROMPT_FIELDS = ("instructions", "system", "messages", "prompt", "input")
_TOOLS = ("tool_calls", "function_call")

Turn = tuple[str, str]
"""Who speaks, and what."""
TURNS_MAX = 1_000
"""Of a longer conversation the last ones are read."""


def prompt_of(body: bytes) -> tuple[list[Turn], bool]:
    """The conversation that a request's body holds, as its client sent it; is some left out?"""
    try:
        given = decode_json(body, dict[str, Any])
    except msgspec.DecodeError:
        return [], False
    turns: list[Turn] = []
    is_cut = False
    for name in _PROMPT_FIELDS:
        role = "system" if name in ("instructions", "system") else "user"
        value = given.get(name)
        is_conversation = isinstance(value, list) and name in ("messages", "input")
        items = value if is_conversation and isinstance(value, list) else [value]
        is_cut = is_cut or len(items) > TURNS_MAX
        for item in items[-TURNS_MAX:]:
            if is_conversation and isinstance(item, dict):
                turns.append((str(item.get("role", role)), _text(item)))
            elif item:
                turns.append((role, _text(item)))
    return [turn for turn in turns if turn[1]], is_cut


def answer_of(body: bytes) -> str:
    """The text of a whole answer."""
    try:
        return _answer(decode_json(body, dict[str, Any]))
    except msgspec.DecodeError:
        return ""


def streamed_answer_of(data: bytes) -> str:
    """The text of an answer that came in events, as far as they came."""
    splitter = EventSplitter()
    try:
        found = splitter.feed(data)
    except EventTooLarge:
        return ""
    return "".join(_event_text(event) for event in found)


def _event_text(event: bytes) -> str:
    try:
        given = decode_json(events.payload(event), dict[str, Any])
    except msgspec.DecodeError:
        return ""
    delta = given.get("delta")
    if given.get("type") == "response.output_text.delta" and isinstance(delta, str):
        return delta
    if given.get("type") == "content_block_delta" and isinstance(delta, dict):
        return _text(delta)
    return _answer(given) if "choices" in given else ""


def _answer(given: dict[str, Any]) -> str:
    """Of the first choice of OpenAI's APIs, of `output` of Responses, `content` of Messages."""
    choices = given.get("choices")
    if isinstance(choices, list):
        first = choices[0] if choices and isinstance(choices[0], dict) else {}
        said = first.get("message") or first.get("delta") or first
        return _text(said)
    return _text(given.get("output") or given.get("content"))


def _text(value: Any) -> str:
    """All text in a message, or in its parts; tools' calls as JSON, pictures and sounds by name."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(part) for part in value)
    if not isinstance(value, dict):
        return ""
    said = [_text(value.get(name)) for name in ("content", "text", "refusal")]
    said += [
        msgspec.json.encode(value[name]).decode() for name in _TOOLS if value.get(name) is not None
    ]
    if not any(said) and isinstance(value.get("type"), str) and "role" not in value:
        kind = value["type"]
        return f"[{kind}]" if any(w in kind for w in ("image", "audio", "file", "video")) else ""
    return "".join(said)
