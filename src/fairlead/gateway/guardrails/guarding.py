"""The guardrails of one request: its prompt before it is sent, its answer before it is passed on.

An answer that is looked at comes through here on its way from its relay to the request. What is
short is looked at at once; a long text takes turns with those of others (`turns`), and so long what
comes behind it is held, in order, and no more is read. The guardrails are those of the release that
answers: of another one than the request was assigned to, if that stands in for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import msgspec

from fairlead.domain.guardrail import Guardrail, On
from fairlead.gateway.errors import Refusal
from fairlead.gateway.guardrails.said import Said, answered, streamed
from fairlead.gateway.guardrails.turns import Turns
from fairlead.gateway.guardrails.watching import Answer, Looks, prompt_looks
from fairlead.gateway.guardrails.withheld import answer_ended, prompt_refused, withheld
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.relay import RelayOwner
from fairlead.gateway.requests.request_body import EMBEDDINGS
from fairlead.gateway.requests.usage import UNKNOWN, Usage
from fairlead.wire.snapshot import ReleaseRoute

Unseen = tuple[int, str, str]
UNGUARDED: Unseen = (-1, "", "")
"""What a record says where there was nothing to look for."""
_Then = Callable[[Guardrail | None], None]
"""Is told which guardrail blocks, if one does."""


class Guarded(RelayOwner, AbstractContextManager[None], Protocol):
    """The request. Its context ends it when something of ours breaks (`Bulkhead`)."""

    @property
    def has_error(self) -> bool:
        """Whether the stream that comes in tells of an error: such a one is not complete."""

    def refuse(self, refusal: Refusal) -> None:
        """It must not go on."""

    def flow(self) -> None:
        """Read on from the replica, or no more while `is_looking`."""

    def end_with(self, end: bytes) -> None:
        """A stream that broke lacks nothing but this."""


class Guarding:
    """See the head of this file.

    Attributes:
        is_looking: A long text is looked at.
        blocked_by: The guardrail that ended the request; empty for none.
    """

    __slots__ = (
        "_add_step", "_answer", "_call", "_checked", "_held", "_hits", "_is_over", "_owner",
        "blocked_by", "is_looking",
    )  # fmt: skip

    def __init__(self, call: Call, owner: Guarded, turns: Turns, *, is_copy: bool = False) -> None:
        """
        Args:
            is_copy: No client waits for it.
        """
        self._call = call
        self._owner = owner
        self._add_step = turns.add_spare if is_copy else turns.add
        self._hits: dict[str, None] = {}
        self._checked: set[tuple[Guardrail, ...]] = set()
        self._answer: Answer | None = None
        self._held: deque[Callable[[], None]] = deque()
        self._is_over = False
        self.is_looking = False
        self.blocked_by = ""

    @property
    def found(self) -> Unseen:
        """For the record: how many guardrails were hit, which, and which one blocked."""
        return len(self._hits), ",".join(self._hits), self.blocked_by

    def close(self) -> None:
        """The request is over: nothing more is looked at or passed on."""
        self._is_over = True
        self.is_looking = False
        self._held.clear()

    # The prompt

    def prompt(self, route: ReleaseRoute | None, then: Callable[[Refusal | None], None]) -> None:
        """Look at the prompt by a release's guardrails, unless that was done.

        Args:
            then: Is told why it must not be sent, or None.
        """
        guardrails = _on("prompt", route)
        if not guardrails or guardrails in self._checked:
            then(None)
            return
        self._checked.add(guardrails)

        def checked(blocking: Guardrail | None) -> None:
            then(None if blocking is None else prompt_refused(blocking.name))

        self._look(prompt_looks(guardrails, self._call.body), checked)

    # The answer

    def expect(self, route: ReleaseRoute | None, status: int) -> None:
        """An answer of this release is about to come."""
        is_looked_at = self._call.kind != EMBEDDINGS and status < 400
        guardrails = _on("answer", route) if is_looked_at else ()
        if not guardrails:
            self._answer = None
        elif self._answer is None or self._answer.guardrails != guardrails:
            self._answer = Answer(guardrails)

    def holds(self, event: Callable[[], None]) -> bool:
        """Whether something is held up by a look; this comes behind it, then."""
        if self.is_looking:
            self._held.append(event)
        return self.is_looking

    # relay.RelayOwner

    def begin_answer(self, head: AnswerHead, length: int | None) -> None:
        answer = self._answer
        if answer is not None and not head.is_event_stream:  # It is too large to be held.
            self._answer = None
            blocking = self._note(answer.unread())
            if blocking is not None:
                self._owner.whole_answer(head, self._withheld(blocking, b""), UNKNOWN)
                return
        self._owner.begin_answer(head, length)

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        if self._answer is None:
            self._owner.pass_on(data, chunks)
        else:
            self._check(streamed(data), partial(self._owner.pass_on, data, chunks))

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None:
        answer = self._answer
        if answer is None:
            self._owner.whole_answer(head, body, usage)
            return

        def checked(blocking: Guardrail | None) -> None:
            given = body if blocking is None else self._withheld(blocking, body)
            self._owner.whole_answer(head, given, usage)

        try:
            said = answered(body)
        except msgspec.DecodeError:
            checked(self._note(answer.unread()))
        else:
            self._look(answer.looks(said, is_last=True), checked)

    def last_part(self, data: bytes, usage: Usage) -> None:
        # An answer that the engine broke off is not complete: only what it said is looked at.
        is_last = not self._owner.has_error
        self._check(streamed(data), partial(self._owner.last_part, data, usage), is_last=is_last)

    def end_with(self, end: bytes) -> None:
        """See `Guarded.end_with`."""
        self._check(streamed(end), partial(self._owner.end_with, end), is_last=True)

    def answer_broke(self, reason: str) -> None:
        self._owner.answer_broke(reason)

    def engine_failed(self) -> bool:
        return self._owner.engine_failed()

    def _check(
        self, said: Iterable[Said], pass_it: Callable[[], None], *, is_last: bool = False
    ) -> None:
        """Look at whole events of a stream that are about to be passed on."""
        if self._is_over:
            return
        if self.is_looking:
            self._held.append(partial(self._check, said, pass_it, is_last=is_last))
            return
        if self._answer is None:
            pass_it()
            return

        def checked(blocking: Guardrail | None) -> None:
            if blocking is None:
                pass_it()
            else:
                self._owner.refuse(answer_ended(blocking.name))

        self._look(self._answer.looks(said, is_last=is_last), checked)

    def _withheld(self, blocking: Guardrail, body: bytes) -> bytes:
        return withheld(self._call.kind, blocking.name, body, self._call.request_id)

    # Looking

    def _look(self, looks: Looks, then: _Then) -> None:
        """At once, if that is one look; else in turns."""
        if self._look_once(looks, then):
            self.is_looking = True
            self._owner.flow()
            self._add_step(self._call.key_id, partial(self._look_on, looks, then))

    def _look_once(self, looks: Looks, then: _Then) -> bool:
        """Whether there is more to look at."""
        try:
            hits, has_more = next(looks), True
        except StopIteration as end:
            hits, has_more = end.value, False
        blocking = self._note(hits)
        if blocking is None and has_more:
            return True
        self.is_looking = False
        then(blocking)
        return False

    def _look_on(self, looks: Looks, then: _Then) -> bool:
        """The same later; then comes what was held meanwhile."""
        if self._is_over:
            return False
        with self._owner:
            if self._look_once(looks, then):
                return True
            while self._held and not self.is_looking:
                self._held.popleft()()
            self._owner.flow()
        return False

    def _note(self, hits: Iterable[Guardrail]) -> Guardrail | None:
        """Keep what was hit; the first of it that blocks."""
        blocking: Guardrail | None = None
        for guardrail in hits:
            self._hits[guardrail.name] = None
            if guardrail.action == "block" and blocking is None:
                blocking = guardrail
                self.blocked_by = guardrail.name
        return blocking


def _on(on: On, route: ReleaseRoute | None) -> tuple[Guardrail, ...]:
    if route is None:
        return ()
    return tuple(guardrail for guardrail in route.guardrails if guardrail.on == on)
