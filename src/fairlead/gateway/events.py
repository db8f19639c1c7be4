"""Server-sent events: a byte stream cut into whole events."""

from __future__ import annotations

import re

from fairlead.gateway.limits import EVENT_BYTES_MAX

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LONGEST_END = 4
_DONE = (b"data: [DONE]", b"data:[DONE]")
_ERRORS = (b'data: {"error"', b'data:{"error"', b"event: error", b"event:error", b"error:")


class EventTooLarge(Exception):
    """One event is larger than `EVENT_BYTES_MAX`."""


class EventSplitter:
    """Collects bytes and gives back whole events, each with the blank line that ends it."""

    def __init__(self) -> None:
        self._rest = b""
        self._scanned = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now; raises `EventTooLarge`."""
        data = self._rest + data
        events = []
        start = 0
        scan = max(0, self._scanned - _LONGEST_END)
        while (match := _END.search(data, scan)) is not None:
            scan = match.end()
            events.append(data[start:scan])
            start = scan
        self._rest = data[start:]
        self._scanned = len(self._rest)
        if len(self._rest) > EVENT_BYTES_MAX or any(len(e) > EVENT_BYTES_MAX for e in events):
            raise EventTooLarge
        return events

    def whole(self, data: bytes) -> bytes | None:
        """All events that are complete now in one piece, when nobody has to look into them.

        None when they have to be told apart; `feed` takes the same data then.
        """
        block = self._rest + data if self._rest else data
        end = block.rfind(b"\n\n") + 2
        if end < 2 or len(block) > EVENT_BYTES_MAX or not _is_ordinary(block):
            return None
        self._rest = block[end:]
        self._scanned = 0
        return block[:end] if self._rest else block

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return self._rest


def _is_ordinary(block: bytes) -> bool:
    """Whether these are events of plain form that neither end the stream nor tell of usage."""
    return (
        b"\r" not in block
        and b"[DONE]" not in block
        and b"error" not in block
        and not block.startswith((b":", b"\n"))
        and b"\n:" not in block
        and b"\n\n\n" not in block
        and (b'"usage"' not in block or block.count(b'"usage"') == block.count(b'"usage":null'))
    )


def is_done(event: bytes) -> bool:
    """Whether this is the event that ends an OpenAI stream."""
    return event.rstrip() in _DONE


def is_error(event: bytes) -> bool:
    """Whether the engine reports an error by this event."""
    return event.startswith(_ERRORS)


def payload(event: bytes) -> bytes:
    """The event's data: its `data:` lines, joined."""
    lines = [
        line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")
    ]
    return b"\n".join(lines)
