"""Server-sent events: a byte stream cut into whole events."""

from __future__ import annotations

import re

from fairlead.gateway.limits import EVENT_BYTES_MAX

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LONGEST_END = 4
_REST_BYTES_MAX = 16 * 1024
_DONE = (b"data: [DONE]", b"data:[DONE]")
_ERRORS = (
    b'data: {"error"',
    b'data:{"error"',
    b"event: error",
    b"event:error",
    b"event: response.failed",
    b"error:",
)
_LAST = frozenset(
    {
        b"event: response.completed",
        b"event: response.incomplete",
        b"event: response.failed",
        b"event: message_stop",
    }
)
"""What ends a stream of the Responses API and of Anthropic's, which have no `[DONE]`."""
_OF_OTHER_APIS = (b"event: response.", b"event: message_", b"event: content_block_", b"event: ping")
_UNUSUAL = (b":", b"\n", b"event:")
_FINISHED = re.compile(
    rb'"(?:finish_reason|stop_reason)"\s*:\s*"[^"]'
    rb'|"type"\s*:\s*"(?:message_stop|response\.(?:completed|incomplete|failed))"'
)
_WITH_CONTENT = re.compile(rb"event: (?:response\.[a-z_.]*delta|content_block_delta)\s")


class EventTooLarge(Exception):
    """One event is larger than `EVENT_BYTES_MAX`."""


class EventSplitter:
    """Collects bytes and gives back whole events, each with the blank line that ends it."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now; raises `EventTooLarge`."""
        if self._rest:
            return self._go_on(data)
        events, start = _cut(data, 0)
        self._rest += data[start:]
        if len(data) > EVENT_BYTES_MAX:
            self._check(events)
        return events

    def _go_on(self, data: bytes) -> list[bytes]:
        """Into one growing buffer: an event in single bytes must not be copied at each of them."""
        scan = max(0, len(self._rest) - _LONGEST_END)
        self._rest += data
        events, start = _cut(self._rest, scan)
        del self._rest[:start]
        self._check(events)
        return events

    def _check(self, events: list[bytes]) -> None:
        if len(self._rest) > EVENT_BYTES_MAX or any(len(e) > EVENT_BYTES_MAX for e in events):
            raise EventTooLarge

    def whole(self, data: bytes) -> bytes | None:
        """All events that are complete now in one piece, when nobody has to look into them.

        None when they have to be told apart; `feed` takes the same data then.
        """
        if len(self._rest) > _REST_BYTES_MAX:
            return None  # A large event is not to be copied with each part of it that comes.
        block = bytes(self._rest) + data if self._rest else data
        end = block.rfind(b"\n\n") + 2
        if end < 2 or len(block) > EVENT_BYTES_MAX or not is_ordinary(block):
            return None
        self._rest = bytearray(block[end:])
        return block[:end] if self._rest else block

    @property
    def rest_bytes(self) -> int:
        """Size of the rest."""
        return len(self._rest)

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return bytes(self._rest)


def _cut(data: bytes | bytearray, scan: int) -> tuple[list[bytes], int]:
    """The whole events at the beginning, and where they end."""
    events = []
    start = 0
    while (match := _END.search(data, scan)) is not None:
        scan = match.end()
        events.append(bytes(data[start:scan]))
        start = scan
    return events, start


def is_ordinary(block: bytes) -> bool:
    """Whether these are events of plain form that neither end the stream nor tell of usage."""
    find = block.find  # Python's `in` raises and drops an error first, to tell bytes from a number.
    return (
        find(b"\r") < 0
        and find(b"[DONE]") < 0
        and find(b"error") < 0
        and not block.startswith(_UNUSUAL)
        and find(b"\n:") < 0
        and find(b"\n\n\n") < 0
        and (find(b'"usage"') < 0 or block.count(b'"usage"') == block.count(b'"usage":null'))
    )


def is_done(event: bytes) -> bool:
    """Whether this is the event that ends a stream."""
    return event.rstrip() in _DONE or (
        event.startswith(b"event: ") and event.splitlines()[0].rstrip() in _LAST
    )


def tells_end(block: bytes) -> bool:
    """Whether an event in it says why the answer is over: there is no part of it after that."""
    return _FINISHED.search(block) is not None


def has_content(event: bytes) -> bool:
    """Whether this may be a part of the answer, rather than a word on how far it is."""
    return not event.startswith(_OF_OTHER_APIS) or _WITH_CONTENT.match(event) is not None


def is_error(event: bytes) -> bool:
    """Whether the engine reports an error by this event."""
    return event.startswith(_ERRORS)


def payload(event: bytes) -> bytes:
    """The event's data: its `data:` lines, joined."""
    lines = [
        line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")
    ]
    return b"\n".join(lines)
