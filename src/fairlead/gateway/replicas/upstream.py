"""One connection to a replica: at any time at most one request is on it.

A connection is used again only when the answer was framed, ended exactly where the parser says,
and nothing came after it: bytes that belong to nobody must never become part of the next answer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import cast

import httptools

from fairlead.gateway.front.heads import ANSWER_LINES, KnownHead
from fairlead.gateway.limits import (
    INTERIM_ANSWERS_MAX,
    READ_BYTES,
    UPSTREAM_HEADER_BYTES_MAX,
    UPSTREAM_HEADERS_MAX,
    UPSTREAM_OVERHEAD_BYTES_MAX,
)
from fairlead.gateway.replicas.answer import AnswerHead, Taker
from fairlead.gateway.streams.event_lane import EventLane, body_of

_ONCE = frozenset({b"content-length", b"content-type", b"transfer-encoding", b"content-encoding"})


class _Refused(Exception):
    """Ends the parsing of an answer that breaks a limit."""


_received = threading.local()


def _read_into() -> memoryview:
    """What all connections of a thread's loop read into, one after the other."""
    if not hasattr(_received, "view"):
        _received.view = memoryview(bytearray(READ_BYTES))
    view: memoryview = _received.view
    return view


class UpstreamConnection(asyncio.BufferedProtocol):
    """See the head of this file.

    It says itself how much is read at once: an engine that is far ahead of a client that does not
    read could otherwise leave hundreds of kilobytes in the client's buffer with the first read.

    Args:
        on_free: Called when the answer is complete and the connection can be used again.
        on_closed: Called when the connection is gone.
    """

    __slots__ = (
        "_at_chunk", "_body_bytes", "_chunks_open", "_detached", "_has_extra", "_has_head",
        "_has_received", "_head", "_header_bytes", "_header_count", "_headers", "_interim",
        "_is_busy", "_is_close_delimited", "_is_complete", "_is_paused", "_is_resting",
        "_is_reusable", "_known", "_known_head", "_lane", "_on_closed", "_on_free", "_parser",
        "_pieces", "_read_into", "_taker", "_transport", "_uses", "_wire_bytes", "idle_since",
        "is_closed",
    )  # fmt: skip

    def __init__(
        self,
        on_free: Callable[[UpstreamConnection], None],
        on_closed: Callable[[UpstreamConnection], None],
    ) -> None:
        # connection
        self._on_free = on_free
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._read_into = _read_into()
        self._known_head = KnownHead(ANSWER_LINES)
        self._known: AnswerHead | None = None
        self._uses = 0
        self.idle_since = 0.0
        self.is_closed = False
        # request
        self._taker: Taker | None = None
        self._is_busy = False
        self._detached: asyncio.TimerHandle | None = None
        # answer
        self._has_received = False
        self._at_chunk = False
        self._lane: EventLane | None = None
        self._is_paused = False
        self._is_resting = False
        self._chunks_open = -1
        self._has_head = False
        self._interim = 0
        self._wire_bytes = 0
        self._body_bytes = 0
        self._pieces: list[bytes] = []
        self._is_complete = False
        self._is_reusable = False
        self._has_extra = False
        self._is_close_delimited = False
        self._header_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._head: AnswerHead | None = None

    # What the owner calls

    def send(self, request: bytes, taker: Taker) -> None:
        """Send a request; the taker hears everything about its answer."""
        assert self._transport is not None
        assert not self._is_busy
        self._taker = taker
        self._is_busy = True
        self._uses += 1
        self._has_received = self._at_chunk = False
        self._is_complete = self._is_close_delimited = False
        self._lane = None
        self._transport.write(request)

    def open_lane(self, lane: EventLane) -> None:
        """The answer on it is a stream, whose ordinary events go this way."""
        self._lane = lane

    def hand_over(self, taker: Taker, successor: Taker) -> None:
        """Another one hears from now on what this taker would have heard."""
        if self._taker is taker:
            self._taker = successor
            self._lane = None

    def abort(self) -> None:
        """Close at once; the taker hears no more. This is what cancels a generation."""
        self._taker = self._lane = None
        self._is_busy = False
        if self._transport is not None and not self.is_closed:
            self._transport.abort()

    def detach(self, grace_s: float) -> None:
        """The taker has all it needs: wait for the answer's end, for reuse, but not for long."""
        self._taker = self._lane = None
        if self._is_busy and not self._is_complete:
            loop = asyncio.get_running_loop()
            self._detached = loop.call_later(grace_s, self.abort)
            self.resume()

    def pause(self) -> None:
        """Stop reading: the client does not keep up."""
        self._is_paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        self._read_on()

    def _rest(self) -> None:
        """Read no more of a stream for a while, if events are to come together."""
        lane, transport = self._lane, self._transport
        if lane is None or not lane.batches.rest_s or self._is_resting or transport is None:
            return
        if not transport.is_closing():
            self._is_resting = True
            transport.pause_reading()
            lane.batches.add(self)

    def wake(self) -> None:
        """The rest is over."""
        self._is_resting = False
        self._read_on()

    def _read_on(self) -> None:
        if self._is_paused or self._is_resting:
            return
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but are not of the class.
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._read_into

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._read_into[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        """Some bytes of an answer came."""
        if not self._is_busy:
            self.abort()
            return
        if self._known is not None and not self._has_received and self._take_known(data):
            return
        if self._at_chunk and self._take_chunks(data):
            self._rest()
            return
        is_first = not self._has_received
        if is_first:
            self._begin_answer()
        self._wire_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refused):
                raise
            self._fail("limits")
            return
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._has_extra = True
            if not self._is_complete:
                self._pass_on()
                self._fail("protocol")
                return
        self._at_chunk = self._chunks_open == 0 and data.endswith(b"\r\n")
        self._pass_on()
        if self._is_complete and self._is_busy:
            if is_first:
                self._learn(data)
            self._completed()
        elif self._wire_bytes > 6 * self._body_bytes + UPSTREAM_OVERHEAD_BYTES_MAX:
            # The parser keeps a header until its end, and says nothing of a chunk's extension.
            self._fail("limits")
        elif self._body_bytes:
            self._rest()

    def _take_chunks(self, data: bytes) -> bool:
        """Pass on what is exactly whole chunks; False when it has to be parsed.

        The parser stands between two chunks: it misses nothing of those that it is not shown.
        """
        body = body_of(data)
        if body is None:
            return False
        self._wire_bytes += len(data)
        self._body_bytes += len(body)
        lane = self._lane
        if lane is not None:
            is_passed = True  # Or there was a defect, which has ended the request.
            with lane:
                is_passed = lane.take(body, data)
            if is_passed:
                return True
        if self._taker is not None:
            self._taker.on_body(body)
        return True

    def _begin_answer(self) -> None:
        self._has_received = True
        self._at_chunk = False
        self._chunks_open = -1
        self._has_head = False
        self._interim = 0
        self._wire_bytes = 0
        self._body_bytes = 0
        self._header_bytes = 0
        self._header_count = 0
        self._pieces = []
        self._has_extra = False
        self._is_close_delimited = False

    def _take_known(self, data: bytes) -> bool:
        """Pass on a whole answer whose head is known; False when it has to be parsed."""
        message = self._known_head.message(data)
        taker = self._taker
        if message is None or taker is None or self._known is None:
            return False
        self._taker = None
        self._is_busy = False
        self._on_free(self)
        taker.on_answer(self._known, message[0])
        return True

    def _learn(self, data: bytes) -> None:
        """Remember the head of an answer that came in one piece and leaves the connection open."""
        self._known = None
        head = self._head
        if head is None or head.status != 200 or self._has_extra or not self._is_reusable:
            return
        if head.content_length is None or head.is_event_stream or head.is_encoded:
            return
        if b"retry-after" in head.headers:
            return
        self._known_head.learn(data, head.content_length)
        self._known = head

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._detached is not None:
            self._detached.cancel()
        taker, self._taker = self._taker, None
        was_busy, self._is_busy = self._is_busy, False
        self._on_closed(self)
        if taker is not None and was_busy:
            if self._is_close_delimited and exc is None:
                taker.on_end(is_framed=False)
            else:
                taker.on_lost("reset", is_stale=self._uses > 1 and not self._has_received)

    # httptools

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._has_extra = True
            return
        self._head = None
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        self._header_count += 1
        if (
            self._header_bytes > UPSTREAM_HEADER_BYTES_MAX
            or self._header_count > UPSTREAM_HEADERS_MAX
        ):
            raise _Refused
        if self._has_head:
            return  # A trailer, or what came after the answer: of no use, and not to be trusted.
        name = name.lower()
        if name in _ONCE and name in self._headers:
            raise _Refused
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._has_extra:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > INTERIM_ANSWERS_MAX:
                raise _Refused
            return
        headers = self._headers
        self._has_head = True
        self._is_close_delimited = (
            b"content-length" not in headers and b"transfer-encoding" not in headers
        )
        self._head = AnswerHead(status=status, headers=headers)
        if self._taker is not None:
            self._taker.on_head(self._head)

    def on_body(self, data: bytes) -> None:
        if not self._has_extra:
            self._body_bytes += len(data)
            self._pieces.append(data)

    def on_chunk_header(self) -> None:
        self._chunks_open = 1

    def on_chunk_complete(self) -> None:
        self._chunks_open = 0

    def on_message_complete(self) -> None:
        self._chunks_open = -1
        if self._parser.get_status_code() >= 200 and not self._is_complete:
            self._is_complete = True
            self._is_reusable = self._parser.should_keep_alive()

    def _pass_on(self) -> None:
        """What came in one read goes on as one part, however many chunks it was."""
        if not self._pieces:
            return
        pieces, self._pieces = self._pieces, []
        if self._taker is not None:
            self._taker.on_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    # Ends

    def _completed(self) -> None:
        """After the parser is done with all that has come, so that extra bytes are noticed."""
        if self._detached is not None:
            self._detached.cancel()
            self._detached = None
        taker, self._taker = self._taker, None
        self._is_busy = False
        if self._is_reusable and not self._has_extra and not self.is_closed:
            self.resume()
            self._on_free(self)
        else:
            self.abort()
        if taker is not None:
            # Who sends more than the answer may have said its length wrong.
            taker.on_end(is_framed=not self._has_extra)

    def _fail(self, reason: str) -> None:
        taker = self._taker
        self.abort()
        if taker is not None:
            taker.on_lost(reason, is_stale=False)
