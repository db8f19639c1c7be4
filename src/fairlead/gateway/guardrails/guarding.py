"""The guardrails of one request: its prompt before it is sent, its answer as it comes.

A prompt is checked in slices, one in each turn of the event loop, so that a long one holds up
nobody. An answer's text is checked before it is passed on; of what came before, only a bounded end
is kept. The guardrails are those of the release that answers: of another one than the request was
assigned to, if that stands in for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

import msgspec

from fairlead.domain.guarding import Watch, slices
from fairlead.domain.guardrail import Guardrail, On
from fairlead.gateway.bulkhead import Bulkhead
from fairlead.gateway.errors import Refusal
from fairlead.gateway.guardrails.said import UNREADABLE, Said, answered, asked, streamed
from fairlead.gateway.guardrails.withheld import answer_ended, prompt_refused, withheld
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.request_body import EMBEDDINGS
from fairlead.wire.snapshot import ReleaseRoute

CHOICES_MAX = 128
"""Answers to one request that are told apart; further ones are looked at as one."""

Unseen = tuple[int, str, str]
UNGUARDED: Unseen = (-1, "", "")
"""What a record says where there was nothing to look for."""


class Guarding:
    """See the head of this file.

    Args:
        owner: The request itself.

    Attributes:
        blocked_by: The guardrail that ended the request; empty for none.
    """

    __slots__ = ("_answer", "_call", "_checked", "_hits", "_next", "_owner", "blocked_by")

    def __init__(self, call: Call, owner: Bulkhead) -> None:
        self._call = call
        self._owner = owner
        self._hits: dict[str, None] = {}
        self._checked: set[tuple[Guardrail, ...]] = set()
        self._next: asyncio.Handle | None = None
        self._answer: _Answer | None = None
        self.blocked_by = ""

    @property
    def found(self) -> Unseen:
        """For the record: how many guardrails were hit, which, and which one blocked."""
        return len(self._hits), ",".join(self._hits), self.blocked_by

    def prompt(self, route: ReleaseRoute | None, then: Callable[[Refusal | None], None]) -> None:
        """Check the prompt by a release's guardrails, at once if it is short.

        Args:
            then: Is told why it must not be sent, or None.
        """
        self._step(self._look(route), then)

    def prompt_at_once(self, route: ReleaseRoute) -> Refusal | None:
        """The same without a pause, for a release that stands in for the one that was checked."""
        return next((refusal for refusal in self._look(route) if refusal is not None), None)

    def close(self) -> None:
        """Check no further."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def begin_answer(self, route: ReleaseRoute | None) -> None:
        """An answer of this release is about to come."""
        guardrails = _on("answer", route) if self._call.kind != EMBEDDINGS else ()
        if self._answer is None or self._answer.guardrails != guardrails:
            self._answer = _Answer(guardrails)

    def whole(self, body: bytes | None) -> bytes | None:
        """A whole plain answer, or None for one that is too large to be held.

        Returns what the client gets in its place; None for the answer itself.
        """
        answer = self._answer
        if answer is None or not answer.guardrails:
            return None
        if body is None:
            answer.hit_all()
        else:
            try:
                answer.take(answered(body))
                answer.end()
            except msgspec.DecodeError:
                answer.hit_all()
        blocking = self._note(answer.hits())
        if blocking is None:
            return None
        return withheld(self._call.kind, blocking.name, body or b"", self._call.request_id)

    def sent(self, data: bytes, *, is_last: bool = False) -> Refusal | None:
        """Whole events of a stream that are about to be passed on; why they must not be."""
        answer = self._answer
        if answer is None or not answer.guardrails:
            return None
        answer.take(streamed(data))
        if is_last:
            answer.end()
        blocking = self._note(answer.hits())
        return None if blocking is None else answer_ended(blocking.name)

    def _note(self, hits: Iterable[Guardrail]) -> Guardrail | None:
        """Keep what was hit; the first of it that blocks."""
        blocking: Guardrail | None = None
        for guardrail in hits:
            self._hits[guardrail.name] = None
            if guardrail.action == "block" and blocking is None:
                blocking = guardrail
                self.blocked_by = guardrail.name
        return blocking

    def _look(self, route: ReleaseRoute | None) -> Iterator[Refusal | None]:
        """None between two slices; in the end a refusal, where the prompt must not pass."""
        guardrails = _on("prompt", route)
        if not guardrails or guardrails in self._checked:
            return
        self._checked.add(guardrails)
        watches = [Watch(guardrail) for guardrail in guardrails]
        try:
            said = asked(self._call.body)
        except msgspec.DecodeError:
            said = UNREADABLE  # Some engine may read more than can be read here.
        once = [watch for watch in watches if not watch.guardrail.max_characters]
        looks = [
            *((watches, piece) for piece in slices(said.text)),
            *((once, piece) for piece in slices(said.again)),
        ]
        for number, (looking, piece) in enumerate(looks or [(watches, "")]):
            if number:
                yield None
            blocking = self._note(
                watch.guardrail for watch in looking if said.has_tokens or watch.take(piece)
            )
            if blocking is not None:
                yield prompt_refused(blocking.name)
                return

    def _step(self, look: Iterator[Refusal | None], then: Callable[[Refusal | None], None]) -> None:
        self._next = None
        with self._owner:
            for refusal in look:
                if refusal is None:
                    self._next = asyncio.get_running_loop().call_soon(self._step, look, then)
                else:
                    then(refusal)
                return
            then(None)


class _Answer:
    """One answer, with all its choices."""

    def __init__(self, guardrails: tuple[Guardrail, ...]) -> None:
        self.guardrails = guardrails
        self._choices: dict[int, _Choice] = {}
        self._is_hit: set[str] = set()
        self._fresh: list[Guardrail] = []

    def take(self, said: Iterable[Said]) -> None:
        for part in said:
            number = part.choice if 0 <= part.choice < CHOICES_MAX else CHOICES_MAX
            choice = self._choices.get(number)
            if choice is None:
                choice = self._choices[number] = _Choice(self.guardrails)
            self._add(choice.take(part))

    def end(self) -> None:
        for choice in self._choices.values() or [_Choice(self.guardrails)]:
            self._add(choice.end())

    def hit_all(self) -> None:
        """It could not be looked at."""
        self._add(self.guardrails)

    def hits(self) -> list[Guardrail]:
        """What was hit since this was asked last, each guardrail once."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _add(self, hits: Iterable[Guardrail]) -> None:
        for guardrail in hits:
            if guardrail.name not in self._is_hit:
                self._is_hit.add(guardrail.name)
                self._fresh.append(guardrail)


class _Choice:
    def __init__(self, guardrails: tuple[Guardrail, ...]) -> None:
        self._watches = [Watch(guardrail) for guardrail in guardrails]
        # Words are looked at by themselves: what engines add to each part must not cut them up.
        self._beside = [
            Watch(each) for each in guardrails if not (each.schema or each.max_characters)
        ]
        self._calls_tool = self._has_words = False

    def take(self, part: Said) -> list[Guardrail]:
        self._calls_tool = self._calls_tool or part.calls_tool
        self._has_words = self._has_words or bool(part.words)
        hits = []
        for watch in self._watches:
            text = part.words + part.beside if watch.guardrail.max_characters else part.words
            if watch.take(text):
                hits.append(watch.guardrail)
        hits += [watch.guardrail for watch in self._beside if watch.take(part.beside)]
        return hits

    def end(self) -> list[Guardrail]:
        if self._calls_tool and not self._has_words:
            return []
        return [watch.guardrail for watch in self._watches if watch.end()]


def _on(on: On, route: ReleaseRoute | None) -> tuple[Guardrail, ...]:
    if route is None:
        return ()
    return tuple(guardrail for guardrail in route.guardrails if guardrail.on == on)
