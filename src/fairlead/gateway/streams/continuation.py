"""Going on with a broken stream on another replica, from the text that the client has. Pure.

What was sent is a text, and the engine reads it as a text again. Where it would read other tokens
than were said, and nothing is left to chance, it is given only the text before them, and says the
rest again; so it is with penalties on what was said before. What cannot be repeated as a text (a
tool call, a thought, several choices, probabilities of tokens), or would be held to its form from
the beginning (a grammar), is not gone on with.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.gateway.streams.sent import Sent
from fairlead.wire.snapshot import LLAMA_CPP, VLLM

CHAT = "chat/completions"
KINDS = frozenset({CHAT, "completions"})
ENGINES = frozenset({LLAMA_CPP, VLLM})
DONE = b"data: [DONE]\n\n"
LEAD_CHARACTERS = 256
"""So much before the text is enough to see whether its end and the text are read as one token."""

_LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")
_LEAST = ("min_tokens",)
_SINGLE = ("n", "best_of")
_UNWANTED = (
    "logprobs",
    "top_logprobs",
    "n_probs",
    "prompt_logprobs",
    "return_token_ids",
    "return_tokens",
    "return_progress",
    "echo",
    "suffix",
    "grammar",
    "json_schema",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "use_beam_search",
    "audio",
)
_PENALTIES_OF_SAID = {"presence_penalty": 0, "frequency_penalty": 0}
"""By name with what does nothing: they count what the engine has said itself."""
_PENALTIES = {
    **_PENALTIES_OF_SAID,
    "repeat_penalty": 1,
    "repetition_penalty": 1,
    "dry_multiplier": 0,
}
"""Those of which that need not be so, too: vLLM counts the prompt for its `repetition_penalty`."""
_TOOL_CHOICES = (None, "auto", "none")


class NotContinuable(Exception):
    """The rest of this stream cannot be asked for."""


_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws = msgspec.json.Decoder(list[msgspec.Raw])


class Rest(msgspec.Struct, frozen=True):
    """What is still to come of a broken stream.

    Attributes:
        body: The request for it.
        text: What that request takes as said already.
        repeats: What the client has of the text and the engine will say again.
        is_again: `repeats` must come again as it was; else it is white space, and may be less.
        is_greedy: Asked the same, the engine says the same.
        is_penalised: What was said counts against being said again, and not what was read.
        lead: The end of what stands before the text, where both are read as one: of the prompt of a
            completion, or of a message that the client itself had begun.
        tokens: How many tokens of the answer need not be said again.
        read: How many tokens `text` adds to the prompt.
        model: `model` as the engine sees it.
        has_stop: The request names stop sequences.
        ends_with: Nothing but the end is missing; the request is only for the usage. It is the
            finish reason that the client must still get, or empty when it has one.
    """

    body: bytes
    text: str
    repeats: str
    is_again: bool
    is_greedy: bool
    is_penalised: bool
    lead: str
    tokens: int
    read: int
    ends_with: str | None
    model: msgspec.Raw | None
    has_stop: bool


def continued_body(
    body: bytes,
    kind: str,
    engine: str,
    sent: Sent,
    counted: tuple[int, int] | None = None,
    again_from: int | None = None,
) -> Rest:
    """The request for the rest.

    Args:
        body: The request as the engine had it that broke.
        sent: Settled.
        counted: `tokens` and `read`, where that is known better than from the events.
        again_from: Bytes of the text from which on it is to be said again; None where it is read.

    Raises:
        NotContinuable: The answer so far is none that can be gone on with.
    """
    if not sent.is_continuable or engine not in ENGINES or kind not in KINDS:
        raise NotContinuable
    try:
        parts: dict[str, Any] = dict(_parts.decode(body))
        text, repeats = _split_text(sent.text, kind, engine, again_from)
        if text or again_from is not None:
            _check(parts)
        tokens = sent.solid_tokens if repeats else sent.tokens
        tokens, read = (tokens, tokens) if counted is None else counted
        left = _lower(parts, tokens)
        is_greedy, is_penalised, lead = _is_greedy(parts), _is_penalised(parts, engine), ""
        if text and kind == CHAT:
            lead = _prefill(parts, text, engine)[-LEAD_CHARACTERS:]
        elif text:
            prompt = _prompt(parts)
            lead = prompt[-LEAD_CHARACTERS:]
            parts["prompt"] = prompt + text
        ends_with = _ends_with(sent, left)
        if ends_with is not None:
            parts = _for_usage_alone(parts)
        elif text and is_greedy and is_penalised and engine != LLAMA_CPP:
            raise NotContinuable
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotContinuable from error
    return Rest(
        body=msgspec.json.encode(parts),
        text=text,
        repeats=repeats,
        is_again=again_from is not None,
        is_greedy=is_greedy,
        is_penalised=is_penalised,
        lead=lead if engine == LLAMA_CPP else "",
        tokens=tokens,
        read=read,
        ends_with=ends_with,
        model=parts.get("model"),
        has_stop=bytes(parts.get("stop", b"null")) not in (b"null", b"[]"),
    )


def _ends_with(sent: Sent, left: int) -> str | None:
    if sent.finish_reason is not None:
        return ""
    return "length" if left <= 0 else None


def _for_usage_alone(parts: dict[str, Any]) -> dict[str, Any]:
    limits = {name: 1 for name in _LIMITS if name in parts} or {"max_tokens": 1}
    return {name: part for name, part in {**parts, **limits}.items() if name not in _LEAST}


def _split_text(text: str, kind: str, engine: str, again_from: int | None) -> tuple[str, str]:
    """Text to go on from, and what is better said again.

    vLLM fills the text into the model's chat template, and many of these trim what is filled in.
    """
    if again_from is not None:
        kept = text.encode()[:again_from].decode()
        return kept, text[len(kept) :]
    if kind == CHAT and engine == VLLM:
        kept = text.rstrip()
        return kept, text[len(kept) :]
    return text, ""


def _is_greedy(parts: dict[str, Any]) -> bool:
    temperature = msgspec.json.decode(parts.get("temperature", b"null"))
    return type(temperature) in (int, float) and temperature <= 0


def _is_penalised(parts: dict[str, Any], engine: str) -> bool:
    names = _PENALTIES if engine == LLAMA_CPP else _PENALTIES_OF_SAID
    return any(
        msgspec.json.decode(parts[name]) not in (None, neutral)
        for name, neutral in names.items()
        if name in parts
    )


def _check(parts: dict[str, Any]) -> None:
    def value(name: str) -> Any:
        return msgspec.json.decode(parts[name]) if name in parts else None

    for name in _SINGLE:
        if value(name) not in (None, 1):
            raise NotContinuable
    for name in _UNWANTED:
        given = value(name)
        if given is not None and given is not False and given != "":
            raise NotContinuable
    form = value("response_format")
    if form is not None and form != {"type": "text"}:
        raise NotContinuable
    if value("tool_choice") not in _TOOL_CHOICES or value("function_call") not in _TOOL_CHOICES:
        raise NotContinuable
    if value("modalities") not in (None, ["text"]):
        raise NotContinuable
    if value("add_generation_prompt") is False and value("continue_final_message") is not True:
        raise NotContinuable


def _lower(parts: dict[str, Any], tokens: int) -> int:
    """Take off the limits what has come; returns the least that is left."""
    left_least = 1
    for name in (*_LIMITS, *_LEAST):
        if name not in parts:
            continue
        limit = msgspec.json.decode(parts[name])
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            continue
        left = limit - tokens
        parts[name] = max(0, left)
        if name in _LIMITS:
            left_least = min(left_least, left)
    return left_least


def _prompt(parts: dict[str, Any]) -> str:
    prompt = msgspec.json.decode(parts.get("prompt", b"null"))
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise NotContinuable
    return prompt


def _prefill(parts: dict[str, Any], text: str, engine: str) -> str:
    """Let the last message end with the text; what that message had before."""
    messages: list[Any] = list(_raws.decode(parts.get("messages", b"null")))
    last: Any = msgspec.json.decode(messages[-1]) if messages else None
    goes_on = isinstance(last, dict) and last.get("role") == "assistant"
    if goes_on and engine == VLLM:
        goes_on = msgspec.json.decode(parts.get("continue_final_message", b"null")) is True
    begun = _begun(last, engine) if goes_on else ""
    if goes_on:
        messages[-1] = {**last, "content": begun + text}
    else:
        messages.append({"role": "assistant", "content": text})
    parts["messages"] = messages
    if engine == VLLM:
        parts["continue_final_message"] = True
        parts["add_generation_prompt"] = False
    return begun


def _begun(last: dict[str, Any], engine: str) -> str:
    """The text that the client itself had asked to go on from."""
    begun = last.get("content")
    if not isinstance(begun, str) or set(last) != {"role", "content"}:
        raise NotContinuable
    # With the text behind it, its end is no longer there for vLLM's chat template to trim; and an
    # empty one is no place to cut off what the template puts behind a message.
    if engine == VLLM and (not begun or begun[-1].isspace()):
        raise NotContinuable
    return begun


def end_of(sent: Sent, kind: str, finish_reason: str) -> bytes:
    """The last events of a stream of which nothing but the end is missing."""
    if not finish_reason:
        return DONE
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason}
    if kind == CHAT:
        choice["delta"] = {}
    else:
        choice.update({"text": "", "logprobs": None})
    return b"data: %b\n\n%b" % (msgspec.json.encode({**sent.same, "choices": [choice]}), DONE)
