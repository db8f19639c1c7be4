"""A second attempt beside a slow first one, for embeddings: the first answer counts.

Embeddings are the same whoever computes them, short, and wanted at once. The second attempt holds
its answer until it is complete, so there is nothing to take over from it but the whole.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fairlead.domain.defects import trail
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.requests.attempt import Attempt, Attempting
from fairlead.gateway.requests.plant import Plant
from fairlead.gateway.requests.relay import PlainRelay, Relay
from fairlead.gateway.requests.request_body import UNREADABLE
from fairlead.gateway.requests.usage import Usage, usage_of_answer

if TYPE_CHECKING:
    from fairlead.gateway.requests.exchange import Exchange

_log = logging.getLogger("fairlead.gateway")
_OK = range(200, 300)


class Hedge(Attempting):
    """The second attempt of one request: waits, is tried on one replica, and ends."""

    __slots__ = ("_attempt", "_call", "_owner", "_plant", "_timer")

    def __init__(self, plant: Plant, owner: Exchange, after_s: float) -> None:
        self._plant = plant
        self._owner = owner
        self._call = owner.call
        self._attempt: Attempt | None = None
        loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = loop.call_later(after_s, self._begin)

    @property
    def is_open(self) -> bool:
        """Whether an answer may still come of it."""
        return self._attempt is not None

    def cancel(self) -> None:
        """The first attempt was answered, or the request is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            self._end("lost", self._attempt)

    def on_defect(self, error: Exception) -> None:
        """The first attempt goes on as if there had been no second one."""
        _log.error("hedge of request %s broke: %s", self._call.request_id, trail(error))
        self._fail()

    def _begin(self) -> None:
        self._timer = None
        with self:
            found = self._plant.queue.hedge(self._owner)
            if found is None:
                return
            replica, route = found
            self._owner.tried.add(replica)
            self._attempt = Attempt(self, self._plant.fleet, replica, route)
            now = self._plant.clock.now()
            self._call.trace.begin(now, replica.id, route.digest, is_hedge=True)
            self._attempt.begin(now)

    # attempt.Attempting

    def reached(self) -> None:
        assert self._attempt is not None
        try:
            body = self._attempt.body(self._call)
        except UNREADABLE:
            self._fail()  # The first attempt has told the client, or is about to.
            return
        self._attempt.send(self._call, body, self._call.request_id)

    def head_came(self, head: AnswerHead) -> Relay | None:
        if head.status not in _OK or head.is_encoded:
            self._fail()
            return None
        return PlainRelay(self, head)

    def answer_came(self, head: AnswerHead, body: bytes) -> None:
        self.whole_answer(head, body, usage_of_answer(body))

    def attempt_failed(self, reason: str, status: int | None = None) -> None:
        self._fail()

    # relay.RelayOwner

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        self._fail()  # It is too large to be held.

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        """Nothing is, before it is complete."""

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        attempt = self._attempt
        if attempt is not None:
            self._end("won", attempt)
            self._owner.hedge_won(attempt.replica, head, body, usage)

    def last_part(self, data: bytes, usage: Usage) -> None:
        """Only of an answer that was begun."""

    def answer_broke(self, reason: str) -> None:
        if self._attempt is not None:
            self._attempt.failed()
        self._fail()

    def engine_failed(self) -> bool:
        return False

    # Ends

    def _fail(self) -> None:
        if self._attempt is not None:
            self._end("lost", self._attempt)
            self._owner.hedge_failed()

    def _end(self, outcome: str, attempt: Attempt) -> None:
        self._attempt = None
        self._plant.metrics.hedges.inc((self._owner.service, outcome))
        said = "" if outcome == "won" else outcome
        self._call.trace.end(self._plant.clock.now(), attempt.replica.id, said)
        attempt.leave()
