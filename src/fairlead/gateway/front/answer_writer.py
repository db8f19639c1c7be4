"""The answers of one client connection, as bytes on its transport."""

from __future__ import annotations

import asyncio
import functools
from typing import Protocol

from fairlead.gateway.front.operations import Host
from fairlead.gateway.front.status_lines import status_line
from fairlead.gateway.requests.call import Headers

_CLOSE = b"connection: close\r\n"


class WriterOwner(Protocol):
    """The connection."""

    def answered(self) -> None:
        """The whole answer is with the transport."""


class AnswerWriter:
    """Writes one answer after the other (`call.Client`).

    Attributes:
        transport: None before the connection is made, and when it is gone: then nothing is written.
        request_id: Of the present request.
        must_close: The connection ends with this answer.
        is_http_1_0: The client knows no chunks.
    """

    __slots__ = (
        "_host",
        "_is_chunked",
        "_owner",
        "is_http_1_0",
        "must_close",
        "request_id",
        "transport",
    )

    def __init__(self, host: Host, owner: WriterOwner) -> None:
        # connection
        self._host = host
        self._owner = owner
        self.transport: asyncio.Transport | None = None
        self.must_close = False
        # request
        self.request_id = ""
        self.is_http_1_0 = False
        # answer
        self._is_chunked = False

    @property
    def is_open(self) -> bool:
        """Whether what is written may arrive."""
        return self.transport is not None and not self.transport.is_closing()

    def lost(self) -> None:
        """The connection is gone."""
        self.transport = None

    def go_on(self) -> None:
        """Ask the client for the body that it holds back."""
        if self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # call.Client

    def answer(self, status: int, content_type: bytes, body: bytes, headers: Headers) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        host = self._host
        if host.is_draining:
            self.must_close = True
        # In one go: it is every plain request's answer.
        transport.write(
            b"%b%b\r\n%bcontent-length: %d\r\n%b\r\n%b"
            % (
                _beginning(status, host.date, content_type),
                self.request_id.encode(),
                headers,
                len(body),
                _CLOSE if self.must_close else b"",
                body,
            )
        )
        self._owner.answered()

    def begin(self, status: int, content_type: bytes, length: int | None, headers: Headers) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        framing = b""
        self._is_chunked = False
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self.is_http_1_0:
            self.must_close = True
        else:
            self._is_chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        headers += framing + b"cache-control: no-cache\r\n"
        transport.write(self._head(status, content_type, headers))

    def part(self, data: bytes, chunks: bytes = b"") -> None:
        transport = self.transport
        if not data or transport is None or transport.is_closing():
            return
        if self._is_chunked:
            transport.write(chunks or b"%x\r\n%b\r\n" % (len(data), data))
        else:
            transport.write(data)

    def end(self, data: bytes, *, closes: bool) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self._is_chunked:
            last = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            transport.write(last + b"0\r\n\r\n")
        else:
            transport.write(data)
        self.must_close = self.must_close or closes
        self._owner.answered()

    def cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _head(self, status: int, content_type: bytes, headers: Headers) -> bytes:
        """The head of an answer whose body comes later."""
        host = self._host
        if host.is_draining:
            self.must_close = True
        return b"%b%b\r\n%b%b\r\n" % (
            _beginning(status, host.date, content_type),
            self.request_id.encode(),
            headers,
            _CLOSE if self.must_close else b"",
        )


@functools.lru_cache(maxsize=64)
def _beginning(status: int, date: bytes, content_type: bytes) -> bytes:
    """What answers begin with, the same for all of a kind until the date changes."""
    return b"%b\r\ndate: %b\r\ncontent-type: %b\r\nx-request-id: " % (
        status_line(status),
        date,
        content_type,
    )
