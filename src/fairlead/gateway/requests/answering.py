"""A request as its answer's relay sees it: what the client has of the answer, and what is left.

A plain answer is sent when it is whole. Of a stream, what was passed on is kept in a `Course` where
another replica can go on with it. What guardrails look at comes through `Guarding` before it.
"""

from __future__ import annotations

from fairlead.domain.outcomes import REJECTED
from fairlead.gateway.errors import UPSTREAM_CUT, UPSTREAM_DIVERGED, UPSTREAM_ERROR, Refusal
from fairlead.gateway.guardrails.guarding import Guarding
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.routing import CONTINUING
from fairlead.gateway.requests.answers import reading_of
from fairlead.gateway.requests.attempt import Attempt
from fairlead.gateway.requests.call import Call, Client
from fairlead.gateway.requests.ending import meter_of
from fairlead.gateway.requests.metering import StreamMeter
from fairlead.gateway.requests.plant import Plant
from fairlead.gateway.requests.relay import RelayOwner, StreamRelay
from fairlead.gateway.requests.reply import Deliver, Reply
from fairlead.gateway.requests.request_body import UNREADABLE
from fairlead.gateway.requests.usage import UNKNOWN, Usage
from fairlead.gateway.streams.course import Course
from fairlead.gateway.streams.event_lane import EventLane
from fairlead.gateway.streams.recount import Reading
from fairlead.gateway.streams.seam import OTHER_TEXT
from fairlead.gateway.waiting.seeker import Seeker
from fairlead.wire.snapshot import ReleaseRoute

_LAST = frozenset({"event_too_large", OTHER_TEXT})
"""Why a stream breaks that another replica would not end any better."""


class Answering(Seeker):
    """See the head of this file (`relay.RelayOwner`).

    Attributes:
        attempt: The present one.
    """

    __slots__ = (
        "_client",
        "_course",
        "_guarding",
        "_is_over",
        "_is_paused",
        "_reading",
        "_reply",
        "_route",
        "attempt",
    )

    def __init__(self, plant: Plant, client: Client, call: Call) -> None:
        # request
        super().__init__(plant, call)
        self._is_over = False
        self._guarding = Guarding(call, self, plant.turns) if call.service.is_guarded else None
        # attempt
        self.attempt: Attempt | None = None
        self._route: ReleaseRoute | None = None
        # answer
        self._client = client
        self._reply = Reply(client, call, plant.clock)
        self._reading = reading_of(call.assignment.facts, call)
        self._course: Course | None = None
        self._is_paused = False

    def attempt_failed(self, reason: str, status: int | None = None) -> None:
        raise NotImplementedError

    def _fail(self, refusal: Refusal) -> None:
        """End with an error, in the form that what was already sent allows."""
        raise NotImplementedError

    def _finish(self, status: int, error: str, deliver: Deliver, usage: Usage = UNKNOWN) -> None:
        """End: write the record, and then let the client have the end of the answer."""
        raise NotImplementedError

    # The client's pace

    def pause(self) -> None:
        """The client does not keep up: read no more from the replica."""
        self._is_paused = True
        self.flow()

    def resume(self) -> None:
        """The client has caught up."""
        self._is_paused = False
        self.flow()

    def flow(self) -> None:
        """Read from the replica, unless that has to wait for the client or a guardrail."""
        attempt, guarding = self.attempt, self._guarding
        if attempt is None:
            return
        if self._is_paused or (guarding is not None and guarding.is_looking):
            attempt.pause()
        else:
            attempt.resume()

    # relay.RelayOwner

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        self._reply.begin(head, length)

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        if self._is_over:
            return
        if self._course is not None:
            self._course.sent.add(data)
        if self._reading is not None:
            self._reading.sent(data, is_stream=self._is_stream)
        self._client.part(data, chunks)

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        status, deliver = self._reply.whole(head, body)
        if self._reading is not None and head.status < 400:
            self._reading.whole(body)
        self._finish(status, REJECTED if head.status >= 400 else "", deliver, usage)

    def last_part(self, data: bytes, usage: Usage) -> None:
        if self._is_over:
            return
        attempt = self.attempt
        assert attempt is not None
        attempt.detach()
        if self._reading is not None:
            self._reading.sent(data, is_stream=self._is_stream)
        error = UPSTREAM_ERROR.code if self.has_error else ""
        self._finish(self._reply.status, error, self._reply.end(data), usage)

    def answer_broke(self, reason: str) -> None:
        broken = self.attempt

        def later() -> None:  # It may be told twice meanwhile, and be over with the first time.
            if self.attempt is broken:
                self.answer_broke(reason)

        if self._guarding is not None and self._guarding.holds(later):
            return
        if self.attempt is not None and reason != OTHER_TEXT:
            self.attempt.failed()
        if not self._reply.has_begun:
            self.attempt_failed(reason)
        elif self._course is not None and reason not in _LAST:
            self._go_on(reason, self._course)
        else:
            self._fail(UPSTREAM_DIVERGED if reason == OTHER_TEXT else UPSTREAM_CUT)

    def engine_failed(self) -> bool:
        if self._is_over:  # A guardrail has ended it before.
            return True
        goes_on = not self._reply.has_begun or self._course is not None
        if goes_on:
            self.answer_broke("engine_error")
        return goes_on

    # A stream, and the rest of one that broke (see `course`)

    @property
    def bound_to(self) -> str | None:
        course = self._course
        return course.release if course is not None and course.is_broken else None

    @property
    def has_error(self) -> bool:
        """Whether the stream that comes in tells of an error: such a one is not complete."""
        relay = None if self.attempt is None else self.attempt.relay
        return isinstance(relay, StreamRelay) and relay.has_error

    @property
    def _is_stream(self) -> bool:
        return self.attempt is not None and isinstance(self.attempt.relay, StreamRelay)

    @property
    def _taker(self) -> RelayOwner:
        """What relays pass on comes to: this request, where nothing has to look at it before."""
        return self._guarding or self

    def _relay_of_stream(self, head: AnswerHead) -> StreamRelay:
        assert self._route is not None
        assert self.attempt is not None
        call, plant = self.call, self._plant
        wants_usage = call.fields.asks_usage
        relay = StreamRelay(self._taker, head, plant.clock, hides_usage=not wants_usage)
        self.attempt.open_lane(EventLane(relay.pass_straight, plant.batches, self.on_defect))
        if head.status == 200:
            self._course = Course.of(self._route, call.kind, relay.meter, wants_usage=wants_usage)
        return relay

    def _relay_of_rest(self, head: AnswerHead, course: Course) -> StreamRelay | None:
        if head.status != 200 or not head.is_event_stream or head.is_encoded:
            self._fail(UPSTREAM_CUT)
            return None
        self._plant.metrics.streams_continued.inc((self.service,))
        return course.relay_of_rest(self._taker, head, self._plant.clock)

    def _go_on(self, reason: str, course: Course) -> None:
        """Go on with a broken stream on another replica, if that can be done."""
        assert self.attempt is not None
        try:
            can_go_on = course.broke(self.attempt.body(self.call))
        except UNREADABLE:
            can_go_on = False
        if not can_go_on:
            self._fail(UPSTREAM_CUT)
        elif not self._ends(course):
            self.lane = CONTINUING + course.release
            self.attempt_failed(reason)

    def _counted(self, reading: Reading | None) -> None:
        assert self._course is not None
        assert self.attempt is not None
        if not self._course.counted(reading):
            self._fail(UPSTREAM_CUT)
        elif not self._ends(self._course):
            self.attempt.reach(self._plant.clock.now())

    def _ends(self, course: Course) -> bool:
        """End the stream if nothing but its end is missing."""
        end = course.end
        if end is not None:
            (self._guarding or self).end_with(end)
        return end is not None

    def end_with(self, end: bytes) -> None:
        """A stream that broke lacks nothing but this."""
        self._finish(self._reply.status, "", self._reply.end(end))

    def _meter(self) -> StreamMeter | None:
        """The meter of the stream, over all its parts; None for a plain answer."""
        meter = meter_of(self.attempt.relay) if self.attempt is not None else None
        if meter is None and self._course is not None:
            meter = self._course.meter
        return meter
