"""One copy of a live request: one attempt on one replica, read to its end and recorded.

The release on trial is asked as it would serve: its own guardrails look at the prompt before it is
sent, and at the answer. What they block is blocked, and what they hit is in the copy's record.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import msgspec

from fairlead.domain.defects import trail
from fairlead.domain.outcomes import GIVEN_UP, REJECTED, SHADOW, SHADOW_ID_SUFFIX
from fairlead.gateway.errors import (
    INTERNAL_ERROR,
    TIMEOUT,
    UPSTREAM_CREDENTIALS,
    UPSTREAM_CUT,
    UPSTREAM_ERROR,
    Refusal,
)
from fairlead.gateway.guardrails.guarding import UNGUARDED, Guarding
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.requests.answers import UNSEEN, reading_of
from fairlead.gateway.requests.attempt import CREDENTIALS, Attempt, Attempting
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.ending import Ending, meter_of, record_of
from fairlead.gateway.requests.relay import PlainRelay, Relay, RelayOwner, StreamRelay
from fairlead.gateway.requests.reply import nobody
from fairlead.gateway.requests.request_body import UNREADABLE
from fairlead.gateway.requests.usage import UNKNOWN, Usage, usage_of_answer
from fairlead.wire.record import RequestRecord
from fairlead.wire.snapshot import ServiceRoute

if TYPE_CHECKING:
    from fairlead.gateway.copies.shadow import Shadows

_log = logging.getLogger("fairlead.gateway")

Outcome = Literal["answered", "blocked", "failed", "dropped", "ended"]
ENDED = "shadow_ended"
"""Error of a copy that was given up for a live request, or because the shadow is over."""
_JUST_S = 0.001


class ShadowCopy(Attempting):
    """See the head of this file."""

    def __init__(
        self, shadows: Shadows, call: Call, service: ServiceRoute, digest: str, replica: Replica
    ) -> None:
        # process
        self._shadows = shadows
        # request
        # Its engine's spans are none of the live request's.
        self._call = call.untraced()
        self._rollout = service.rollout or ""
        self._phase = service.phase if service.rollout is not None else 0
        self.service = service.name
        self.release = digest
        self.replica = replica
        self.body_bytes = len(call.body)
        self._started = shadows.clock.now()
        self._started_at = shadows.clock.wall()
        self._timeout_s = _timeout_s(service)
        self._is_sent = False
        self._is_over = False
        route = service.releases[digest]
        self._guarding: Guarding | None = None
        if call.service.is_guarded or route.guardrails:
            self._guarding = Guarding(self._call, self, shadows.turns, is_copy=True)
        # attempt
        self._attempt = Attempt(self, shadows, replica, route)
        # answer
        self._status = 0
        # The same is looked for as in the live request's answer.
        self._reading = reading_of(call.assignment.facts, call)

    def start(self) -> None:
        """Take the slot and send the copy."""
        self._shadows.deadlines.begin(self, self._started + self._timeout_s)
        with self:
            self._attempt.take_slot()
            if self._guarding is None:
                self._send(None)
            else:
                self._guarding.prompt(self._attempt.route, self._send)

    def _send(self, refusal: Refusal | None) -> None:
        """Send it, if the release's guardrails let its prompt pass."""
        if refusal is None:
            self._is_sent = True
            self._attempt.begin(self._shadows.clock.now())
        else:
            self.refuse(refusal)

    def give_up(self) -> None:
        """Its slot is needed, or its answer no longer."""
        if not self._is_over:
            with self:
                self._finish(GIVEN_UP, ENDED)

    def timed_out(self) -> None:
        """It has taken too long."""
        with self:
            if self._is_looking:
                # Looks wait for those at live requests: nothing to hold against the release. It is
                # given up within its time, since what is later counts as late.
                self._finish(GIVEN_UP, ENDED, ended=self._started + self._timeout_s - _JUST_S)
            else:
                self._finish(TIMEOUT.status, TIMEOUT.code)

    def on_defect(self, error: Exception) -> None:
        """Something of ours broke on this copy: it ends, and no other."""
        _log.error("the shadow of request %s: a defect: %s", self._call.request_id, trail(error))
        if not self._is_over:
            self._finish(INTERNAL_ERROR.status, INTERNAL_ERROR.code)

    # attempt.Attempting

    def reached(self) -> None:
        try:
            body = self._attempt.body(self._call)
        except UNREADABLE:
            # Only some releases read this deep; the live request may well have been answered.
            self._finish(400, REJECTED)
            return
        self._attempt.send(self._call, body, self._call.request_id + SHADOW_ID_SUFFIX)

    def head_came(self, head: AnswerHead) -> Relay | None:
        if head.status in CREDENTIALS:
            self._finish(UPSTREAM_CREDENTIALS.status, UPSTREAM_CREDENTIALS.code)
        elif head.status >= 500:
            self._finish(head.status, UPSTREAM_ERROR.code)
        elif 300 <= head.status < 400:
            self._finish(UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)
        else:
            taker = self._taker_of(head)
            if head.is_event_stream:
                return StreamRelay(taker, head, self._shadows.clock, hides_usage=False)
            relay = PlainRelay(taker, head)
            return None if self._is_over else relay
        return None

    def answer_came(self, head: AnswerHead, body: bytes) -> None:
        self._taker_of(head).whole_answer(head, body, usage_of_answer(body))

    def attempt_failed(self, reason: str, status: int | None = None) -> None:
        self._finish(status or UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)

    def _taker_of(self, head: AnswerHead) -> RelayOwner:
        """What an answer comes to: this copy, where nothing has to look at it before."""
        if self._guarding is None:
            return self
        self._guarding.expect(self._attempt.route, head.status)
        return self._guarding

    # guarding.Guarded

    @property
    def has_error(self) -> bool:
        relay = self._attempt.relay
        return isinstance(relay, StreamRelay) and relay.has_error

    def refuse(self, refusal: Refusal) -> None:
        self._finish(self._status or refusal.status, refusal.code)

    def flow(self) -> None:
        if self._is_looking:
            self._attempt.pause()
        else:
            self._attempt.resume()

    def end_with(self, end: bytes) -> None:
        """A copy's stream is not gone on with."""

    @property
    def _is_looking(self) -> bool:
        return self._guarding is not None and self._guarding.is_looking

    # relay.RelayOwner: what a client would get goes nowhere

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        self._status = head.status

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        """Nobody gets it."""
        if self._reading is not None:
            self._reading.sent(data, is_stream=isinstance(self._attempt.relay, StreamRelay))

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        if self._reading is not None and head.status < 400:
            self._reading.whole(body)
        self._finish(head.status, REJECTED if head.status >= 400 else "", usage)

    def last_part(self, data: bytes, usage: Usage) -> None:
        self.pass_on(data)
        self._attempt.detach()
        self._finish(self._status, UPSTREAM_ERROR.code if self.has_error else "", usage)

    def answer_broke(self, reason: str) -> None:
        if self._guarding is not None and self._guarding.holds(lambda: self.answer_broke(reason)):
            return
        if self._is_over:
            return
        self._attempt.failed()
        if self._status:
            self._finish(self._status, UPSTREAM_CUT.code)
        else:
            self._finish(UPSTREAM_ERROR.status, UPSTREAM_ERROR.code)

    def engine_failed(self) -> bool:
        return self._is_over  # A guardrail has ended it before.

    # Its end

    def _finish(
        self, status: int, error: str, usage: Usage = UNKNOWN, *, ended: float | None = None
    ) -> None:
        if self._is_over:
            return
        self._is_over = True
        shadows = self._shadows
        shadows.deadlines.end(self)
        shadows.over(self)
        if self._guarding is not None:
            self._guarding.close()
        record = self._record(status, error, usage, ended or shadows.clock.now())
        shadows.recorder.finish(self, record, nobody)
        shadows.count(self.service, self.release, _outcome(record))
        shadows.count_hits(record)
        self._attempt.leave()

    def _record(self, status: int, error: str, usage: Usage, ended: float) -> RequestRecord:
        ending = Ending(
            status,
            error,
            usage,
            meter_of(self._attempt.relay),
            started=self._started,
            started_at=self._started_at,
            ended=ended,
            release=self.release,
            replica=self.replica.id if self._is_sent else "",
            attempts=int(self._is_sent),
            price=self._attempt.route.price,
            facts=UNSEEN if self._reading is None else self._reading.found(status, error),
            guarded=UNGUARDED if self._guarding is None else self._guarding.found,
        )
        return msgspec.structs.replace(
            record_of(self._call, ending),
            id=self._call.request_id + SHADOW_ID_SUFFIX,
            arm=SHADOW,
            rho=0.0,
            rollout=self._rollout,
            phase=self._phase,
        )


def _outcome(record: RequestRecord) -> Outcome:
    if record.error == ENDED:
        return "ended"
    if record.blocked_by:
        return "blocked"
    return "answered" if not record.error and record.status < 400 else "failed"


def _timeout_s(service: ServiceRoute) -> float:
    limit_s = service.limits.request_timeout_s
    own_s = 0.0 if service.shadow is None else service.shadow.timeout_s
    return min(own_s or limit_s, limit_s)
