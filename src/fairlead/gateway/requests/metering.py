"""What an answer cost: tokens as the engine reports them, time to first token, time between."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from fairlead.domain.decoding import decode_with
from fairlead.gateway.streams import events

_TAIL_BYTES = 4096
_PROMPT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,9})')
_COMPLETION = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,9})')


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


class _Event(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_answer = msgspec.json.Decoder(_Answer)
_event = msgspec.json.Decoder(_Event)
_other = msgspec.json.Decoder(_OtherEvent)


def usage_of_answer(body: bytes) -> Usage:
    """Usage in a whole JSON answer."""
    try:
        usage = _answer.decode(body).usage or UNKNOWN
    except _UNREADABLE:
        return UNKNOWN
    if usage.completion_tokens >= 0 or usage.prompt_tokens >= 0:
        return usage
    return _other_usage(body, usage) if b'"usage"' in body else usage


def _other_usage(data: bytes, before: Usage) -> Usage:
    """Usage in an answer or an event of the other APIs."""
    try:
        found = decode_with(_other, data)
    except msgspec.DecodeError:
        return before
    carried = found.response or found.message
    usage = found.usage or (carried.usage if carried is not None else None)
    return usage.after(before) if usage is not None else before


def usage_of_tail(tail: bytes) -> Usage:
    """Usage near the end of an answer that is too large to be held."""
    prompt = _PROMPT.search(tail)
    completion = _COMPLETION.search(tail)
    return Usage(
        prompt_tokens=int(prompt[1]) if prompt else -1,
        completion_tokens=int(completion[1]) if completion else -1,
    )


class StreamMeter:
    """Counts one stream's events and finds its usage."""

    def __init__(self) -> None:
        self.first_at = -1.0
        self.last_at = -1.0
        self.events = 0
        self.usage = UNKNOWN

    def events_sent(self, count: int, now: float) -> None:
        """Events with content were passed on."""
        if self.events == 0:
            self.first_at = now
        self.last_at = now
        self.events += count

    def note_usage(self, event: bytes) -> bool:
        """Take usage from the event; True when it carries nothing else."""
        if b'"usage"' not in event:
            return False
        payload = events.payload(event)
        try:
            decoded = decode_with(_event, payload)
        except msgspec.DecodeError:
            return False
        if decoded.usage is None or decoded.usage == UNKNOWN:
            self.usage = _other_usage(payload, self.usage)
            return False
        self.usage = decoded.usage
        return decoded.choices == []

    @property
    def itl_ms(self) -> float:
        """Mean milliseconds between events; -1 with fewer than two."""
        if self.events < 2:
            return -1.0
        return (self.last_at - self.first_at) * 1000.0 / (self.events - 1)


class TailKeeper:
    """Keeps the last bytes of a large answer."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Note more of the answer."""
        self._tail = (self._tail + data)[-_TAIL_BYTES:]

    @property
    def usage(self) -> Usage:
        """Usage in what was kept."""
        return usage_of_tail(self._tail)
