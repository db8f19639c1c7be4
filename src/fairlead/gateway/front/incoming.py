"""A request while it comes in."""

from __future__ import annotations

import enum

from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.chunks import ChunkFraming
from fairlead.gateway.front.framing import FirstLine, Head
from fairlead.gateway.front.operations import Operation
from fairlead.gateway.limits import JSON_MARKS_MAX
from fairlead.gateway.requests.request_body import marks_in
from fairlead.gateway.state.loaded import Loaded
from fairlead.wire.snapshot import KeyEntry


class Phase(enum.Enum):
    """Where a connection is with its present request."""

    IDLE = enum.auto()
    READING = enum.auto()
    BUSY = enum.auto()
    LINGERING = enum.auto()


class RequestRefused(Exception):
    """Ends the parsing of a request that is refused."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class Incoming:
    """A request while it comes in."""

    def __init__(self, now: float) -> None:
        self.began = now
        self.first_bytes = b""
        self.line: FirstLine | None = None
        self.head_end = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.header_bytes = 0
        self.head: Head | None = None
        self.operation: Operation | None = None
        self.request_id = ""
        self.key: KeyEntry | None = None
        self.loaded: Loaded | None = None
        self.wire_bytes = 0
        self.parts: list[bytes] = []
        self.body_began = now
        self.body_bytes = 0
        self.body_bytes_max = 0
        self._marks = 0
        self._marked_parts = 0
        self._is_sparse = False
        self._is_in_body = False
        self.chunks: ChunkFraming | None = None
        self.is_complete = False

    def is_too_complex(self) -> bool:
        """Count the marks of what is new of the body; whether it has more than all of it may have.

        Part by part that takes no long time at once, and the rest need not be waited for. Once
        they are so sparse that the largest body would not have too many, they are left to its end.
        """
        if self.body_bytes <= JSON_MARKS_MAX or self._is_sparse:
            return False
        self._marks += marks_in(b"".join(self.parts[self._marked_parts :]))
        self._marked_parts = len(self.parts)
        self._is_sparse = self._marks * self.body_bytes_max < JSON_MARKS_MAX * self.body_bytes
        return self._marks > JSON_MARKS_MAX

    def follow_chunks(self, data: bytes) -> bool:
        """Whether the framing of the chunks that came with these bytes is as it must be."""
        assert self.chunks is not None
        if not self._is_in_body:
            _, blank, data = (self.head_end + data).partition(b"\r\n\r\n")
            self._is_in_body = True
            if not blank:
                return False
        return self.chunks.feed(data)
