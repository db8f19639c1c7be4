"""Tokens of a request, as engines report them in an answer or in an event of a stream."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fairlead.domain.decoding import decode_with

_Tokens = Annotated[int, msgspec.Meta(ge=-1, lt=10**9)]
"""As many as a record can hold; an engine that reports more is not believed."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one request; -1 where the engine does not say."""

    prompt_tokens: _Tokens = -1
    completion_tokens: _Tokens = -1


UNKNOWN = Usage()


class _OtherUsage(msgspec.Struct):
    """As the Responses API and Anthropic's report it; the latter counts cached input apart."""

    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    cache_read_input_tokens: _Tokens | None = None
    cache_creation_input_tokens: _Tokens | None = None

    def after(self, before: Usage) -> Usage:
        """What is known now: an event may tell of one side only."""
        prompt, completion = self.input_tokens, self.output_tokens
        if prompt is not None:
            cached = (self.cache_read_input_tokens, self.cache_creation_input_tokens)
            prompt += sum(count for count in cached if count is not None)
        return Usage(
            prompt_tokens=before.prompt_tokens if prompt is None else min(prompt, 10**9 - 1),
            completion_tokens=before.completion_tokens if completion is None else completion,
        )


class _OtherMessage(msgspec.Struct):
    usage: _OtherUsage | None = None


class _OtherEvent(msgspec.Struct):
    """An answer or an event of those APIs; usage is in it, or in the answer that it carries."""

    usage: _OtherUsage | None = None
    response: _OtherMessage | None = None
    message: _OtherMessage | None = None


class _Answer(msgspec.Struct, gc=False):
    usage: Usage | None = None


class UsageEvent(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_answer = msgspec.json.Decoder(_Answer)
event_decoder = msgspec.json.Decoder(UsageEvent)
_other = msgspec.json.Decoder(_OtherEvent)


def usage_of_answer(body: bytes) -> Usage:
    """Usage in a whole JSON answer."""
    try:
        usage = _answer.decode(body).usage or UNKNOWN
    except _UNREADABLE:
        return UNKNOWN
    if usage.completion_tokens >= 0 or usage.prompt_tokens >= 0:
        return usage
    return other_usage(body, usage) if b'"usage"' in body else usage


def other_usage(data: bytes, before: Usage) -> Usage:
    """Usage in an answer or an event of the other APIs."""
    try:
        found = decode_with(_other, data)
    except msgspec.DecodeError:
        return before
    carried = found.response or found.message
    usage = found.usage or (carried.usage if carried is not None else None)
    return usage.after(before) if usage is not None else before
