"""What an answer cost: tokens as the engine reports them, time to first token, time between."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from fairlead.domain.decoding import decode_with
from fairlead.gateway import events

_TAIL_BYTES = 4096
_PROMPT = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,9})')
_COMPLETION = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,9})')


_Tokens = Annotated[int, msgspec.Meta(ge=-1, lt=10**9)]
"""As many as a record can hold; an engine that reports more is not believed."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one request; -1 where the engine does not say."""

    prompt_tokens: _Tokens = -1
    completion_tokens: _Tokens = -1


UNKNOWN = Usage()


class _Answer(msgspec.Struct):
    usage: Usage | None = None


class _Event(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None


_answer = msgspec.json.Decoder(_Answer)
_event = msgspec.json.Decoder(_Event)


def usage_of_answer(body: bytes) -> Usage:
    """Usage in a whole JSON answer."""
    try:
        return decode_with(_answer, body).usage or UNKNOWN
    except msgspec.DecodeError:
        return UNKNOWN


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
        try:
            decoded = decode_with(_event, events.payload(event))
        except msgspec.DecodeError:
            return False
        if decoded.usage is None:
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
