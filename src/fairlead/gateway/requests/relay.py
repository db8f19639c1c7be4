"""An answer on its way from replica to client.

`PlainRelay` holds a plain answer until it is complete, so that a replica that dies in the middle
is retried without the client noticing; a large one is passed on as it comes. `StreamRelay` passes
on whole events; one that stops without saying that it is over broke, however well it is framed.
Both hold back the very last bytes: these go out once the record is written.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.gateway.clock import Clock
from fairlead.gateway.limits import PLAIN_BUFFER_BYTES
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.requests.metering import StreamMeter, TailKeeper
from fairlead.gateway.requests.usage import Usage, usage_of_answer
from fairlead.gateway.streams.engine_errors import is_engine_fault
from fairlead.gateway.streams.events import (
    EventSplitter,
    EventTooLarge,
    has_content,
    is_done,
    is_error,
    is_ordinary,
    tells_end,
)
from fairlead.gateway.streams.seam import OTHER_TEXT, Seam

_LAST_BYTES = 2048
"""In so much of what came last its end is found."""


class RelayOwner(Protocol):
    """The request that the answer is for."""

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        """Send the head; from now on nothing can be retried."""

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        """Send a part of the body.

        Args:
            chunks: The same as it came, if that was in whole chunks.
        """

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        """A plain answer is complete, and nothing of it was sent yet."""

    def last_part(self, data: bytes, usage: Usage) -> None:
        """An answer that was begun is complete with this."""

    def answer_broke(self, reason: str) -> None:
        """The answer cannot be completed."""

    def engine_failed(self) -> bool:
        """The engine reports a failure of its own; whether the request goes on elsewhere.

        If not, the report is for the client.
        """


class Relay(Protocol):
    """What takes in an answer's body."""

    def feed(self, data: bytes) -> None:
        """A part of the body came."""

    def end(self, *, is_framed: bool) -> None:
        """The body is complete."""


class PlainRelay:
    """A JSON answer."""

    def __init__(self, owner: RelayOwner, head: AnswerHead) -> None:
        self._owner = owner
        self._head = head
        self._parts: list[bytes] = []
        self._size = 0
        self._tail: TailKeeper | None = None
        if (head.content_length or 0) > PLAIN_BUFFER_BYTES:
            self._pass_through()

    def feed(self, data: bytes) -> None:
        if self._tail is not None:
            self._tail.feed(data)
            self._owner.pass_on(self._parts.pop())
            self._parts.append(data)
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size > PLAIN_BUFFER_BYTES:
            self._pass_through()

    def end(self, *, is_framed: bool) -> None:
        body = b"".join(self._parts)
        if self._tail is not None:
            self._owner.last_part(body, self._tail.usage)
        elif self._is_an_answer(body) if is_framed else _is_json(body):
            self._owner.whole_answer(self._head, body, usage_of_answer(body))
        else:
            self._owner.answer_broke("reset")

    def _is_an_answer(self, body: bytes) -> bool:
        """A replica that is well never says nothing, but when it refuses a request."""
        return bool(body) or self._head.status >= 400

    def _pass_through(self) -> None:
        held = b"".join(self._parts)
        self._parts = [held]
        self._tail = TailKeeper()
        self._tail.feed(held)
        self._owner.begin_answer(self._head, self._head.content_length)


class StreamRelay:
    """A stream of events.

    Args:
        hides_usage: The usage event was asked for by the gateway, not by the client.
        meter: Goes on with the stream's first part.
        seam: Joins this stream to what the client has.
    """

    def __init__(
        self,
        owner: RelayOwner,
        head: AnswerHead,
        clock: Clock,
        *,
        hides_usage: bool,
        meter: StreamMeter | None = None,
        seam: Seam | None = None,
    ) -> None:
        self._owner = owner
        self._head = head
        self._now = clock.now
        self._hides_usage = hides_usage
        self._splitter = EventSplitter()
        self._has_begun = False
        self._is_over = False
        self._has_ended = False
        self._last = self._before_last = b""
        self._seam = seam
        self.meter = meter or StreamMeter()
        self.has_error = False

    def pass_straight(self, data: bytes, chunks: bytes) -> bool:
        """Pass on whole, ordinary events with the chunks that they came in; False to `feed` them.

        Not the first ones: an answer begins by `feed`.
        """
        if self._is_over or self._seam is not None or self._splitter.rest_bytes:
            return False
        meter = self.meter
        if not meter.events or data[-2:] != b"\n\n" or not is_ordinary(data):
            return False
        meter.events += data.count(b"\n\n")
        meter.last_at = self._now()
        self._before_last, self._last = self._last, data[-_LAST_BYTES:]
        self._owner.pass_on(data, chunks)
        return True

    def feed(self, data: bytes) -> None:
        if self._is_over:
            return
        whole = self._splitter.whole(data) if self._seam is None else None
        if whole is not None:
            self.meter.events_sent(whole.count(b"\n\n"), self._now())
            self._before_last, self._last = self._last, whole[-_LAST_BYTES:]
            self._begin()
            self._owner.pass_on(whole)
            return
        try:
            events = self._splitter.feed(data)
        except EventTooLarge:
            self._is_over = True
            self._owner.answer_broke("event_too_large")
            return
        out: list[bytes] = []
        for event in events:
            if is_engine_fault(event):
                self._send(out)
                out = []
                if self._owner.engine_failed():
                    self._is_over = True
                    return
            if is_done(event):
                self.meter.note_usage(event)
                self.has_error = self.has_error or is_error(event)
                self._send(out)
                self._finish(event)
                return
            seam = self._seam
            kept = event if seam is None else seam.rewrite(event)
            if seam is not None and seam.is_other:
                self._send(out)
                self._is_over = True
                self._owner.answer_broke(OTHER_TEXT)
                return
            if kept is not None and self._keeps(kept):
                out.append(kept)
        self._send(out)

    def end(self, *, is_framed: bool) -> None:
        if self._is_over:
            return
        rest = self._splitter.rest
        if is_framed and self._has_begun and self._is_whole(rest):
            self._finish(rest)
        else:
            self._is_over = True
            self._owner.answer_broke("reset")

    def _is_whole(self, rest: bytes) -> bool:
        """Whether what came before its end, without the event that should end it, says so too."""
        has_ended = self._has_ended or self.has_error or self._head.status >= 400
        return (
            has_ended or is_done(rest) or any(map(tells_end, (self._before_last, self._last, rest)))
        )

    def _keeps(self, event: bytes) -> bool:
        is_usage_alone = self.meter.note_usage(event)
        self._has_ended = self._has_ended or is_usage_alone or tells_end(event)
        if is_usage_alone and self._hides_usage:
            return False
        if not event.startswith(b":"):
            self.has_error = self.has_error or is_error(event)
            if has_content(event):
                self.meter.events_sent(1, self._now())
        return True

    def _send(self, events: list[bytes]) -> None:
        if events:
            self._begin()
            self._owner.pass_on(b"".join(events))

    def _finish(self, last: bytes) -> None:
        self._is_over = True
        self._begin()
        self._owner.last_part(last, self.meter.usage)

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._owner.begin_answer(self._head, None)


def _is_json(body: bytes) -> bool:
    try:
        decode_json(body, msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True
