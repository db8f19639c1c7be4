"""One attempt: a request on one replica, from its slot to the end of its answer.

    slot -> connection -> sent -> head -> body -> over        any of them -> left, or failed

All that is sent to replicas goes through here: requests, their hedges and shadow copies. An attempt
knows the replica; what its answer is for, and what comes after a failure, is its owner's to say.

What it says of the replica is the same for all of them. A replica fails that cannot be reached, is
late, breaks off, or says by 502, 503, 504 or 529 that it cannot serve. With one of `ELSEWHERE` it
is alive, but not for this request: whose fault that is shows when another replica is asked.
Whatever else it answers, it is well. One that closed an idle connection just when it was used has
seen nothing: it is asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from fairlead.gateway.bulkhead import Bulkhead
from fairlead.gateway.limits import CONNECT_S, DETACHED_S
from fairlead.gateway.replicas.addressing import beginning_of
from fairlead.gateway.replicas.answer import UNWELL, AnswerHead
from fairlead.gateway.replicas.faults import ERROR as DRILLED
from fairlead.gateway.replicas.faults import FaultyAnswer, is_met
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.replicas.outgoing import build_request
from fairlead.gateway.replicas.upstream import UpstreamConnection
from fairlead.gateway.requests import dialects
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.relay import Relay
from fairlead.gateway.requests.request_body import body_for
from fairlead.gateway.streams.event_lane import EventLane
from fairlead.gateway.streams.recount import PATH as COUNT_PATH
from fairlead.gateway.streams.recount import Reading, Recount
from fairlead.wire.snapshot import ReleaseRoute

LATE = "timeout"
REFUSED = "refused"
"""Why an attempt failed that the replica has seen nothing of."""
CREDENTIALS = frozenset({401, 402, 403, 407})
"""The provider does not know the gateway, or no longer answers its account."""
TURNED_AWAY = CREDENTIALS | {429}
"""The replica has done nothing for the request."""
ELSEWHERE = TURNED_AWAY | {500}
"""Another replica, with another key or room for more, may answer what this one will not."""


def is_elsewhere(head: AnswerHead) -> bool:
    """Whether a replica says that it will not serve this request, which another one may."""
    return head.status in ELSEWHERE and head is not DRILLED


class Verdicts(Protocol):
    """Who is told how replicas do, and has their slots."""

    def note_connected(self, replica: Replica) -> None:
        """A connection to the replica was accepted."""

    def note_success(self, replica: Replica) -> None:
        """The replica answered."""

    def note_alive(self, replica: Replica) -> None:
        """The replica answered, but will not serve this request."""

    def note_failure(self, replica: Replica, *, to_connect: bool = False) -> None:
        """The replica failed."""

    def free_slot(self, replica: Replica) -> None:
        """The attempt is over."""


class Attempting(Bulkhead):
    """What an attempt is made for. Each of these calls may leave the attempt."""

    __slots__ = ()

    def reached(self) -> None:
        """There is a connection: time to `Attempt.send`."""
        raise NotImplementedError

    def head_came(self, head: AnswerHead) -> Relay | None:
        """The answer begins; what takes in its body, or None when that is of no use."""
        raise NotImplementedError

    def answer_came(self, head: AnswerHead, body: bytes) -> None:
        """The whole answer came at once; its status is 200."""
        raise NotImplementedError

    def attempt_failed(self, reason: str, status: int | None = None) -> None:
        """There is no answer. The replica has been judged.

        Args:
            reason: `LATE`, `REFUSED` or the status in words.
            status: With which the replica said that it cannot serve.
        """
        raise NotImplementedError

    def answer_broke(self, reason: str) -> None:
        """The answer, which may have begun, will not be complete: to be judged by `failed`."""
        raise NotImplementedError


class FirstAttempt(NamedTuple):
    """What a request has come to before it needed an exchange (see `express`).

    Attributes:
        replica: Has been sent the request, on this connection; its slot is taken.
        started: In monotonic seconds.
        started_at: The same as Unix time.
    """

    replica: Replica
    route: ReleaseRoute
    connection: UpstreamConnection
    started: float
    started_at: float


class Attempt:
    """See the head of this file (`upstream.Taker`).

    Attributes:
        relay: Takes in the answer's body, once it comes.
        was_sent: The replica may have seen the request.
    """

    __slots__ = (
        "_connecting",
        "_connection",
        "_fault",
        "_has_slot",
        "_late",
        "_owner",
        "_verdicts",
        "relay",
        "replica",
        "route",
        "was_sent",
    )

    def __init__(
        self,
        owner: Attempting,
        verdicts: Verdicts,
        replica: Replica,
        route: ReleaseRoute,
        connection: UpstreamConnection | None = None,
    ) -> None:
        """With a connection, it has its slot and was sent on it already."""
        self._owner = owner
        self._verdicts = verdicts
        self.replica = replica
        self.route = route
        self.relay: Relay | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connection = connection
        self._late: asyncio.TimerHandle | None = None
        self._fault: FaultyAnswer | None = None
        self._has_slot = self.was_sent = connection is not None

    # What its owner calls

    def take_slot(self) -> None:
        """Take a slot, which must be free."""
        self.replica.take_slot()
        self._has_slot = True

    def begin(self, now: float, late_s: float | None = None) -> None:
        """Take a slot, unless it has one, and reach the replica.

        Args:
            late_s: Seconds within which the answer has to begin.
        """
        if not self._has_slot:
            self.take_slot()
        if late_s is not None:
            self._late = asyncio.get_running_loop().call_later(late_s, self._is_late)
        self.reach(now)

    def reach(self, now: float) -> None:
        """Get a connection, open or new."""
        connection = self.replica.take_idle(now)
        if connection is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        else:
            self._connection = connection
            self._owner.reached()

    def body(self, call: Call) -> bytes:
        """The request as the release is asked; raises one of `UNREADABLE`."""
        return body_for(call.body, call.fields, call.kind, self.route)

    def send(self, call: Call, body: bytes, request_id: str) -> None:
        """Send the request."""
        assert self._connection is not None
        address, kind = self.replica.address, call.kind
        authorization, more = dialects.credentials(kind, self.replica.authorization)
        beginning = beginning_of(
            address,
            f"{address.prefix}/{kind}",
            authorization=authorization,
            accept="text/event-stream" if call.fields.stream else "application/json",
            more=more,
        )
        trace = call.trace.header_for(self.replica.id)
        request = build_request(beginning, body, request_id, trace)
        self.was_sent = True
        fault = self.route.fault
        if fault is not None and is_met(fault, request_id):
            self._fault = FaultyAnswer(self, fault, call.body)
        self._connection.send(request, self._fault or self)

    def count(
        self, question: bytes, request_id: str, on_count: Callable[[Reading | None], None]
    ) -> None:
        """Ask first how many tokens a text has; the request itself is not sent yet."""
        assert self._connection is not None
        beginning = beginning_of(
            self.replica.address,
            COUNT_PATH,
            authorization=self.replica.authorization,
            accept="application/json",
        )
        request = build_request(beginning, question, request_id)

        def counted(reading: Reading | None) -> None:
            self._connection = None
            with self._owner:
                on_count(reading)

        self._connection.send(request, Recount(counted, self._count_lost))

    def pause(self) -> None:
        """Read no more for now."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume()

    def open_lane(self, lane: EventLane) -> None:
        """The answer is a stream: its ordinary events go this way, unless a drill changes them."""
        if self._connection is not None and self._fault is None:
            self._connection.open_lane(lane)

    def failed(self) -> None:
        """The replica is to blame for how it ended."""
        self._verdicts.note_failure(self.replica)

    def detach(self) -> None:
        """All that is needed has come: let the answer end, so that the connection can be reused."""
        if self._connection is not None:
            self._connection.detach(DETACHED_S)
            self._connection = None

    def leave(self) -> None:
        """It is over: end what is open, and give the slot back."""
        self._began_in_time()
        if self._fault is not None:
            self._fault.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        self.relay = None
        self._free_slot()

    # upstream.Taker

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        self._began_in_time()  # It may be looked at for longer than it may be late.
        self._connection = None
        with self._owner:
            self._verdicts.note_success(self.replica)
            self._owner.answer_came(head, body)

    def on_head(self, head: AnswerHead) -> None:
        with self._owner:
            if head.status in UNWELL:
                self.failed()
                self._owner.attempt_failed(str(head.status), head.status)
                return
            if is_elsewhere(head):
                self._verdicts.note_alive(self.replica)
            else:
                self._verdicts.note_success(self.replica)
            self._began_in_time()
            self.relay = self._owner.head_came(head)

    def on_body(self, data: bytes) -> None:
        relay = self.relay
        if relay is not None:
            with self._owner:
                relay.feed(data)

    def on_end(self, *, is_framed: bool) -> None:
        self._connection = None
        relay = self.relay
        if relay is not None:
            with self._owner:
                relay.end(is_framed=is_framed)

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        self._connection = None
        with self._owner:
            if is_stale:
                self.was_sent = False
                self.replica.close_idle()
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            else:
                self._owner.answer_broke(reason)

    # faults.Faulted

    def engine_began(self) -> None:
        self._began_in_time()

    def engine_done(self) -> None:
        self._began_in_time()
        self._connection = None
        self._free_slot()

    # On its way

    async def _connect(self) -> None:
        with self._owner:
            try:
                async with asyncio.timeout(CONNECT_S):
                    connection = await self.replica.connect()
            except (OSError, TimeoutError):
                self._connecting = None
                self._verdicts.note_failure(self.replica, to_connect=True)
                self._owner.attempt_failed(REFUSED)
                return
            self._connecting = None
            self._connection = connection
            self._verdicts.note_connected(self.replica)
            self._owner.reached()

    def _count_lost(self, reason: str, is_stale: bool) -> None:
        # A question alone is no attempt; one that fails is.
        self.was_sent = True
        self.on_lost(reason, is_stale=is_stale)

    def _free_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._verdicts.free_slot(self.replica)

    def _began_in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        self._late = None
        with self._owner:
            is_connected = self._connection is not None
            self._verdicts.note_failure(self.replica, to_connect=not is_connected)
            self._owner.attempt_failed(LATE if is_connected else REFUSED)
