"""The answer as its client gets it: its head once, its parts, and its end, be that an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fairlead.gateway.clock import Clock
from fairlead.gateway.errors import (
    UPSTREAM_CREDENTIALS,
    UPSTREAM_ERROR,
    Refusal,
    not_served,
)
from fairlead.gateway.quotas.quota_answers import headers as ratelimit_headers
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.requests import dialects
from fairlead.gateway.requests.attempt import CREDENTIALS
from fairlead.gateway.requests.call import Call, Client, Headers, refusal_headers
from fairlead.gateway.state.loaded import release_header

Deliver = Callable[[], None]
"""Hands the end of the answer to the client; to be called when the record is written."""

_RELAYED = (b"retry-after",)
_NOT_IMPLEMENTED = 501
"""The engine is well, but a release like this one does not do what is asked."""


def nobody() -> None:
    """There is nobody to deliver to."""


def in_place_of(head: AnswerHead, kind: str) -> Refusal | None:
    """What the client is told when an answer like this is not for it; None when it is."""
    status = head.status
    if status in CREDENTIALS:
        return UPSTREAM_CREDENTIALS
    if status == _NOT_IMPLEMENTED:
        return not_served(kind)
    if status >= 500 or 202 < status < 400 or head.is_encoded:
        return UPSTREAM_ERROR
    return None


class Reply:
    """What one request is answered with.

    Attributes:
        has_begun: The client has the head: nothing can be taken back any more.
        status: Of that head.
        release: Digest of the release that answers; "" for none.
        fallback: The service that answers in place of the request's own; "" for none.
    """

    __slots__ = ("_call", "_client", "_clock", "fallback", "has_begun", "release", "status")

    def __init__(self, client: Client, call: Call, clock: Clock) -> None:
        self._client = client
        self._call = call
        self._clock = clock
        self.has_begun = False
        self.status = 0
        self.release = ""
        self.fallback = ""

    def begin(self, head: AnswerHead, length: int | None) -> None:
        """Send the head, unless the client has one."""
        if self.has_begun:
            return
        self.has_begun = True
        self.status = head.status
        self._client.begin(head.status, head.content_type, length, self._headers(head))

    def whole(self, head: AnswerHead, body: bytes) -> tuple[int, Deliver]:
        """A whole answer, and the status that the client sees."""
        status, content_type = head.status, head.content_type
        if status >= 400:
            status, body = dialects.rejected(self._call.kind, status, body)
        headers = self._headers(head)
        return status, partial(self._client.answer, status, content_type, body, headers)

    def end(self, data: bytes) -> Deliver:
        """The last part of an answer that has begun."""
        return partial(self._client.end, data, closes=False)

    def error(self, refusal: Refusal, *, is_stream: bool) -> tuple[int, Deliver]:
        """An error in the form that what was already sent allows, and the status to be recorded."""
        kind = self._call.kind
        if not self.has_begun:
            body = dialects.error_body(kind, refusal)
            headers = self._own_headers() + refusal_headers(refusal)
            answer = self._client.answer
            status = refusal.status
            return status, partial(answer, status, b"application/json", body, headers)
        if is_stream:
            return self.status, self.end(dialects.error_event(kind, refusal))
        return self.status, self._client.cut

    def cut(self) -> None:
        """Close without an end: nothing true can be said any more."""
        self._client.cut()

    def _own_headers(self) -> Headers:
        own = release_header(self.release) if self.release else b""
        route = self._call.service.route.releases.get(self.release)
        if route is not None and route.fault is not None:
            own += b"x-fairlead-drill: %b\r\n" % route.fault.kind.encode()
        if self.fallback:
            own += b"x-fairlead-fallback: %b\r\n" % self.fallback.encode()
        return own

    def _headers(self, head: AnswerHead) -> Headers:
        own = self._own_headers()
        if self._call.hold is not None:
            own += ratelimit_headers(self._call.hold.meters, self._clock.wall())
        for name in _RELAYED:
            if name in head.headers:
                own += b"%b: %b\r\n" % (name, head.headers[name])
        return own
