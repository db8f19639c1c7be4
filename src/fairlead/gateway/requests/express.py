"""The usual request, at the least cost: sent at once, and answered whole.

Nearly every plain request meets a replica with a free slot and an open connection, and its answer
comes in one piece under a head that is known. Such a request needs no queue, no timers and no
relay. It is counted, limited and recorded like any other. With the first thing that is out of the
ordinary (an answer in parts or of another kind, a lost connection, a deadline, a client that leaves
or stalls) it becomes an `Exchange` that has made its first attempt, which knows what to do.
"""

from __future__ import annotations

import logging

from fairlead.domain.defects import trail
from fairlead.gateway.errors import Refusal, invalid_body
from fairlead.gateway.quotas.quota import Hold
from fairlead.gateway.quotas.quota_answers import cost_of
from fairlead.gateway.quotas.quota_answers import headers as ratelimit_headers
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.fleet import Replica
from fairlead.gateway.replicas.outgoing import build_request
from fairlead.gateway.replicas.upstream import UpstreamConnection
from fairlead.gateway.requests.answers import UNSEEN, AnswerReading, cost_usd
from fairlead.gateway.requests.attempt import Attempt, FirstAttempt
from fairlead.gateway.requests.call import Call, Client, Running
from fairlead.gateway.requests.exchange import Exchange
from fairlead.gateway.requests.plant import Plant
from fairlead.gateway.requests.request_body import UNREADABLE, body_for
from fairlead.gateway.requests.usage import usage_of_answer
from fairlead.wire.record import RequestRecord

_log = logging.getLogger("fairlead.gateway")


class Express:
    """See the head of this file.

    Args:
        replica: It has a free slot, and this is an open connection to it.
    """

    __slots__ = (
        "_answer",
        "_call",
        "_client",
        "_connection",
        "_exchange",
        "_is_over",
        "_plant",
        "_replica",
        "_started",
        "_started_at",
    )

    def __init__(
        self,
        plant: Plant,
        client: Client,
        call: Call,
        replica: Replica,
        connection: UpstreamConnection,
        now: float,
    ) -> None:
        self._plant = plant
        self._client = client
        self._call = call
        self._replica = replica
        self._connection = connection
        self._started = now
        self._started_at = plant.recorder.opened(call.request_id, now)
        self._exchange: Exchange | None = None
        self._is_over = False
        self._answer: tuple[bytes, bytes, bytes] = (b"", b"", b"")

    def start(self) -> None:
        """Send the request."""
        call, replica = self._call, self._replica
        limits = call.service.route.limits
        self._plant.deadlines.begin(self, self._started + limits.request_timeout_s)
        replica.take_slot()
        if call.trace.record:
            call.trace.begin(self._started, replica.id, call.assignment.release)
        try:
            self._connection.send(self._request(), self)
        except UNREADABLE as error:
            self._become().refuse(invalid_body(f"The body cannot be read: {error}."))
        except Exception as error:  # noqa: BLE001 - it answers for its own defects
            self._become().on_defect(error)

    def _request(self) -> bytes:
        """Raises one of `UNREADABLE`."""
        call, replica = self._call, self._replica
        body, kind, trace = call.body, call.kind, call.trace
        service, release = call.service, call.assignment.release
        if release in service.shaping:
            body = body_for(body, call.fields, kind, service.route.releases[release])
        traced = trace.header_for(replica.id) if trace.record else trace.header
        return build_request(replica.beginnings[kind], body, call.request_id, traced)

    # upstream.Taker

    def on_answer(self, head: AnswerHead, body: bytes) -> None:
        try:
            self._plant.fleet.note_success(self._replica)
            self._finish(head, body)
        except Exception as error:  # noqa: BLE001 - it answers for its own defects
            self._broke(error)

    def on_head(self, head: AnswerHead) -> None:
        self._go_on().on_head(head)

    def on_body(self, data: bytes) -> None:
        self._go_on().on_body(data)

    def on_end(self, *, is_framed: bool) -> None:
        self._go_on().on_end(is_framed=is_framed)

    def on_lost(self, reason: str, *, is_stale: bool) -> None:
        self._go_on().on_lost(reason, is_stale=is_stale)

    # call.Running, and deadlines.Timed

    def timed_out(self) -> None:
        self._become().timed_out()

    def client_left(self) -> None:
        if not self._is_over:
            self._become().client_left()

    def shut_down(self, refusal: Refusal) -> None:
        if not self._is_over:
            self._become().shut_down(refusal)

    def pause(self) -> None:
        if not self._is_over:
            self._become().pause()

    def resume(self) -> None:
        if not self._is_over:
            self._become().resume()

    def _become(self) -> Exchange:
        """The same request, with all that can be done about it."""
        if self._exchange is None:
            self._plant.deadlines.end(self)
            call = self._call
            first = FirstAttempt(
                self._replica,
                call.service.route.releases[call.assignment.release],
                self._connection,
                self._started,
                self._started_at,
            )
            self._exchange = Exchange(self._plant, self._client, call, first)
            self._connection.hand_over(self, self._go_on())
        return self._exchange

    def _go_on(self) -> Attempt:
        """What takes in the answer from now on."""
        attempt = self._become().attempt
        assert attempt is not None
        return attempt

    # The end

    def _finish(self, head: AnswerHead, body: bytes) -> None:
        plant, call = self._plant, self._call
        assignment, live = call.assignment, call.service
        now = plant.clock.now()
        duration_ms = (now - self._started) * 1000.0
        usage = usage_of_answer(body)
        service, prices = live.route, live.prices
        refused, malformed = UNSEEN
        if assignment.facts:
            reading = AnswerReading(assignment.facts, call)
            reading.whole(body)
            refused, malformed = reading.found(head.status, "")
        # By position: with names it takes four times as long. Tests hold it against an exchange's.
        record = RequestRecord(
            call.request_id,
            service.name,
            assignment.release,
            assignment.arm,
            self._replica.id,
            call.key_id,
            assignment.unit,
            assignment.rho,
            assignment.rollout,
            assignment.phase,
            call.kind,
            False,  # stream
            head.status,
            "",  # error
            self._started_at,
            duration_ms,  # to the first byte
            -1.0,  # between events
            duration_ms,
            usage.prompt_tokens,
            usage.completion_tokens,
            1,  # attempts
            cost_usd(prices.get(assignment.release), usage) if prices else -1.0,
            refused,
            malformed,
            call.trace.record,
            -1,  # guardrails: those services take the other way
            "",
            "",
            call.trace.tried(self._started, now, "") if call.trace.record else (),
            call.stratum,
        )
        headers, hold = live.headers[assignment.release], call.hold
        if hold is not None:
            if not hold.is_settled:
                self._settle(hold, record)
            headers += ratelimit_headers(hold.meters, plant.clock.as_wall(now))
        self._is_over = True
        self._answer = head.content_type, body, headers
        plant.deadlines.end(self)
        try:
            plant.recorder.finish(call.request_id, record, self._deliver)
            plant.metrics.tallies.count(record)
        finally:
            plant.fleet.free_slot(self._replica)

    def _settle(self, hold: Hold, record: RequestRecord) -> None:
        """Put right what was reserved of limits."""
        route = self._call.service.route.releases[record.release]
        cost, is_estimate = cost_of(hold, record, route, events=0)
        hold.settle(cost)
        if is_estimate:
            self._plant.metrics.usage_estimated.inc((record.service,))

    def _deliver(self) -> None:
        content_type, body, headers = self._answer
        self._client.answer(200, content_type, body, headers)

    def _broke(self, error: Exception) -> None:
        if not self._is_over:
            self._become().on_defect(error)
        else:
            # Its end is what broke: no record can be made of it.
            _log.error("request %s ended by a defect: %s", self._call.request_id, trail(error))
            self._plant.recorder.dropped(self._call.request_id)
            self._client.cut()


def shortest(plant: Plant, client: Client, call: Call, now: float) -> Running:
    """A request to be started: the short way where it is open, else the whole one."""
    if call.service.is_usual and call.fields.stream is not True and not plant.shadows.is_on:
        found = plant.queue.at_once(call, now)
        if found is not None:
            replica, connection = found
            return Express(plant, client, call, replica, connection, now)
    return Exchange(plant, client, call)
