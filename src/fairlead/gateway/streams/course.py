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
from fairlead.wire.snapshot import LLAMA_CPP, ReleaseRoute


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
        self._is_alone = False

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
        self._is_alone = False
        rest = self._rest if self._plan(None) else None
        if rest is None:
            return False
        if rest.text and rest.is_greedy and rest.is_penalised and rest.ends_with is None:
            self._is_counted = True
            return self._plan((0, 0), 0)  # All of it is said again, and counted as it was.
        return True

    @property
    def count_question(self) -> bytes | None:
        """What to ask the engine first: how it reads the text. None when that is known.

        It is asked again with the white space behind it, if the last event had both, or without
        what stands before it, if it told tokens by their numbers only.
        """
        rest = self._rest
        if rest is None or self._is_counted or not rest.text or rest.ends_with is not None:
            return None
        if self.sent.prompt_tokens is not None:
            return None
        lead = "" if self._is_alone else rest.lead
        space = "" if self._count is None else self.sent.mixed_space
        return question(lead + rest.text + space, self._engine, rest.model)

    def counted(self, reading: Reading | None) -> bool:
        """The engine's answer; whether the stream can still be gone on with."""
        rest = self._rest
        if rest is None:
            return False
        again = self._to_be_said_again(reading, rest)
        if again is not None:
            self._is_counted = True
            again_from, tokens = again
            return self._plan((tokens, tokens), again_from)
        if reading is None:
            self._is_counted = True
            return True
        if rest.lead and reading.size is None and not self._is_alone:
            self._is_alone = True  # Which of the numbers are the text's cannot be told.
            return True
        space = self.sent.mixed_space
        if rest.repeats and space and self._count is None:
            self._count = reading.tokens_in(rest.text)
            return True
        self._is_counted = True
        lead = 0 if self._is_alone else len(rest.lead.encode())
        count = reading.tokens_in(rest.text if self._count is None else rest.text + space, lead)
        # A last token with text and white space is said again in part; two tokens may have come in
        # one event, though.
        partial = int(count == self._count)
        of_text = (count if self._count is None else self._count) - partial
        said = tokens_of(
            rest.text,
            self._engine,
            events=rest.tokens,
            counted=of_text,
            has_stop=rest.has_stop,
        )
        return said is not None and self._plan((said, min(said, of_text) + partial))

    def _to_be_said_again(self, reading: Reading | None, rest: Rest) -> tuple[int, int] | None:
        """From where on (bytes, and tokens before) the text is better said again than read.

        What was said in other tokens than it is read in would be gone on with in another way. Asked
        the same again, an engine that leaves nothing to chance says the same again, in its tokens.
        One that does not tell how it reads a text says all of it again.
        """
        if self._engine != LLAMA_CPP or not rest.is_greedy:
            return None
        text, lead = rest.text.encode(), len(rest.lead.encode())
        alike = None if reading is None else reading.as_said(text, self.sent.ends, lead=lead)
        if alike is None:
            return 0, 0
        return None if alike[0] == len(text) else alike

    def _plan(self, counted: tuple[int, int] | None, again_from: int | None = None) -> bool:
        try:
            self._rest = continued_body(
                self._asked, self._kind, self._engine, self.sent, counted, again_from
            )
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
