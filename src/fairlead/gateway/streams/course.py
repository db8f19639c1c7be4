"""The course of one stream over the replicas that it takes to end it."""

from __future__ import annotations

from fairlead.gateway.clock import Clock
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.requests.metering import StreamMeter
from fairlead.gateway.requests.relay import RelayOwner, StreamRelay
from fairlead.gateway.streams.continuation import (
    KINDS,
    NotContinuable,
    Rest,
    continued_body,
    end_of,
)
from fairlead.gateway.streams.recount import Reading, question, tokens_of
from fairlead.gateway.streams.seam import Seam
from fairlead.gateway.streams.sent import Sent
from fairlead.wire.snapshot import ReleaseRoute


class Course:
    """Begins with the first event that can be gone on from.

    Args:
        release: Only replicas of this release say the same.
        engine: What they run on.
        wants_usage: The client asked for the usage event.
    """

    def __init__(
        self, release: str, engine: str, kind: str, meter: StreamMeter, *, wants_usage: bool
    ) -> None:
        self.release = release
        self.meter = meter
        self.sent = Sent()
        self._engine = engine
        self._kind = kind
        self._wants_usage = wants_usage
        self._asked = b""
        self._rest: Rest | None = None
        self._is_counted = False
        self._count: int | None = None

    @classmethod
    def of(
        cls, route: ReleaseRoute, kind: str, meter: StreamMeter, *, wants_usage: bool
    ) -> Course | None:
        """The course of a stream of this release; None when it could not be gone on with."""
        if route.continues is None or kind not in KINDS:
            return None
        return cls(route.digest, route.continues, kind, meter, wants_usage=wants_usage)

    @property
    def is_broken(self) -> bool:
        """Whether it broke, and is to be gone on with."""
        return self._rest is not None

    @property
    def body(self) -> bytes:
        """The request for the rest."""
        assert self._rest is not None
        return self._rest.body

    def broke(self, asked: bytes) -> bool:
        """It broke; whether it can be gone on with.

        Args:
            asked: The request as the engine had it first.
        """
        self.sent.settle()
        self._asked = asked
        self._is_counted = False
        self._count = None
        return self._plan(None)

    @property
    def count_question(self) -> bytes | None:
        """What to ask the engine first: how many tokens the text has. None when that is known.

        It is asked again with the white space behind it, if the last event had both.
        """
        rest = self._rest
        if rest is None or self._is_counted or not rest.text or rest.ends_with is not None:
            return None
        if self.sent.prompt_tokens is not None:
            return None
        space = "" if self._count is None else self.sent.mixed_space
        return question(rest.text + space, self._engine, rest.model)

    def counted(self, reading: Reading | None) -> bool:
        """The engine's answer; whether the stream can still be gone on with."""
        rest = self._rest
        if reading is None or rest is None:
            self._is_counted = True
            return rest is not None
        space = self.sent.mixed_space
        if rest.repeats and space and self._count is None:
            self._count = reading.tokens_in(rest.text)
            return True
        self._is_counted = True
        count = reading.tokens_in(rest.text if self._count is None else rest.text + space)
        # A last token with text and white space is said again in part; two tokens may have come in
        # one event, though.
        partial = int(count == self._count)
        of_text = count if self._count is None else self._count
        tokens = tokens_of(
            rest.text,
            self._engine,
            events=rest.tokens,
            counted=of_text - partial,
            has_stop=rest.has_stop,
        )
        return tokens is not None and self._plan((tokens, tokens + partial))

    def _plan(self, counted: tuple[int, int] | None) -> bool:
        try:
            self._rest = continued_body(self._asked, self._kind, self._engine, self.sent, counted)
        except NotContinuable:
            self._rest = None
        return self._rest is not None

    @property
    def end(self) -> bytes | None:
        """The end, when nothing else is missing."""
        if self._rest is None or self._rest.ends_with is None:
            return None
        if self._wants_usage and not self.sent.has_usage:
            return None
        return end_of(self.sent, self._kind, self._rest.ends_with)

    def relay_of_rest(self, owner: RelayOwner, head: AnswerHead, clock: Clock) -> StreamRelay:
        """Joins the next part to what was sent."""
        assert self._rest is not None
        return StreamRelay(
            owner,
            head,
            clock,
            hides_usage=not self._wants_usage,
            meter=self.meter,
            seam=Seam(self.sent, self._rest),
        )
