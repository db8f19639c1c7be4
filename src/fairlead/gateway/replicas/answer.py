"""What comes back from a replica, and who takes it in."""

from __future__ import annotations

from typing import Protocol

UNWELL = frozenset({502, 503, 504, 529})
"""Statuses by which a replica says that it cannot serve now."""


class AnswerHead:
    """The head of a final (not interim) answer.

    Attributes:
        headers: By name in lower case.
        content_type: The media type as sent.
    """

    __slots__ = ("content_type", "headers", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.headers = headers
        self.content_type = headers.get(b"content-type", b"application/json")

    @property
    def is_encoded(self) -> bool:
        """Whether the body is compressed, though nobody asked for that."""
        return self.headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b"")

    @property
    def content_length(self) -> int | None:
        """The body's length, if it was declared."""
        value = self.headers.get(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is a stream of server-sent events."""
        return self.content_type[:17].lower() == b"text/event-stream"


class Taker(Protocol):
    """Who takes in the answer to a request."""

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        """The whole answer at once; never a stream of events."""

    def on_head(self, head: AnswerHead) -> None:
        """The answer's head is there."""

    def on_body(self, data: bytes) -> None:
        """A part of the body."""

    def on_end(self, *, is_framed: bool) -> None:
        """The answer is complete; not framed means that only the connection's end says so."""

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        """No (more) answer will come. Stale: the connection had been used before and was closed
        without a byte of this answer, which says nothing about the replica."""
