"""A request that waits for its worker to be lent more of a limit.

The limit is not used up: others hold the rest of it and do not use it. Control moves it within a
few hundredths of a second, so the request waits for that rather than being told to come again. It
waits a second at the most, and only so many do at a time; then it is refused as it would have been.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fairlead.domain.defects import trail
from fairlead.gateway.bulkhead import Bulkhead
from fairlead.gateway.errors import INTERNAL_ERROR, Refusal
from fairlead.gateway.quotas import quota_answers
from fairlead.gateway.quotas.quota import QuotaBook
from fairlead.gateway.quotas.quota_answers import Lacking, Taken
from fairlead.gateway.requests import dialects
from fairlead.gateway.requests.call import Call, Client, Running, refusal_headers
from fairlead.gateway.requests.plant import Plant

_log = logging.getLogger("fairlead.gateway")
LEASE_WAIT_S = 1.0

Begin = Callable[[Plant, Client, Call, float], Running]


class LeaseWait(Bulkhead):
    """Waits, and then is the exchange that it begins, or is refused.

    Args:
        begin: Makes the exchange once what it may use is taken.
    """

    def __init__(
        self,
        plant: Plant,
        client: Client,
        call: Call,
        book: QuotaBook,
        lacking: Lacking,
        begin: Begin,
    ) -> None:
        self._plant = plant
        self._client = client
        self._book = book
        self._call = call
        self._refusal = lacking.refusal
        self._begin = begin
        self._timer: asyncio.TimerHandle | None = None
        self._exchange: Running | None = None
        self._is_paused = False
        self._is_over = False

    # What the client's connection calls, as on an exchange

    def start(self) -> None:
        """Wait, if there is room for one more."""
        if not self._book.wait(self):
            self._refuse(self._refusal)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LEASE_WAIT_S, self._expired)

    def client_left(self) -> None:
        """The client is gone."""
        if self._exchange is not None:
            self._exchange.client_left()
        else:
            self._end()

    def shut_down(self, refusal: Refusal) -> None:
        """The worker ends before this request does."""
        if self._exchange is not None:
            self._exchange.shut_down(refusal)
        elif not self._is_over:
            self._refuse(refusal)

    def pause(self) -> None:
        """The client does not keep up."""
        self._is_paused = True
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._is_paused = False
        if self._exchange is not None:
            self._exchange.resume()

    # quota.Waiter

    def look_again(self) -> None:
        """The worker may hold more now."""
        if not self._is_over:
            with self:
                now = self._plant.clock.wall()
                self._try(quota_answers.take(self._book, self._call, now, is_again=True))

    def on_defect(self, error: Exception) -> None:
        """Something of ours broke on this request: end it, so that it holds up no other."""
        _log.error("a request that waited for a limit: a defect: %s", trail(error))
        if not self._is_over:
            self._refuse(INTERNAL_ERROR)
        else:
            # What it had become broke as it began: there is nobody else to tell the client.
            self._client.cut()

    def _try(self, taken: Taken) -> None:
        if isinstance(taken, Lacking):
            self._refusal = taken.refusal
        elif isinstance(taken, Refusal):
            self._refuse(taken)
        else:
            self._end()
            self._call.hold = taken
            now = self._plant.clock.now()
            self._exchange = self._begin(self._plant, self._client, self._call, now)
            self._exchange.start()
            if self._is_paused:
                self._exchange.pause()

    def _expired(self) -> None:
        self._timer = None
        self.look_again()
        if not self._is_over:
            self._refuse(self._refusal)

    def _refuse(self, refusal: Refusal) -> None:
        self._end()
        self._plant.metrics.rejected.inc((refusal.code,))
        body = dialects.error_body(self._call.kind, refusal)
        self._client.answer(refusal.status, b"application/json", body, refusal_headers(refusal))

    def _end(self) -> None:
        self._is_over = True
        self._book.wait_no_more(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
