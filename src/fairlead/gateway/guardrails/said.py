"""What is said in the bodies of the APIs: every text, whoever is said to say it.

Whatever is not known to be something else counts as said, so that no field hides a text. An
answer's own words are told from what goes with them (its reasoning, the calls of tools).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterable, Iterator
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
_BY_VECTORS = "prompt_embeds"
_NO_TEXT = frozenset(
    {
        "role", "type", "id", "object", "model", "status", "index", "logprobs", "finish_reason",
        "stop_reason", "call_id", "tool_call_id", "tool_use_id", "item_id", "image_url", "file_id",
        "input_audio", "audio", "file_data", "encrypted_content", "signature", "detail",
        "cache_control", "media_type", "output_index", "content_index", "created", "usage",
    }
)  # fmt: skip
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_NAME = re.compile(r"[\w.:/-]{1,64}", re.ASCII)
_DIGITS = re.compile(r"\d{7}")
_NO_WORDS = re.compile(r"[!-~]*")
_BINARY = frozenset(
    {
        "image_url", "url", "file_data", "data", "encrypted_content", "signature", "file_id",
        "b64_json", "partial_image_b64",
    }
)  # fmt: skip
_SHOWN = frozenset({"text", "content"})
"""Where the texts of a message stand."""
_LONG_NUMBER = 1_000_000
_TOOLS = ("tool_calls", "function_call")
_TOOL_TYPES = ("tool_use", "function_call", "custom_tool_call")
_SAID = ("message", "text", "output_text", None)
_WORDS = ("response.output_text.delta", "text_delta")
_META = frozenset(
    {
        "id", "object", "model", "created", "created_at", "completed_at", "system_fingerprint",
        "service_tier", "usage", "logprobs", "prompt_logprobs", "token_ids", "prompt_token_ids",
        "obfuscation", "sequence_number", "status", "role", "type", "index", "output_index",
        "content_index", "summary_index", "item_id", "call_id", "response_id", "event_id",
        "finish_reason", "stop_reason", "timings", "kv_transfer_params",
    }
)  # fmt: skip
"""What engines say of an answer and its parts: no model has a word in it."""
_NO_ANSWER = _META | {
    "instructions", "prompt", "input_messages", "tools", "tool_choice", "metadata", "user", "stop",
    "stop_sequence", "truncation", "include", "conversation", "previous_response_id",
    "prompt_cache_key", "safety_identifier", "incomplete_details", "error",
    "prompt_filter_results", "prompt_annotations", "provider", "x_groq", "generation_settings",
    "__verbose",
}  # fmt: skip
"""The same of whole answers, where some say again what was asked."""
_SETTINGS = frozenset({"text", "reasoning", "thinking"})
"""Of an answer, but for a text: what was asked of it."""
_ITEMS = frozenset({"output", "content", "part", "item", "content_block", "message"})
_TEXTS = frozenset(
    {"text", "content", "output", "output_text", "message", "completion", "response"}
)
_WHOLE = (".done", ".completed", ".incomplete", ".failed")
_REASONING = "reasoning"
_DONE = b"[DONE]"
PART = ""
"""The source of what is said part by part."""
ASIDE = "aside"
"""The source of what may be no part of the answer; it is looked at, and does not count."""
UNREAD = "unread"
"""The source of what cannot be looked at."""
VALUES_MAX = 1_000_000
"""Commas of a request's JSON: of more values nobody reads the texts."""
PAUSE_VALUES = 2_000
"""After so many values of JSON there may be a pause."""
ANSWER_VALUES_MAX = 50_000
"""Values of a part of an answer whose texts are read at once: of more nobody reads them."""
ANSWER_PARTS_MAX = 10_000
"""The same of choices, and of parts of what is said."""
_value = msgspec.json.Decoder()


class Said(NamedTuple):
    """A part of an answer.

    Attributes:
        choice: Which of several answers it belongs to.
        words: Of the answer itself.
        beside: What goes with it: reasoning, a refusal, calls of tools.
        calls_tool: Whether it is, or has, a call of a tool.
        source: `PART`, `ASIDE`, or what says the whole of it, once more or for the first time: what
            several sources say counts once.
    """

    choice: int
    words: str
    beside: str = ""
    calls_tool: bool = False
    source: str = PART


class Asked(NamedTuple):
    """What a request says.

    Attributes:
        text: Of all messages, each one's texts together, with a line's end between two.
        has_tokens: A part of the prompt is given by the numbers of its tokens, or by vectors:
            nobody can read it.
        again: The messages of several parts once more, with nothing between the parts: engines
            differ in how they join them; and without what stands beside the texts.
    """

    text: str
    has_tokens: bool
    again: str = ""


UNREADABLE = Asked("", has_tokens=True)


def asked(body: bytes) -> Asked:
    """What a request's body says; raises `msgspec.DecodeError` for what is no JSON object."""
    parts = asking(body)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            said: Asked = end.value
            return said


def asking(body: bytes) -> Generator[None, None, Asked]:
    """The same with pauses, where there is very much in it."""
    if len(body) > VALUES_MAX and body.count(b",") > VALUES_MAX:
        return UNREADABLE
    given = decode_json(body, dict[str, Any])
    if given.get(_BY_VECTORS) or any(_has_tokens(given.get(name)) for name in _BY_TOKENS):
        return UNREADABLE
    turns: list[str] = []
    again: list[str] = []
    ticks = itertools.count(1)
    for name, value in given.items():
        if name in _NO_PROMPT:
            continue
        for turn in value if isinstance(value, list) else (value,):
            if next(ticks) % PAUSE_VALUES == 0:
                yield
            if not isinstance(turn, str | dict | list):
                continue
            texts: list[tuple[str, str]] = []
            for named in _nodes(turn, ticks):
                if named is None:
                    yield
                else:
                    texts.append(named)
            turns += ["\n".join(text for _, text in texts)] if texts else []
            again += _again(texts)
    return Asked("\n".join(turns), has_tokens=False, again="\n".join(again))


def _again(texts: list[tuple[str, str]]) -> Iterator[str]:
    """A message of several texts in one piece, and so without what is put between them."""
    shown = [text for name, text in texts if name in _SHOWN]
    if len(texts) > 1:
        yield "".join(text for _, text in texts)
    if 1 < len(shown) < len(texts):
        yield "".join(shown)


def _has_tokens(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    return any(isinstance(one, int) or (isinstance(one, list) and one) for one in value)


def answered(body: bytes) -> list[Said]:
    """What a whole answer says.

    Raises:
        msgspec.DecodeError: It is no JSON object, or there is too much in it.
    """
    try:
        return list(_of(decode_json(body, dict[str, Any])))
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def streamed(data: bytes) -> Iterator[Said]:
    """What whole events of a stream say."""
    for event in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        payload = events.payload(event).strip()
        if not payload or payload == _DONE:
            continue
        is_object = payload.startswith(b"{")
        try:
            given = decode_with(_value, payload)
        except msgspec.DecodeError:
            # A client may read it all the same.
            yield Said(0, payload.decode(errors="replace"), source=PART if is_object else ASIDE)
            continue
        try:
            yield from _of_event(given) if is_object else _aside(given)
        except (msgspec.DecodeError, RecursionError):
            yield Said(0, "", source=UNREAD)


def joined(said: Iterable[Said]) -> Iterator[Said]:
    """Neighbouring parts of the same as one: what is looked at together costs one look."""
    for (choice, source), same in itertools.groupby(said, key=lambda one: (one.choice, one.source)):
        parts = list(same)
        if len(parts) == 1:
            yield parts[0]
        else:
            words, beside = "".join(p.words for p in parts), "".join(p.beside for p in parts)
            yield Said(choice, words, beside, any(p.calls_tool for p in parts), source)


def _of_event(given: dict[str, Any]) -> Iterator[Said]:
    kind, delta = given.get("type"), given.get("delta")
    if not isinstance(kind, str) or "choices" in given:
        yield from _of(given)
        return
    calls = "function_call" in kind or "tool" in kind
    if isinstance(delta, str | dict):
        text = "".join(_texts(delta))
        is_words = kind in _WORDS or (isinstance(delta, dict) and delta.get("type") in _WORDS)
        yield Said(0, text, "", calls) if is_words else Said(0, "", text, calls)
    rest = {name: value for name, value in given.items() if name != "delta"}
    source = kind if kind.endswith(_WHOLE) else PART
    for said in _of(rest, source):
        words, beside = said.words, said.beside
        if _REASONING in kind:  # What comes with an answer is an output of its own.
            words, beside = "", words + beside
        yield Said(said.choice, words, beside, said.calls_tool or calls, said.source)


def _of(given: dict[str, Any], source: str = PART) -> Iterator[Said]:
    """An answer, or an event but for what it adds (`delta`)."""
    for name, value in given.items():
        if name in _NO_ANSWER:
            continue
        if name == "choices" and isinstance(value, list):
            for one in _few(value):
                yield from _choice(one)
        elif name in _ITEMS and isinstance(value, dict | list):
            for one in _few(value) if isinstance(value, list) else (value,):
                yield from _item(one, source)
        elif name == "response" and source != name and isinstance(value, dict):
            yield from _of(value, name)
        elif name in _TEXTS and isinstance(value, str):
            yield Said(0, value, source=source or name)
        elif name not in _SETTINGS or isinstance(value, str):
            yield Said(0, "", "".join(_texts(value)), source=source or ASIDE)


def _aside(given: Any) -> Iterator[Said]:
    yield Said(0, "", "".join(_texts(given)), source=ASIDE)


def _choice(given: Any) -> Iterator[Said]:
    if not isinstance(given, dict):
        yield from _aside(given)
        return
    number = _number(given.get("index"))
    rest = {name: value for name, value in given.items() if name not in _META}
    for name, source in (("delta", PART), ("message", "message"), ("text", PART)):
        part = rest.pop(name, None)
        if isinstance(part, dict):
            words = "".join(_texts(part.get("content")))
            beside = {key: value for key, value in part.items() if key != "content"}
            calls = any(part.get(tool) for tool in _TOOLS)
            yield Said(number, words, "".join(_texts(beside)), calls, source)
        elif part is not None:
            yield Said(number, "".join(_texts(part)), source=source)
    if rest:
        yield Said(number, "", "".join(_texts(rest)), source=ASIDE)


def _item(item: Any, source: str) -> Iterator[Said]:
    """An item of `output` of Responses, a block of `content` of Messages, or a part of these."""
    if not isinstance(item, dict):
        yield Said(0, "".join(_texts(item)), source=source)
        return
    kind, words = item.get("type"), ""
    rest = {name: value for name, value in item.items() if name not in _META}
    if kind in _SAID:
        content = rest.pop("content", None)
        if isinstance(content, list):
            for part in _few(content):
                yield from _item(part, source)
        else:
            words = "".join(_texts(content))
        words += "".join(_texts(rest.pop("text", None)))
    yield Said(0, words, "".join(_texts(rest)), kind in _TOOL_TYPES, source)


def _few(parts: list[Any]) -> list[Any]:
    if len(parts) > ANSWER_PARTS_MAX:
        raise msgspec.DecodeError("there are too many parts in it to be looked at at once")
    return parts


def _texts(value: Any) -> Iterator[str]:
    """All texts in a part of an answer; raises `msgspec.DecodeError` where there are too many."""
    pauses = 0
    for named in _nodes(value, itertools.count(1)):
        if named is not None:
            yield named[1]
        else:
            pauses += 1
            if pauses * PAUSE_VALUES > ANSWER_VALUES_MAX:
                raise msgspec.DecodeError("there is too much in it to be looked at at once")


def _nodes(value: Any, ticks: Iterator[int]) -> Iterator[tuple[str, str] | None]:
    """All texts in a value, with what they are called; None now and then, when some milliseconds
    may have passed.

    Args:
        ticks: Counts the values.
    """
    waiting: list[Iterator[tuple[str, Any]]] = [iter((("", value),))]
    while waiting:
        pair = next(waiting[-1], None)
        if pair is None:
            waiting.pop()
            continue
        if next(ticks) % PAUSE_VALUES == 0:
            yield None
        name, one = pair
        if isinstance(one, str):
            if not _is_no_text(name, one):
                yield name, one
        elif isinstance(one, list):
            waiting.append(zip(itertools.repeat(name), one, strict=False))
        elif isinstance(one, dict):
            waiting.append(_fields(one))
            for key in one:
                if next(ticks) % PAUSE_VALUES == 0:
                    yield None
                if not _NAME.fullmatch(key) or _DIGITS.search(key):
                    yield "", key
        elif isinstance(one, int) and abs(one) >= _LONG_NUMBER and name not in _NO_TEXT:
            yield name, str(one)


def _fields(given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What it has, by name; what would be data elsewhere is a text in what says that it is one."""
    if given.get("type") != "text":
        return iter(given.items())
    return (("text" if name in _BINARY else name, value) for name, value in given.items())


def _is_no_text(name: str, text: str) -> bool:
    """Names and numbers of the API's own, and data of pictures and sounds."""
    if name in _BINARY and _NO_WORDS.fullmatch(text):
        return True
    if name == "role":
        return text in _ROLES
    return name in _NO_TEXT and bool(_NAME.fullmatch(text)) and not _DIGITS.search(text)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
