"""What an answer cost: its tokens, time to first token, time between."""

from __future__ import annotations

import re

import msgspec

from fairlead.domain.decoding import decode_with
from fairlead.gateway.requests.usage import UNKNOWN, Usage, event_decoder, other_usage
from fairlead.gateway.streams import events

_TAIL_BYTES = 4096
_PROMPT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,9})')
_COMPLETION = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,9})')


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
            decoded = decode_with(event_decoder, payload)
        except msgspec.DecodeError:
            return False
        if decoded.usage is None or decoded.usage == UNKNOWN:
            self.usage = other_usage(payload, self.usage)
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
