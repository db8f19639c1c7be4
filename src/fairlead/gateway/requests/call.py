"""What a request has around it: what was asked, by whom, and the parts of the worker it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fairlead.gateway.errors import Refusal
from fairlead.gateway.quotas.quota import Hold
from fairlead.gateway.replicas.affinity import Prefix
from fairlead.gateway.replicas.assignment import Assignment
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.requests.fields import Fields
from fairlead.gateway.requests.tracing import UNTRACED, Trace
from fairlead.wire.snapshot import ReleaseRoute

if TYPE_CHECKING:
    from fairlead.gateway.replicas.upstream import UpstreamConnection
    from fairlead.gateway.state.loaded import LiveService
    from fairlead.gateway.waiting.seeker import Seeker

Headers = bytes
"""Header lines, each with the CRLF that ends it."""


class Call:
    """What a client asked for, and who is to answer it.

    Attributes:
        kind: `chat/completions`, `completions`, `embeddings`, `responses` or `messages`.
        service: As it was when the request came.
        priority: Of the key; a higher one goes first.
        hold: What it has taken of limits; None where none applies. It is taken before it begins.
        prefix: The prompt's beginnings, where the service is balanced by them; likewise.
        trace: Its place in a trace, where requests are traced.
        stratum: Of risk, as its record has it.
    """

    __slots__ = (
        "assignment",
        "body",
        "fields",
        "hold",
        "key_id",
        "kind",
        "prefix",
        "priority",
        "request_id",
        "service",
        "stratum",
        "trace",
    )

    def __init__(
        self,
        request_id: str,
        key_id: str,
        kind: str,
        body: bytes,
        fields: Fields,
        service: LiveService,
        assignment: Assignment,
        priority: int = 0,
    ) -> None:
        self.request_id = request_id
        self.key_id = key_id
        self.kind = kind
        self.body = body
        self.fields = fields
        self.service = service
        self.assignment = assignment
        self.priority = priority
        self.hold: Hold | None = None
        self.prefix: Prefix | None = None
        self.trace: Trace = UNTRACED
        self.stratum = -1

    def untraced(self) -> Call:
        """The same request, in no trace."""
        if self.trace is UNTRACED:
            return self
        made = Call(
            self.request_id,
            self.key_id,
            self.kind,
            self.body,
            self.fields,
            self.service,
            self.assignment,
            self.priority,
        )
        made.hold, made.prefix, made.stratum = self.hold, self.prefix, self.stratum
        return made


class Client(Protocol):
    """The connection on which the answer goes out. After the client left, calls do nothing."""

    def answer(self, status: int, content_type: bytes, body: bytes, headers: Headers) -> None:
        """Send a whole answer."""

    def begin(self, status: int, content_type: bytes, length: int | None, headers: Headers) -> None:
        """Send an answer's head; the body has this length, or ends when it ends."""

    def part(self, data: bytes, chunks: bytes = b"") -> None:
        """Send a part of the body.

        Args:
            chunks: The same in whole chunks, if it came so.
        """

    def end(self, data: bytes, *, closes: bool) -> None:
        """Send the last part of the body; then close, or be ready for the next request."""

    def cut(self) -> None:
        """Close without an end, where a well-formed one would be a lie."""


class Running(Protocol):
    """A request on its way, as its client's connection sees it."""

    def start(self) -> None:
        """Begin."""

    def client_left(self) -> None:
        """The client is gone: stop the generation and record it."""

    def pause(self) -> None:
        """The client does not keep up: read no more from the replica."""

    def resume(self) -> None:
        """The client has caught up."""

    def shut_down(self, refusal: Refusal) -> None:
        """The worker ends before this request does."""


class Queue(Protocol):
    """Where a request waits for a replica."""

    def at_once(self, call: Call, now: float) -> tuple[Replica, UpstreamConnection] | None:
        """A replica with a free slot and an open connection, if nobody waits."""

    def enter(self, seeker: Seeker) -> None:
        """A new request."""

    def again(self, seeker: Seeker, *, was_load: bool) -> None:
        """A request whose attempt failed; `was_load` says whether a replica had work of it."""

    def has_other(self, seeker: Seeker, is_free: bool) -> bool:
        """Whether another replica can be asked now what one has turned away."""

    def has_fallback(self, seeker: Seeker) -> bool:
        """Whether another service can answer in the place of its own."""

    def give_up(self, seeker: Seeker, refusal: Refusal) -> None:
        """A request that its service cannot answer any more."""

    def hedge(self, seeker: Seeker) -> tuple[Replica, ReleaseRoute] | None:
        """Another replica for a second attempt beside the first."""

    def leave(self, seeker: Seeker) -> None:
        """A request that gives up waiting."""


class Shadows(Protocol):
    """Where copies of requests go."""

    @property
    def is_on(self) -> bool:
        """Whether anything is mirrored now."""

    def mirror(self, call: Call) -> None:
        """A live request is on its way."""

    def make_room(self) -> None:
        """A live request has to wait."""


class Captures(Protocol):
    """What keeps a sample of prompts and answers."""

    def take(self, client: Client, call: Call, now: float) -> Captured | None:
        """What stands between a request of the sample and its client; None for all others."""


class Captured(Client, Protocol):
    """A client that keeps what it is answered."""

    def around(self, request: Running) -> Running:
        """The request, which its client's connection sees through this."""


def refusal_headers(refusal: Refusal) -> Headers:
    """The headers that belong to a refusal."""
    lines = refusal.headers
    if refusal.retry_after_s is not None:
        lines += b"retry-after: %d\r\n" % refusal.retry_after_s
    if refusal.allow is not None:
        lines += b"allow: %b\r\n" % refusal.allow.encode()
    return lines
