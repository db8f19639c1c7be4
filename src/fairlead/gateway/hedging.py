"""A second attempt beside a slow first one, for embeddings: the first answer counts.

Embeddings are the same whoever computes them, short, and wanted at once. The second attempt holds
its answer until it is complete, so there is nothing to take over from it but the whole.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from fairlead.gateway.bulkhead import Bulkhead
from fairlead.gateway.call import Call, Plant
from fairlead.gateway.fleet import Replica
from fairlead.gateway.limits import CONNECT_S, PLAIN_BUFFER_BYTES
from fairlead.gateway.request_body import body_for
from fairlead.gateway.upstream import AnswerHead, UpstreamConnection, build_request
from fairlead.wire.snapshot import ReleaseRoute

if TYPE_CHECKING:
    from fairlead.gateway.exchange import Exchange

_log = logging.getLogger("fairlead.gateway")
_OK = range(200, 300)
_FAULT = 500


class Hedge(Bulkhead):
    """The second attempt of one request: waits, is tried on one replica, and ends."""

    __slots__ = (
        "_call",
        "_connecting",
        "_connection",
        "_head",
        "_owner",
        "_parts",
        "_plant",
        "_replica",
        "_size",
        "_timer",
    )

    def __init__(self, plant: Plant, owner: Exchange, call: Call, after_s: float) -> None:
        self._plant = plant
        self._owner = owner
        self._call = call
        self._replica: Replica | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connection: UpstreamConnection | None = None
        self._head: AnswerHead | None = None
        self._parts: list[bytes] = []
        self._size = 0
        loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = loop.call_later(after_s, self._begin)

    @property
    def is_open(self) -> bool:
        """Whether an answer may still come of it."""
        return self._replica is not None

    def cancel(self) -> None:
        """The first attempt was answered, or the request is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._replica is not None:
            self._count("lost")
            self._leave()

    def on_defect(self, error: Exception) -> None:
        """The first attempt goes on as if there had been no second one."""
        _log.error("hedge of request %s broke", self._call.request_id, exc_info=error)
        self._fail()

    def _begin(self) -> None:
        self._timer = None
        with self:
            found = self._plant.queue.hedge(self._owner)
            if found is None:
                return
            self._replica, route = found
            self._owner.tried.add(self._replica)
            self._replica.take_slot()
            connection = self._replica.take_idle(self._plant.clock.now())
            if connection is None:
                loop = asyncio.get_running_loop()
                self._connecting = loop.create_task(self._connect(self._replica, route))
            else:
                self._send(self._replica, route, connection)

    async def _connect(self, replica: Replica, route: ReleaseRoute) -> None:
        with self:
            try:
                async with asyncio.timeout(CONNECT_S):
                    connection = await replica.connect()
            except (OSError, TimeoutError):
                self._connecting = None
                self._plant.fleet.note_failure(replica, to_connect=True)
                self._fail()
                return
            self._connecting = None
            self._plant.fleet.note_connected(replica)
            self._send(replica, route, connection)

    def _send(self, replica: Replica, route: ReleaseRoute, connection: UpstreamConnection) -> None:
        self._connection = connection
        try:
            body = body_for(self._call.body, self._call.fields, self._call.kind, route)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._fail()  # The first attempt has told the client, or is about to.
            return
        request = build_request(
            replica.address,
            f"{replica.address.prefix}/{self._call.kind}",
            body,
            request_id=self._call.request_id,
            authorization=replica.authorization,
            accept="application/json",
        )
        connection.send(request, self)

    # upstream.Taker

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        self._connection = None
        with self:
            self._answered(head, body)

    def on_head(self, head: AnswerHead) -> None:
        self._head = head

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > PLAIN_BUFFER_BYTES:
            with self:
                self._fail()

    def on_end(self, *, is_framed: bool) -> None:
        self._connection = None
        with self:
            if self._head is None or not is_framed:
                self._fail()
            else:
                self._answered(self._head, b"".join(self._parts))

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        self._connection = None
        with self:
            if self._replica is not None and not is_stale:
                self._plant.fleet.note_failure(self._replica)
            self._fail()

    # Ends

    def _answered(self, head: AnswerHead, body: bytes) -> None:
        replica = self._replica
        if replica is None:
            return
        if head.status in _OK:
            self._plant.fleet.note_success(replica)
            self._count("won")
            self._leave()
            self._owner.hedge_won(replica, head, body)
        else:
            if head.status >= _FAULT:
                self._plant.fleet.note_failure(replica)
            self._fail()

    def _fail(self) -> None:
        if self._replica is not None:
            self._count("lost")
            self._leave()
            self._owner.hedge_failed()

    def _count(self, outcome: str) -> None:
        self._plant.metrics.hedges.inc((self._owner.service, outcome))

    def _leave(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        if self._replica is not None:
            replica, self._replica = self._replica, None
            self._plant.fleet.free_slot(replica)
