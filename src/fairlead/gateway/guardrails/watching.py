"""What is looked at in a prompt and in an answer: which text by which guardrail, piece by piece.

Whoever goes through the looks may pause between any two: each takes bounded time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from fairlead.domain.guarding import KEPT_CHARS, SLICE_CHARS, WIDE_SLICE_CHARS, Watch, slices
from fairlead.domain.guardrail import Guardrail
from fairlead.gateway.guardrails.said import ASIDE, PART, Asked, Said, joined

CHOICES_MAX = 128
"""Answers to one request that are told apart; further ones are looked at as one."""
_WIDER = SLICE_CHARS // WIDE_SLICE_CHARS

Hits = list[Guardrail]
Looks = Generator[Hits, None, Hits]
"""Yields what was hit so far where more is to be looked at; returns what the last look hit."""


def prompt_looks(guardrails: tuple[Guardrail, ...], said: Asked) -> Looks:
    """Look through a prompt."""
    if said.has_tokens:
        return list(guardrails)
    watches = [Watch(guardrail) for guardrail in guardrails]
    once = [watch for watch in watches if not watch.guardrail.max_characters]
    hits: Hits | None = None
    for looking, text in ((watches, said.text), (once, said.again)):
        for piece in slices(text):
            if hits is not None:
                yield hits
            hits = [watch.guardrail for watch in looking if watch.take(piece)]
    return hits or []


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
        spent, hits = 0, Hits()
        for part in joined(said):
            by_form, texts = self._choice(part.choice).take(part)
            hits += by_form
            for watches, text in texts:
                for piece in slices(text):
                    cost = KEPT_CHARS + len(piece) * (1 if piece.isascii() else _WIDER)
                    if spent and spent + cost > SLICE_CHARS:
                        yield self._new(hits)
                        spent, hits = 0, []
                    spent += cost
                    hits += [watch.guardrail for watch in watches if watch.take(piece)]
        if is_last:
            choices = list(self._choices.values()) or [_Choice(self.guardrails)]
            for number, choice in enumerate(choices):
                if number:
                    yield self._new(hits)
                    hits = []
                hits += choice.end()
        return self._new(hits)

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

    def end(self) -> Hits:
        """It is complete."""
        if self._calls_tool and self._words_from.source is None:
            return []
        return [watch.guardrail for watch in self._forms if watch.end()]

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
