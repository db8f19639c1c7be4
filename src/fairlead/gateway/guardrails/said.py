"""What is said in the bodies of the APIs: every text, whoever is said to say it.

Whatever is not known to be something else counts as said, so that no field hides a text. An
answer's own words are told from what goes with them (its reasoning, the calls of tools).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from fairlead.domain.decoding import decode_json, decode_with
from fairlead.gateway.streams import events

_NO_PROMPT = frozenset(
    {
        "model", "user", "stream", "stream_options", "stop", "metadata", "temperature", "top_p",
        "top_k", "n", "seed", "max_tokens", "max_completion_tokens", "max_output_tokens",
        "logit_bias", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty",
        "tool_choice", "parallel_tool_calls", "service_tier", "store", "modalities", "audio",
        "reasoning", "reasoning_effort", "encoding_format", "dimensions", "safety_identifier",
        "prompt_cache_key", "previous_response_id", "truncation", "include", "thinking",
    }
)  # fmt: skip
"""Fields of requests that no model is shown."""
_BY_TOKENS = ("prompt", "input")
_NO_TEXT = frozenset(
    {
        "role", "type", "id", "object", "model", "status", "index", "logprobs", "finish_reason",
        "stop_reason", "call_id", "tool_call_id", "tool_use_id", "item_id", "image_url", "file_id",
        "input_audio", "audio", "file_data", "encrypted_content", "signature", "detail",
        "cache_control", "media_type", "output_index", "content_index", "created", "usage",
    }
)  # fmt: skip
_NAME = re.compile(r"[\w.:/-]{1,64}")
_DIGITS = re.compile(r"\d{7}")
_NO_WORDS = re.compile(r"\S*")
_BINARY = frozenset(
    {"image_url", "url", "file_data", "data", "encrypted_content", "signature", "file_id"}
)
_LONG_NUMBER = 1_000_000
_TOOLS = ("tool_calls", "function_call")
_TOOL_TYPES = frozenset({"tool_use", "function_call", "custom_tool_call"})
_WORDS = frozenset({"response.output_text.delta", "text_delta"})
_object = msgspec.json.Decoder(dict[str, Any])


class Said(NamedTuple):
    """A part of an answer.

    Attributes:
        choice: Which of several answers it belongs to.
        words: Of the answer itself.
        beside: What goes with it: reasoning, a refusal, calls of tools.
        calls_tool: Whether it is, or has, a call of a tool.
    """

    choice: int
    words: str
    beside: str = ""
    calls_tool: bool = False


class Asked(NamedTuple):
    """What a request says.

    Attributes:
        text: Of all messages, each one's texts together, with a line's end between two.
        has_tokens: A part of the prompt is given by the numbers of its tokens: nobody can read it.
        again: The messages of several parts once more, with nothing between the parts: engines
            differ in how they join them.
    """

    text: str
    has_tokens: bool
    again: str = ""


UNREADABLE = Asked("", has_tokens=True)


def asked(body: bytes) -> Asked:
    """What a request's body says; raises `msgspec.DecodeError` for what is no JSON object."""
    given = decode_json(body, dict[str, Any])
    if any(_has_tokens(given.get(name)) for name in _BY_TOKENS):
        return UNREADABLE
    turns: list[str] = []
    again: list[str] = []
    for name, value in given.items():
        if name in _NO_PROMPT:
            continue
        for turn in value if isinstance(value, list) else (value,):
            texts = list(_texts(turn)) if isinstance(turn, str | dict | list) else []
            turns += ["\n".join(texts)] if texts else []
            again += ["".join(texts)] if len(texts) > 1 else []
    return Asked("\n".join(turns), has_tokens=False, again="\n".join(again))


def _has_tokens(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    return any(isinstance(one, int) or (isinstance(one, list) and one) for one in value)


def answered(body: bytes) -> list[Said]:
    """What a whole answer says; raises `msgspec.DecodeError` for what is no JSON object."""
    return list(_of(decode_json(body, dict[str, Any])))


def streamed(data: bytes) -> Iterator[Said]:
    """What whole events of a stream say."""
    for event in data.replace(b"\r\n", b"\n").split(b"\n\n"):
        payload = events.payload(event).lstrip()
        if not payload.startswith(b"{"):
            continue
        try:
            given = decode_with(_object, payload)
        except msgspec.DecodeError:
            yield Said(0, payload.decode(errors="replace"))  # A client may read it all the same.
            continue
        yield from _of_event(given)


def _of_event(given: dict[str, Any]) -> Iterator[Said]:
    kind, delta = given.get("type"), given.get("delta")
    choice = 0  # What comes with an answer, its reasoning, is an output of its own.
    if not isinstance(kind, str) or "choices" in given:
        yield from _of(given)
    elif isinstance(delta, str):
        is_words = kind in _WORDS
        calls = "function_call" in kind or "tool" in kind
        yield Said(choice, delta, calls_tool=calls) if is_words else Said(choice, "", delta, calls)
    elif isinstance(delta, dict):
        text = "".join(_texts(delta))
        is_words = delta.get("type") in _WORDS
        yield Said(choice, text) if is_words else Said(choice, "", text)
    elif kind == "content_block_start":
        yield _item(given.get("content_block"), choice)


def _of(given: dict[str, Any]) -> Iterator[Said]:
    choices = given.get("choices")
    if isinstance(choices, list):
        for one in choices:
            if isinstance(one, dict):
                yield _choice(one)
    for name in ("output", "content"):
        items = given.get(name)
        if isinstance(items, list):
            for item in items:
                yield _item(item, 0)


def _choice(given: dict[str, Any]) -> Said:
    message = given.get("message") or given.get("delta")
    aside = ("message", "delta", "logprobs")
    rest = {name: value for name, value in given.items() if name not in aside}
    words, calls = "", False
    if isinstance(message, dict):
        words = "".join(_texts(message.get("content")))
        calls = any(message.get(name) for name in _TOOLS)
        rest["message"] = {name: v for name, v in message.items() if name != "content"}
    elif isinstance(given.get("text"), str):
        words = rest.pop("text")
    return Said(_number(given.get("index")), words, "".join(_texts(rest)), calls)


def _item(item: Any, choice: int) -> Said:
    """An item of `output` of Responses, or a block of `content` of Messages."""
    text = "".join(_texts(item))
    kind = item.get("type") if isinstance(item, dict) else None
    if kind in ("message", "text", "output_text"):
        return Said(choice, text)
    return Said(choice, "", text, kind in _TOOL_TYPES)


def _texts(value: Any) -> Iterator[str]:
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        name, one = waiting.pop()
        if isinstance(one, str):
            if not _is_no_text(name, one):
                yield one
        elif isinstance(one, list):
            waiting.extend((name, part) for part in reversed(one))
        elif isinstance(one, dict):
            for key, part in reversed(one.items()):
                waiting.append((key, part))
            yield from (key for key in one if not _NAME.fullmatch(key) or _DIGITS.search(key))
        elif isinstance(one, int) and abs(one) >= _LONG_NUMBER and name not in _NO_TEXT:
            yield str(one)


def _is_no_text(name: str, text: str) -> bool:
    """Names and numbers of the API's own, and data of pictures and sounds."""
    if name in _BINARY and _NO_WORDS.fullmatch(text):
        return True
    return name in _NO_TEXT and bool(_NAME.fullmatch(text)) and not _DIGITS.search(text)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
