"""What is looked at in a prompt and in an answer: which text by which guardrail, piece by piece.

Whoever goes through the looks may pause between any two: each takes bounded time. Looks that cost
little together are one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

import msgspec

from fairlead.domain.guarding import LOOK_COST, Watch, slices
from fairlead.domain.guarding import Looks as Costs
from fairlead.domain.guardrail import Guardrail
from fairlead.gateway.guardrails.said import (
    ASIDE,
    PART,
    UNREAD,
    UNREADABLE,
    Asked,
    Said,
    asking,
    joined,
)

CHOICES_MAX = 128
"""Answers to one request that are told apart; further ones are looked at as one."""

Hits = list[Guardrail]
Looks = Generator[Hits, None, Hits]
"""Yields what was hit so far where more is to be looked at; returns what the last look hit."""


class _Looking:
    """Lets watches look, and pauses before too much is spent at once.

    Args:
        report: Makes of what was hit what a pause tells of it.

    Attributes:
        hits: Not told yet.
    """

    def __init__(self, report: Callable[[Hits], Hits]) -> None:
        self._report = report
        self._spent = 0
        self.hits = Hits()

    def at(
        self, watches: Iterable[Watch], costs_of: Callable[[Watch], Costs]
    ) -> Generator[Hits, None, None]:
        """Let each of them look at one thing; what hits it is told when all of them have looked."""
        hits = Hits()
        for watch in watches:
            was_hit = watch.is_hit
            for cost in costs_of(watch):
                if self._spent and self._spent + cost > LOOK_COST:
                    told, self.hits = self.hits, Hits()
                    yield self._report(told)
                    self._spent = 0
                self._spent += cost
            if watch.is_hit and not was_hit:
                hits.append(watch.guardrail)
        self.hits += hits

    def through(self, watches: list[Watch], text: str) -> Generator[Hits, None, None]:
        """The same with a text, piece by piece."""
        for piece in slices(text):
            yield from self.at(watches, _taking(piece))


def _taking(piece: str) -> Callable[[Watch], Costs]:
    return lambda watch: watch.looks(piece)


def prompt_looks(guardrails: tuple[Guardrail, ...], body: bytes) -> Looks:
    """Look through the prompt in a request's body."""
    try:
        said: Asked = yield from _asked(body)
    except msgspec.DecodeError:
        said = UNREADABLE  # Some engine may read more than can be read here.
    if said.has_tokens:
        return list(guardrails)
    watches = [Watch(guardrail) for guardrail in guardrails]
    once = [watch for watch in watches if not watch.guardrail.max_characters]
    looking = _Looking(list)
    yield from looking.through(watches, said.text)
    yield from looking.through(once, said.again)
    return looking.hits


def _asked(body: bytes) -> Generator[Hits, None, Asked]:
    """What very many parts are put together from takes long by itself."""
    parts = asking(body)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            said: Asked = end.value
            return said
        yield []


class Answer:
    """One answer, with all its choices."""

    def __init__(self, guardrails: tuple[Guardrail, ...]) -> None:
        self.guardrails = guardrails
        self._choices: dict[int, _Choice] = {}
        self._hit: set[str] = set()

    def looks(self, said: Iterable[Said], *, is_last: bool = False) -> Looks:
        """Look at what it says next.

        Args:
            is_last: It is complete with this.
        """
        looking = _Looking(self._new)
        for part in joined(said):
            if part.source == UNREAD:
                looking.hits += self.guardrails
                continue
            by_form, texts = self._choice(part.choice).take(part)
            looking.hits += by_form
            for watches, text in texts:
                yield from looking.through(watches, text)
        if is_last:
            for choice in list(self._choices.values()) or [_Choice(self.guardrails)]:
                yield from looking.at(choice.at_end, Watch.last_looks)
        return self._new(looking.hits)

    def unread(self) -> Hits:
        """It cannot be looked at: that hits each of them."""
        return self._new(self.guardrails)

    def _choice(self, index: int) -> _Choice:
        number = index if 0 <= index < CHOICES_MAX else CHOICES_MAX
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice(self.guardrails)
        return choice

    def _new(self, hits: Iterable[Guardrail]) -> Hits:
        """Each guardrail is hit once; in the order in which they are declared."""
        names = {guardrail.name for guardrail in hits} - self._hit
        self._hit |= names
        return [guardrail for guardrail in self.guardrails if guardrail.name in names]


class _Choice:
    """One of several answers.

    Its words are looked at by themselves: what engines add to each part must not cut them up.
    """

    def __init__(self, guardrails: tuple[Guardrail, ...]) -> None:
        self._totals = [Watch(each) for each in guardrails if each.max_characters]
        self._forms = [Watch(each) for each in guardrails if each.schema]
        self._others = [each for each in guardrails if not (each.max_characters or each.schema)]
        self._words, self._beside, self._aside = self._fresh(), self._fresh(), self._fresh()
        self._words_from, self._beside_from = _First(), _First()
        self._calls_tool = False

    def take(self, part: Said) -> tuple[Hits, list[tuple[list[Watch], str]]]:
        """What this part hits by its size or form, and which texts are to be looked at by what."""
        self._calls_tool = self._calls_tool or part.calls_tool
        has_words = self._words_from.counts(part.words, part.source)
        has_beside = self._beside_from.counts(part.beside, part.source)
        counted = (part.words if has_words else "") + (part.beside if has_beside else "")
        hits = [watch.guardrail for watch in self._totals if watch.take(counted)]
        if has_words:
            hits += [watch.guardrail for watch in self._forms if watch.take(part.words)]
        if not self._others:
            return hits, []
        # What is said once more is the whole of it; all else goes on with what was before it.
        more = self._aside if part.source in (PART, ASIDE) else self._fresh()
        words = self._words if has_words else more
        beside = self._beside if has_beside else more
        return hits, [(words, part.words), (beside, part.beside)]

    @property
    def at_end(self) -> list[Watch]:
        """Those that look at it once it is complete."""
        if self._calls_tool and self._words_from.source is None:
            return []
        return self._forms

    def _fresh(self) -> list[Watch]:
        return [Watch(guardrail) for guardrail in self._others]


class _First:
    """Of several sources that say the same, the one that said it first: that one counts.

    Attributes:
        source: None as long as nothing was said.
    """

    __slots__ = ("source",)

    def __init__(self) -> None:
        self.source: str | None = None

    def counts(self, text: str, source: str) -> bool:
        """Whether this text counts."""
        if not text or source == ASIDE:
            return False
        if self.source is None:
            self.source = source
        return source == self.source
