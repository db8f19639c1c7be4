"""One client connection: reads requests one after the other, writes their answers.

    idle -> head -> body -> busy -> idle ...          any of them -> lingering -> closed

Requests are not pipelined: a client that sends the next one before the answer is served the first
and then disconnected, which HTTP/1.1 allows. A refused request ends its connection when the rest
of it has not been read: what follows cannot be trusted to be where a request begins.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
import msgspec

from fairlead.gateway import dialects, errors, limits
from fairlead.gateway.auth import digest_of
from fairlead.gateway.batching import BATCH_BYTES_MAX, Batches
from fairlead.gateway.call import Headers, Running, refusal_headers
from fairlead.gateway.chunks import ChunkFraming
from fairlead.gateway.door import Door
from fairlead.gateway.errors import Refusal
from fairlead.gateway.framing import Head, check_head, read_first_line
from fairlead.gateway.heads import REQUEST_LINES, KnownHead
from fairlead.gateway.incoming import Incoming, Phase, RequestRefused
from fairlead.gateway.loaded import Loaded
from fairlead.gateway.memory import Burden, Kind
from fairlead.gateway.operations import Host, Operation, Request, find_operation
from fairlead.gateway.status_lines import status_line
from fairlead.wire.snapshot import KeyEntry


class _Known(msgspec.Struct, frozen=True):
    """What was decided on the head that the connection remembers."""

    path: str
    operation: Operation
    key_digest: str | None
    door: Door | None


class ClientConnection(asyncio.Protocol):
    """See the head of this file."""

    def __init__(self, host: Host) -> None:
        # process
        self._host = host
        self._now = host.plant.clock.now
        # connection
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._known_head = KnownHead(REQUEST_LINES)
        self._known: _Known | None = None
        self._phase = Phase.IDLE
        self._is_gone = False
        self._is_known = False
        self._must_close = False
        self._deadline = self._now() + limits.FIRST_REQUEST_S
        self._stalled_since: float | None = None
        self._unsent_bytes = 0
        self._lingered_bytes = 0
        # request
        self._incoming: Incoming | None = None
        self._is_read = False
        self._is_http_1_0 = False
        self._held_bytes = 0
        self._request_id = ""
        self._exchange: Running | None = None
        # answer
        self._is_chunked = False
        self._has_part = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request is on it."""
        return self._phase is Phase.IDLE

    @property
    def _path(self) -> str:
        """The path of the present request, as far as it is known."""
        if self._incoming is None:
            return "" if self._known is None else self._known.path
        return "" if self._incoming.line is None else self._incoming.line.path

    @property
    def _can_write(self) -> bool:
        return (
            not self._is_gone and self._transport is not None and not self._transport.is_closing()
        )

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but are not of the class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        if not self._host.connected(self, peer[0] if peer else ""):
            self.give_way()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_gone = True
        self._host.disconnected(self)
        self._waiting.clear()
        self._let_go_of_body()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()

    def pause_writing(self) -> None:
        self._stalled_since = self._now()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self._exchange is not None:
            self._exchange.resume()
        elif self._phase is Phase.IDLE and self._transport is not None and self._can_write:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._phase is Phase.IDLE and self._known is not None and self._take_known(data):
            return
        if self._phase is Phase.LINGERING:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > limits.LINGER_BYTES_MAX:
                self._transport.abort()
            return
        if self._phase is Phase.BUSY:
            self._must_close = True
            self._transport.pause_reading()
            return
        if self._incoming is None:
            self._begin_request()
        try:
            self._take(data)
        except RequestRefused as refused:
            self._refuse(refused.refusal)

    # Reading

    def _take_known(self, data: bytes) -> bool:
        """Dispatch a whole request whose head is known; False when it has to be parsed."""
        message = self._known_head.message(data)
        known = self._known
        host = self._host
        loaded = host.loaded
        if message is None or known is None or loaded is None or known.door is not loaded.door:
            return False
        key = loaded.keys.entry(known.key_digest)
        body, session = message
        size = len(body)
        largest = known.operation.body_bytes_max or loaded.body_bytes_max
        if key is None or size > largest or not host.hold_body(size):
            return False
        self._held_bytes = size
        self._request_id = request_id = loaded.ids.new(key.id)
        self._is_read = True
        self._phase = Phase.BUSY
        request = Request(request_id, known.path, session, key.id, body, key.priority)
        self._handle(known.operation, request, loaded)
        return True

    def _learn(self, data: bytes, incoming: Incoming) -> None:
        """Remember the head of a request that was parsed, when it came in one piece."""
        head, operation = incoming.head, incoming.operation
        assert head is not None
        assert operation is not None
        self._known = None
        if incoming.key is None or head.content_length <= 0 or not head.is_plain:
            return
        self._known_head.learn(data, head.content_length, head.session)
        door = incoming.loaded.door if incoming.loaded is not None else None
        self._known = _Known(head.path, operation, digest_of(head.authorization), door)

    def _begin_request(self) -> None:
        now = self._now()
        self._incoming = Incoming(now)
        self._is_read = False
        self._is_http_1_0 = False
        self._request_id = ""
        self._phase = Phase.HEAD
        self._deadline = now + limits.HEADER_S

    def _take(self, data: bytes) -> None:
        incoming = self._incoming
        assert incoming is not None
        if incoming.line is None:
            data = incoming.first_bytes = incoming.first_bytes + data
            line = read_first_line(data)
            if isinstance(line, Refusal):
                raise RequestRefused(line)
            if line is None:
                return
            incoming.line = line
            incoming.first_bytes = b""
            self._is_http_1_0 = line.is_http_1_0
        incoming.wire_bytes += len(data)
        self._parse(data, incoming)
        if incoming.chunks is not None and not incoming.follow_chunks(data):
            raise RequestRefused(errors.bad_framing("the size of a chunk"))
        if incoming.is_complete:
            if incoming.wire_bytes == len(data):
                self._learn(data, incoming)
            self._dispatch(incoming)
        elif incoming.head is None:
            incoming.head_end = data[-3:]
            if incoming.wire_bytes > limits.HEADER_BYTES_MAX + limits.URL_BYTES_MAX:
                raise RequestRefused(errors.HEADERS_TOO_LARGE)
        elif (
            incoming.wire_bytes
            > incoming.header_bytes + 6 * incoming.body_bytes + limits.CHUNK_OVERHEAD_BYTES_MAX
        ):
            raise RequestRefused(errors.bad_framing("more chunk framing than content"))

    def _parse(self, data: bytes, incoming: Incoming) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, RequestRefused):
                raise
            raise error.__context__ from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not incoming.is_complete:
                raise RequestRefused(errors.bad_framing(str(error) or "an upgrade")) from None
            self._must_close = True

    def on_message_begin(self) -> None:
        """httptools: a request begins; a second one in the same bytes was pipelined."""
        if self._incoming is not None and self._incoming.is_complete:
            self._must_close = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header, or a trailer."""
        incoming = self._incoming
        if incoming is None or incoming.is_complete:
            return
        if incoming.head is not None:
            raise RequestRefused(errors.bad_framing("trailers are not accepted"))
        incoming.headers.append((name, value))
        incoming.header_bytes += len(name) + len(value) + 4
        if (
            len(incoming.headers) > limits.HEADERS_MAX
            or incoming.header_bytes > limits.HEADER_BYTES_MAX
        ):
            raise RequestRefused(errors.HEADERS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """httptools: decide on the head, before any byte of the body is held."""
        incoming = self._incoming
        if incoming is None or incoming.is_complete:
            return
        assert incoming.line is not None
        head = check_head(incoming.line, incoming.headers)
        if isinstance(head, Refusal):
            raise RequestRefused(head)
        operation = find_operation(head.method, head.path)
        incoming.loaded = self._host.loaded
        door = None if incoming.loaded is None else incoming.loaded.door
        if door is not None and (refusal := door.refusal(incoming.headers)) is not None:
            raise RequestRefused(refusal)
        if operation is None or operation.needs_key:
            incoming.key = self._authenticate(head, incoming.loaded)
        if operation is None:
            raise RequestRefused(errors.NOT_FOUND)
        if operation.method != head.method:
            raise RequestRefused(errors.method_not_allowed(operation.method))
        incoming.head = head
        incoming.operation = operation
        self._request_id = self._host.new_request_id(incoming.key.id if incoming.key else "")
        self._begin_body(incoming, head)

    def _authenticate(self, head: Head, loaded: Loaded | None) -> KeyEntry | None:
        if not head.path.startswith("/v1/"):
            return None
        if loaded is None:
            raise RequestRefused(errors.NO_SNAPSHOT)
        key = loaded.keys.find(head.authorization)
        if key is None:
            raise RequestRefused(errors.UNAUTHORIZED)
        if not self._is_known:
            self._is_known = True
            self._host.recognised(self)
        return key

    def _begin_body(self, incoming: Incoming, head: Head) -> None:
        assert incoming.operation is not None
        loaded_max = incoming.loaded.body_bytes_max if incoming.loaded else 0
        incoming.body_bytes_max = incoming.operation.body_bytes_max or loaded_max
        if head.content_length > incoming.body_bytes_max:
            raise RequestRefused(errors.body_too_large(incoming.body_bytes_max))
        if head.content_length < 0:
            incoming.chunks = ChunkFraming(incoming.body_bytes_max)
        self._phase = Phase.BODY
        incoming.body_began = self._now()
        if head.expects_continue and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """httptools: a part of the body."""
        incoming = self._incoming
        if incoming is None or incoming.is_complete:
            return
        incoming.body_bytes += len(data)
        if incoming.body_bytes > incoming.body_bytes_max:
            raise RequestRefused(errors.body_too_large(incoming.body_bytes_max))
        if not self._host.hold_body(len(data), self._held_bytes):
            raise RequestRefused(errors.OVERLOADED)
        self._held_bytes += len(data)
        incoming.parts.append(data)

    def on_message_complete(self) -> None:
        """httptools: the request is complete."""
        if self._incoming is not None:
            self._incoming.is_complete = True

    def _dispatch(self, incoming: Incoming) -> None:
        assert incoming.head is not None
        assert incoming.operation is not None
        self._phase = Phase.BUSY
        self._is_read = True
        self._must_close = self._must_close or not incoming.head.keeps_alive
        body = incoming.parts[0] if len(incoming.parts) == 1 else b"".join(incoming.parts)
        incoming.parts = []
        request = Request(
            id=self._request_id,
            path=incoming.head.path,
            session=incoming.head.session,
            key_id=incoming.key.id if incoming.key else "",
            body=body,
            priority=incoming.key.priority if incoming.key else 0,
        )
        self._handle(incoming.operation, request, incoming.loaded)

    def _handle(self, operation: Operation, request: Request, loaded: Loaded | None) -> None:
        outcome = operation.handle(self._host, self, request, loaded)
        if isinstance(outcome, Refusal):
            self._answer_refusal(outcome)
        elif outcome is not None:
            self._exchange = outcome
            outcome.start()

    # Answering (exchange.Client)

    def answer(self, status: int, content_type: bytes, body: bytes, headers: Headers) -> None:
        transport = self._transport
        if transport is None or self._is_gone or transport.is_closing():
            return
        headers += b"content-length: %d\r\n" % len(body)
        transport.write(self._head(status, content_type, headers, body))
        self._answered()

    def begin(self, status: int, content_type: bytes, length: int | None, headers: Headers) -> None:
        if self._transport is None or not self._can_write:
            return
        framing = b""
        self._is_chunked = self._has_part = False
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self._is_http_1_0:
            self._must_close = True
        else:
            self._is_chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        headers += framing + b"cache-control: no-cache\r\n"
        self._transport.write(self._head(status, content_type, headers, b""))

    def part(self, data: bytes) -> None:
        transport = self._transport
        if not data or transport is None or self._is_gone or transport.is_closing():
            return
        batches = self._host.batches
        if (batches.delay_s and self._has_part) or self._waiting:
            self._wait(data, batches)
            return
        self._has_part = True
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def _wait(self, data: bytes, batches: Batches) -> None:
        """Let a part wait for the next ones."""
        if not self._waiting:
            batches.add(self)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > BATCH_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Send the parts that wait."""
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._transport is not None and self._can_write:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data
            self._transport.write(framed)

    def end(self, data: bytes, *, closes: bool) -> None:
        self.flush()
        if self._transport is None or not self._can_write:
            return
        if self._is_chunked:
            last = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            self._transport.write(last + b"0\r\n\r\n")
        else:
            self._transport.write(data)
        self._must_close = self._must_close or closes
        self._answered()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _head(self, status: int, content_type: bytes, headers: Headers, body: bytes) -> bytes:
        """The head of an answer, and what is known of its body."""
        host = self._host
        if host.is_draining:
            self._must_close = True
        return b"%b\r\ndate: %b\r\ncontent-type: %b\r\nx-request-id: %b\r\n%b%b\r\n%b" % (
            status_line(status),
            host.date,
            content_type,
            self._request_id.encode(),
            headers,
            b"connection: close\r\n" if self._must_close else b"",
            body,
        )

    def _answered(self) -> None:
        """The answer is with the transport: next request, or the end."""
        assert self._transport is not None
        self._exchange = None
        self._incoming = None
        self._let_go_of_body()
        if not self._must_close:
            self._phase = Phase.IDLE
            idle_s = limits.KEEP_ALIVE_S if self._is_known else limits.FIRST_REQUEST_S
            self._deadline = self._now() + idle_s
            if self._stalled_since is not None:
                self._transport.pause_reading()  # No more answers before it has read these.
        else:
            self._phase = Phase.LINGERING
            is_long = self._transport.get_write_buffer_size() > limits.WRITE_BUFFER_BYTES // 2
            self._deadline = self._now() + (limits.CLIENT_STALL_S if is_long else limits.LINGER_S)
            if self._is_read and self._transport.is_reading():
                self._transport.close()
            else:
                self._linger()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that was not read to its end."""
        if not self._can_write:
            return
        self._must_close = True
        if not self._request_id:
            self._request_id = self._host.new_request_id("")
        self._answer_refusal(refusal)

    def _answer_refusal(self, refusal: Refusal) -> None:
        self._host.plant.metrics.rejected.inc((refusal.code,))
        body = dialects.error_body(dialects.kind_of(self._path), refusal)
        self.answer(refusal.status, b"application/json", body, refusal_headers(refusal))

    def _linger(self) -> None:
        """Let the client read the answer: closing with unread bytes would reset it away."""
        assert self._transport is not None
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _let_go_of_body(self) -> None:
        self._host.let_go_of_body(self._held_bytes)
        self._held_bytes = 0

    # What the worker calls

    def check(self, now: float) -> None:
        """End what takes too long."""
        assert self._transport is not None
        if self._has_stalled(now):
            self._transport.abort()
        elif self._phase is Phase.BODY and self._incoming is not None:
            free_s = limits.BODY_PART_S + self._incoming.body_bytes / limits.BODY_BYTES_PER_S_MIN
            if now - self._incoming.body_began > free_s:
                self._refuse(errors.BODY_TIMEOUT)
        elif self._phase is not Phase.BUSY and now > self._deadline:
            if self._phase is Phase.HEAD:
                self._refuse(errors.HEADER_TIMEOUT)
            else:
                self._transport.abort()

    def _has_stalled(self, now: float) -> bool:
        """Whether the client has read nothing of what waits for it, for too long."""
        if self._stalled_since is None or self._transport is None:
            return False
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent_bytes:
            self._unsent_bytes = unsent
            self._stalled_since = now
        return now - self._stalled_since > limits.CLIENT_STALL_S

    def give_way(self) -> None:
        """End a connection that has shown no key: there is no room for it any longer."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # What waits there is not being read.
            return
        if self._phase is not Phase.LINGERING:
            self._refuse(errors.OVERLOADED)
        self._transport.close()

    def burden(self) -> Burden:
        """What it costs, for `fairlead.gateway.memory`."""
        if self._stalled_since is not None and self._transport is not None:
            size = self._transport.get_write_buffer_size()
            return Burden(kind=Kind.STALLED, since=self._stalled_since, size=size)
        if self._phase is Phase.BODY and self._incoming is not None:
            began = self._incoming.body_began
            return Burden(kind=Kind.RECEIVING, since=began, size=self._held_bytes)
        if self._phase is Phase.IDLE:
            idle_s = limits.KEEP_ALIVE_S if self._is_known else limits.FIRST_REQUEST_S
            return Burden(kind=Kind.IDLE, since=self._deadline - idle_s)
        return Burden(kind=Kind.BUSY, since=0.0)

    def shed(self) -> None:
        """End it, as memory is short."""
        if self._phase is Phase.BODY and self._stalled_since is None:
            self._refuse(errors.OVERLOADED)
        elif self._transport is not None and self._stalled_since is None:
            self._transport.close()
        elif self._transport is not None:
            self._transport.abort()

    def shut_down(self, refusal: Refusal) -> None:
        """End an open request now; the connection ends with it."""
        self._must_close = True
        if self._exchange is not None:
            self._exchange.shut_down(refusal)

    def close(self) -> None:
        """Close a connection that has no request open."""
        if self._transport is not None:
            self._transport.close()
