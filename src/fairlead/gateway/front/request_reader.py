"""The requests of one client connection: from its bytes to what is to be done with each.

Nothing of a body is held before its head has been decided on, and no request is complete before all
of its framing has been checked. A request that comes in one piece under a head that is known needs
no parser (see `heads`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import httptools

from fairlead.gateway import errors, limits
from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.auth import digest_of
from fairlead.gateway.front.chunks import ChunkFraming
from fairlead.gateway.front.door import Door
from fairlead.gateway.front.framing import Head, check_head, read_first_line
from fairlead.gateway.front.heads import REQUEST_LINES, KnownHead
from fairlead.gateway.front.incoming import Incoming, RequestRefused
from fairlead.gateway.front.operations import Host, Operation, find_operation
from fairlead.gateway.front.request import Request
from fairlead.gateway.state.loaded import Loaded
from fairlead.wire.snapshot import KeyEntry

Arrived = tuple[Operation, Request, Loaded | None]
"""A complete request, what is done with it, and the snapshot at which it came."""


class _Known(NamedTuple):
    """What was decided on the head that the connection remembers."""

    path: str
    operation: Operation
    key_digest: str | None
    door: Door | None
    risk: bytes | None


class ReaderOwner(Protocol):
    """The connection."""

    @property
    def peer(self) -> str:
        """Address that it comes from; empty if it has none."""

    def recognised(self) -> None:
        """The client has shown a valid key."""

    def expects_continue(self) -> None:
        """The client holds the body back until it is asked for it."""


class RequestReader:
    """See the head of this file.

    Attributes:
        incoming: The request that comes in or is answered; None for one that was known, or none.
        has_more: Bytes came behind a request, before it was answered.
        held_bytes: Bytes of the present request's body.
    """

    __slots__ = (
        "_host",
        "_known",
        "_known_head",
        "_now",
        "_owner",
        "_parser",
        "has_more",
        "held_bytes",
        "incoming",
    )

    def __init__(self, host: Host, owner: ReaderOwner) -> None:
        # connection
        self._host = host
        self._owner = owner
        self._now = host.plant.clock.now
        self._parser = httptools.HttpRequestParser(self)
        self._known_head = KnownHead(REQUEST_LINES)
        self._known: _Known | None = None
        self.has_more = False
        # request
        self.incoming: Incoming | None = None
        self.held_bytes = 0

    @property
    def path(self) -> str:
        """The path of the present request, as far as it is known."""
        if self.incoming is None:
            return "" if self._known is None else self._known.path
        return "" if self.incoming.line is None else self.incoming.line.path

    def begin(self, now: float) -> None:
        """The first byte of a request is there."""
        self.incoming = Incoming(now)

    def end(self) -> None:
        """The request is over: let go of it."""
        self.incoming = None
        self._host.let_go_of_body(self.held_bytes)
        self.held_bytes = 0

    def take_known(self, data: bytes) -> Arrived | None:
        """A whole request whose head is known; None when it has to be parsed."""
        known = self._known
        if known is None:
            return None
        message = self._known_head.message(data)
        host = self._host
        loaded = host.loaded
        if message is None or loaded is None or known.door is not loaded.door:
            return None
        key = loaded.keys.entry(known.key_digest)
        body, session = message
        size = len(body)
        largest = known.operation.body_bytes_max or loaded.body_bytes_max
        if key is None or size > largest or not host.hold_body(size):
            return None
        self.held_bytes = size
        request_id = loaded.ids.new(key.id)
        request = Request(
            request_id, known.path, session, key.id, body, key.priority, None, known.risk
        )
        return known.operation, request, loaded

    def feed(self, data: bytes) -> Arrived | None:
        """More bytes of the request; what it is, once it is complete. Raises RequestRefused."""
        incoming = self.incoming
        assert incoming is not None
        if incoming.line is None:
            data = incoming.first_bytes = incoming.first_bytes + data
            line = read_first_line(data)
            if isinstance(line, Refusal):
                raise RequestRefused(line)
            if line is None:
                return None
            incoming.line = line
            incoming.first_bytes = b""
        at = 0
        while at < len(data) and not incoming.is_complete:
            # Chunks can be so small that it has to be looked early at whether they may go on.
            is_plain = incoming.head is not None and incoming.chunks is None
            part = data[at:] if is_plain else data[at : at + limits.CHUNKS_FEED_BYTES]
            at += len(part)
            self._take(part, incoming)
        if not incoming.is_complete:
            return None
        if at < len(data):
            self.has_more = True
        elif incoming.wire_bytes == len(data):
            self._learn(data, incoming)
        return self._arrived(incoming)

    def _take(self, part: bytes, incoming: Incoming) -> None:
        """Parse more bytes; raises RequestRefused."""
        incoming.wire_bytes += len(part)
        self._parse(part, incoming)
        if incoming.chunks is not None and not incoming.follow_chunks(part):
            raise RequestRefused(errors.bad_framing("the size of a chunk"))
        if incoming.is_complete:
            return
        if incoming.head is None:
            incoming.head_end = part[-3:]
            if incoming.wire_bytes > limits.HEADER_BYTES_MAX + limits.URL_BYTES_MAX:
                raise RequestRefused(errors.HEADERS_TOO_LARGE)
        elif (
            incoming.wire_bytes
            > incoming.header_bytes + 2 * incoming.body_bytes + limits.CHUNK_OVERHEAD_BYTES_MAX
        ):
            raise RequestRefused(errors.bad_framing("more chunk framing than content"))

    def _learn(self, data: bytes, incoming: Incoming) -> None:
        """Remember the head of a request that was parsed, when it came in one piece."""
        head, operation = incoming.head, incoming.operation
        assert head is not None
        assert operation is not None
        self._known = None
        if incoming.key is None or head.content_length <= 0 or not head.is_plain:
            return
        if head.trace is not None and self._host.plant.tracing is not None:
            return  # It differs each time, and has to be read.
        self._known_head.learn(data, head.content_length, head.session)
        door = incoming.loaded.door if incoming.loaded is not None else None
        key_digest = digest_of(head.authorization)
        self._known = _Known(head.path, operation, key_digest, door, head.risk)

    def _arrived(self, incoming: Incoming) -> Arrived:
        assert incoming.head is not None
        assert incoming.operation is not None
        body = incoming.parts[0] if len(incoming.parts) == 1 else b"".join(incoming.parts)
        incoming.parts = []
        request = Request(
            id=incoming.request_id,
            path=incoming.head.path,
            session=incoming.head.session,
            key_id=incoming.key.id if incoming.key else "",
            body=body,
            priority=incoming.key.priority if incoming.key else 0,
            trace=incoming.head.trace,
            risk=incoming.head.risk,
        )
        return incoming.operation, request, incoming.loaded

    # httptools

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
            self.has_more = True

    def on_message_begin(self) -> None:
        """httptools: a request begins; a second one in the same bytes was pipelined."""
        if self.incoming is not None and self.incoming.is_complete:
            self.has_more = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header, or a trailer."""
        incoming = self.incoming
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
        incoming = self.incoming
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
        if operation.is_scraped:
            self._check_scraper(head, incoming)
        incoming.head = head
        incoming.operation = operation
        incoming.request_id = self._host.new_request_id(incoming.key.id if incoming.key else "")
        self._begin_body(incoming, head)

    def _check_scraper(self, head: Head, incoming: Incoming) -> None:
        # HTTP/1.0 is what nginx passes on by itself, without a header that would tell of it.
        scrapers, peer = self._host.scrapers, "" if head.is_http_1_0 else self._owner.peer
        refusal = scrapers.refusal(peer, head.authorization, incoming.headers)
        if refusal is not None:
            raise RequestRefused(refusal)

    def _authenticate(self, head: Head, loaded: Loaded | None) -> KeyEntry | None:
        if not head.path.startswith("/v1/"):
            return None
        if loaded is None:
            raise RequestRefused(errors.NO_SNAPSHOT)
        key = loaded.keys.find(head.authorization)
        if key is None:
            raise RequestRefused(errors.UNAUTHORIZED)
        self._owner.recognised()
        return key

    def _begin_body(self, incoming: Incoming, head: Head) -> None:
        assert incoming.operation is not None
        loaded_max = incoming.loaded.body_bytes_max if incoming.loaded else 0
        incoming.body_bytes_max = incoming.operation.body_bytes_max or loaded_max
        if head.content_length > incoming.body_bytes_max:
            raise RequestRefused(errors.body_too_large(incoming.body_bytes_max))
        if head.content_length < 0:
            incoming.chunks = ChunkFraming(incoming.body_bytes_max)
        incoming.body_began = self._now()
        if head.expects_continue:
            self._owner.expects_continue()

    def on_body(self, data: bytes) -> None:
        """httptools: a part of the body."""
        incoming = self.incoming
        if incoming is None or incoming.is_complete:
            return
        incoming.body_bytes += len(data)
        if incoming.body_bytes > incoming.body_bytes_max:
            raise RequestRefused(errors.body_too_large(incoming.body_bytes_max))
        if not self._host.hold_body(len(data), self.held_bytes):
            raise RequestRefused(errors.OVERLOADED)
        self.held_bytes += len(data)
        incoming.parts.append(data)
        if incoming.is_too_complex():
            raise RequestRefused(errors.TOO_COMPLEX)

    def on_message_complete(self) -> None:
        """httptools: the request is complete."""
        if self.incoming is not None:
            self.incoming.is_complete = True
