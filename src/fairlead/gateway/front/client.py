"""The life of one client connection: a request is read, answered, and the next one awaited.

    idle -> reading -> busy -> idle ...          any of them -> lingering -> closed

Requests are not pipelined: a client that sends the next one before the answer is served the first
and then disconnected, which HTTP/1.1 allows. A refused request ends its connection when the rest
of it has not been read: what follows cannot be trusted to be where a request begins.
"""

from __future__ import annotations

import asyncio
from typing import cast

from fairlead.gateway import errors, limits
from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.answer_writer import AnswerWriter
from fairlead.gateway.front.incoming import Incoming, Phase, RequestRefused
from fairlead.gateway.front.operations import Host
from fairlead.gateway.front.request_reader import Arrived, RequestReader
from fairlead.gateway.requests import dialects
from fairlead.gateway.requests.call import Running, refusal_headers
from fairlead.gateway.waiting.memory import Burden, Kind

# Names of this module: looking them up in the enum takes three times as long, for every request.
_IDLE, _READING, _BUSY, _LINGERING = Phase.IDLE, Phase.READING, Phase.BUSY, Phase.LINGERING


class ClientConnection(asyncio.Protocol):
    """See the head of this file."""

    def __init__(self, host: Host) -> None:
        # process
        self._host = host
        self._now = host.plant.clock.now
        # connection
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(host, self)
        self._writer = AnswerWriter(host, self)
        self._peer = ""
        self._phase = _IDLE
        self._is_known = False
        self._deadline = self._now() + limits.FIRST_REQUEST_S
        self._stalled_since: float | None = None
        self._unsent_bytes = 0
        self._lingered_bytes = 0
        # request
        self._is_read = False
        self._exchange: Running | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is on it."""
        return self._phase is _IDLE

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but are not of the class.
        self._transport = self._writer.transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        if not self._host.connected(self, self._peer):
            self.give_way()

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.disconnected(self)
        self._writer.lost()
        self._reader.end()
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
        elif self._phase is _IDLE and self._transport is not None and self._writer.is_open:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if len(data) > limits.FEED_BYTES:
            for start in range(0, len(data), limits.FEED_BYTES):
                self.data_received(data[start : start + limits.FEED_BYTES])
            self._rest()
            return
        phase = self._phase
        if phase is _IDLE:
            arrived = self._reader.take_known(data)
            if arrived is not None:
                self._handle(arrived)
                return
            self._begin_request()
        elif phase is _LINGERING:
            self._lingered_bytes += len(data)
            # Who sends on as bodies have to come may read the answer when it is done.
            latest = max(self._deadline, self._now() + limits.BODY_PART_S)
            more_s = len(data) / limits.BODY_BYTES_PER_S_MIN
            self._deadline = min(self._deadline + more_s, latest)
            if self._lingered_bytes > limits.LINGER_BYTES_MAX:
                self._transport.abort()
            return
        elif phase is _BUSY:
            self._writer.must_close = True
            self._transport.pause_reading()
            return
        try:
            arrived = self._reader.feed(data)
        except RequestRefused as refused:
            self._refuse(refused.refusal)
            return
        if arrived is not None:
            self._dispatch(arrived)

    def _rest(self) -> None:
        """Read on in the next turn only: where much has come, others wait."""
        if self._takes_more:
            assert self._transport is not None
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._takes_more:
            assert self._transport is not None
            self._transport.resume_reading()

    @property
    def _takes_more(self) -> bool:
        is_half = self._phase is _READING or self._phase is _LINGERING
        return is_half and self._transport is not None and not self._transport.is_closing()

    # request_reader.ReaderOwner

    @property
    def peer(self) -> str:
        return self._peer

    def recognised(self) -> None:
        if not self._is_known:
            self._is_known = True
            self._host.recognised(self)

    def expects_continue(self) -> None:
        self._writer.go_on()

    # One request after the other

    def _begin_request(self) -> None:
        now = self._now()
        self._reader.begin(now)
        self._writer.request_id = ""
        self._is_read = False
        self._phase = _READING
        self._deadline = now + limits.HEADER_S

    def _dispatch(self, arrived: Arrived) -> None:
        """Go on with a request that was parsed."""
        incoming, writer = self._reader.incoming, self._writer
        assert incoming is not None
        assert incoming.head is not None
        assert incoming.line is not None
        writer.is_http_1_0 = incoming.line.is_http_1_0
        if self._reader.has_more or not incoming.head.keeps_alive:
            writer.must_close = True
        self._handle(arrived)

    def _handle(self, arrived: Arrived) -> None:
        operation, request, loaded = arrived
        self._phase = _BUSY
        self._is_read = True
        self._writer.request_id = request.id
        outcome = operation.handle(self._host, self._writer, request, loaded)
        if isinstance(outcome, Refusal):
            self._answer_refusal(outcome)
        elif outcome is not None:
            self._exchange = outcome
            outcome.start()

    # answer_writer.WriterOwner

    def answered(self) -> None:
        """The answer is with the transport: next request, or the end."""
        assert self._transport is not None
        self._exchange = None
        self._reader.end()
        if not self._writer.must_close:
            self._phase = _IDLE
            idle_s = limits.KEEP_ALIVE_S if self._is_known else limits.FIRST_REQUEST_S
            self._deadline = self._now() + idle_s
            if self._stalled_since is not None:
                self._transport.pause_reading()  # No more answers before it has read these.
        else:
            self._phase = _LINGERING
            is_long = self._transport.get_write_buffer_size() > limits.WRITE_BUFFER_BYTES // 2
            self._deadline = self._now() + (limits.CLIENT_STALL_S if is_long else limits.LINGER_S)
            if self._is_read and self._transport.is_reading():
                self._transport.close()
            else:
                self._linger()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that was not read to its end."""
        reader, writer = self._reader, self._writer
        if not writer.is_open:
            return
        writer.must_close = True
        if reader.incoming is not None:
            writer.request_id = reader.incoming.request_id
        if not writer.request_id:
            writer.request_id = self._host.new_request_id("")
        self._answer_refusal(refusal)

    def _answer_refusal(self, refusal: Refusal) -> None:
        self._host.plant.metrics.rejected.inc((refusal.code,))
        body = dialects.error_body(dialects.kind_of(self._reader.path), refusal)
        self._writer.answer(refusal.status, b"application/json", body, refusal_headers(refusal))

    def _linger(self) -> None:
        """Let the client read the answer: closing with unread bytes would reset it away."""
        assert self._transport is not None
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    # What the worker calls

    def check(self, now: float) -> None:
        """End what takes too long."""
        if self._transport is None or self._writer.transport is None:
            return
        if self._stalled_since is not None and self._has_stalled(now):
            self._transport.abort()
        elif (body := self._body_on_its_way) is not None:
            free_s = limits.BODY_PART_S + body.body_bytes / limits.BODY_BYTES_PER_S_MIN
            if now - body.body_began > free_s:
                self._refuse(errors.BODY_TIMEOUT)
        elif self._phase is not _BUSY and now > self._deadline:
            if self._phase is _READING:
                self._refuse(errors.HEADER_TIMEOUT)
            else:
                self._transport.abort()

    @property
    def _body_on_its_way(self) -> Incoming | None:
        """The request whose head was accepted and whose body comes in."""
        incoming = self._reader.incoming
        if self._phase is not _READING or incoming is None or incoming.head is None:
            return None
        return incoming

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
        if self._phase is not _LINGERING:
            self._refuse(errors.OVERLOADED)
        self._transport.close()

    def burden(self) -> Burden:
        """What it costs, for `fairlead.gateway.waiting.memory`."""
        if self._stalled_since is not None and self._transport is not None:
            size = self._transport.get_write_buffer_size()
            return Burden(kind=Kind.STALLED, since=self._stalled_since, size=size)
        body = self._body_on_its_way
        if body is not None:
            size = self._reader.held_bytes
            return Burden(kind=Kind.RECEIVING, since=body.body_began, size=size)
        if self._phase is _IDLE:
            idle_s = limits.KEEP_ALIVE_S if self._is_known else limits.FIRST_REQUEST_S
            return Burden(kind=Kind.IDLE, since=self._deadline - idle_s)
        return Burden(kind=Kind.BUSY, since=0.0)

    def shed(self) -> None:
        """End it, as memory is short."""
        if self._body_on_its_way is not None and self._stalled_since is None:
            self._refuse(errors.OVERLOADED)
        elif self._transport is not None and self._stalled_since is None:
            self._transport.close()
        elif self._transport is not None:
            self._transport.abort()

    def shut_down(self, refusal: Refusal) -> None:
        """End an open request now; the connection ends with it."""
        self._writer.must_close = True
        if self._exchange is not None:
            self._exchange.shut_down(refusal)

    def close(self) -> None:
        """Close a connection that has no request open."""
        if self._transport is not None:
            self._transport.close()
