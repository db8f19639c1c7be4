"""Looks for what guardrails are about in a text that comes in parts, in bounded time and memory.

Of what came before, as many characters are kept as a phrase may have, so that one that is split
over parts is found. A part is looked through in slices, and whoever goes through them may pause
before each look: it is told what that will cost. What nobody can look at (an answer that is to be
JSON and has more than `JSON_CHARS_MAX` characters or `JSON_ITEMS_MAX` items, a pattern of a foreign
release that does not compile) is a hit: a guard that cannot see does not let pass.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.injection import injection_sign
from fairlead.domain.json_fitting import fitting
from fairlead.domain.json_schemas import BadSchema
from fairlead.domain.pattern_size import size_of
from fairlead.domain.patterns import BadPattern, found
from fairlead.domain.redaction import redactor

SLICE_CHARS = 7_000
"""With what is kept of the part before, no more than `injection_sign` looks at as a whole."""
WIDE_SLICE_CHARS = 1_000
"""The same where not all of it is ASCII (in plain form it can be six times as long), and for looks
that take long."""
KEPT_CHARS = 512
LOOK_COST = KEPT_CHARS + SLICE_CHARS
"""What a usual look at a whole slice costs: one for each character; some milliseconds at most."""
JSON_CHARS_MAX = 128 * 1024
JSON_ITEMS_MAX = 5_000
"""More items than that take a schema too long."""
JSON_STEPS_MAX = 100_000
"""Steps that a schema may take at one answer: some hundredths of a second in all."""
_WIDER = SLICE_CHARS // WIDE_SLICE_CHARS
_PLACES = 50
"""Places of a pattern that take as long as a usual look."""
_PHRASE_CHARS = 1_000
"""The same of phrases, all together."""
_LONG = 4
"""A look that takes so many times as long gets small slices."""
_MARKS_MAX = 8
_LIGATURES = dict.fromkeys((0xFDFA, 0xFDFB), " ")
"""Whole phrases in one letter, which would become 18 and 8: a flood of them would take long."""
_SPACES = re.compile(r"\s+")
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
"""What shows nothing, and is no format character."""

Look = Callable[[str], bool]
"""Whether there is a hit in this piece of a text."""
Looks = Generator[int, None, None]
"""Says before each look what it will cost."""


class _Weighed(NamedTuple):
    """A look, and how many times as long as a usual one it takes."""

    look: Look
    work: int


class Watch:
    """One guardrail on one text.

    Attributes:
        guardrail: Which it is.
        is_hit: Whether it has been hit.
    """

    __slots__ = ("_chars", "_kept", "_looks", "_parts", "_slice_chars", "guardrail", "is_hit")

    def __init__(self, guardrail: Guardrail) -> None:
        self.guardrail = guardrail
        self.is_hit = False
        self._looks = () if guardrail.schema else _looks_of(guardrail)
        is_long = any(each.work > _LONG for each in self._looks)
        self._slice_chars = WIDE_SLICE_CHARS if is_long else SLICE_CHARS
        self._kept = ""
        self._chars = 0
        self._parts: list[str] = []

    def take(self, part: str) -> bool:
        """The next part of the text; whether there is a hit now for the first time."""
        was_hit = self.is_hit
        for _ in self.looks(part):
            pass
        return self.is_hit and not was_hit

    def looks(self, part: str) -> Looks:
        """The same with a pause before each look; `is_hit` says what came of them."""
        if self.is_hit or not part:
            return
        guardrail = self.guardrail
        self._chars += len(part)
        if guardrail.max_characters:
            self.is_hit = self._chars > guardrail.max_characters
        elif guardrail.schema:
            self.is_hit = self._chars > JSON_CHARS_MAX
            self._parts.append(part)
            if self.is_hit:
                self._parts.clear()
        else:
            for piece in slices(part, self._slice_chars):
                self.is_hit = yield from self._looks_at(piece)
                if self.is_hit:
                    return

    def end(self) -> bool:
        """The text is complete; whether there is a hit now for the first time."""
        was_hit = self.is_hit
        for _ in self.last_looks():
            pass
        return self.is_hit and not was_hit

    def last_looks(self) -> Looks:
        """The same with pauses, as `looks`."""
        if self.is_hit or not self.guardrail.schema:
            return
        text = "".join(self._parts)
        self._parts.clear()
        yield KEPT_CHARS + min(SLICE_CHARS, len(text))
        self.is_hit = not (yield from _fits(self.guardrail.schema, text))

    def _looks_at(self, piece: str) -> Generator[int, None, bool]:
        chars = len(self._kept) + len(piece) * (1 if piece.isascii() else _WIDER)
        window = plain(self._kept + piece)
        self._kept = _SPACES.sub(" ", window)[-KEPT_CHARS:]  # Spaces fill no room that words need.
        for look, work in self._looks:
            yield chars * work
            if look(window):
                return True
        return False


def slices(text: str, chars: int = SLICE_CHARS) -> Iterator[str]:
    """A text in pieces of so many characters at most that are looked at one by one."""
    for piece in _cut(text, chars):
        if piece.isascii():
            yield piece
        else:
            yield from _cut(piece, WIDE_SLICE_CHARS)


def _cut(text: str, size: int, more: int = 0) -> Iterator[str]:
    """Pieces of a size, each with so many characters more of what follows it."""
    return (text[at : at + size + more] for at in range(0, len(text), size))


def plain(text: str) -> str:
    """Without what hides words: wide and styled letters, letters of no width, half characters."""
    if text.isascii():
        return text
    whole = text.encode(errors="replace").decode()
    letters = _without_runs_of_marks(whole).translate(_LIGATURES)
    folded = unicodedata.normalize("NFKC", letters)
    seen = "".join(letter for letter in folded if unicodedata.category(letter) != "Cf")
    return _UNSEEN.sub("", seen)


def _without_runs_of_marks(text: str) -> str:
    """At most some marks on each letter: to put many into order takes time quadratic in them."""
    kept: list[str] = []
    run = 0
    for letter in text:
        run = run + 1 if unicodedata.combining(letter) else 0
        if run <= _MARKS_MAX:
            kept.append(letter)
    return "".join(kept)


def folded(text: str) -> str:
    """Small letters and single spaces, as phrases are compared."""
    return _SPACES.sub(" ", plain(text).casefold())


@functools.lru_cache(maxsize=256)
def _looks_of(guardrail: Guardrail) -> tuple[_Weighed, ...]:
    if guardrail.pii:
        redact = redactor(guardrail.pii, ())
        return (_Weighed(lambda text: redact(text) != text, 1),)
    if guardrail.injection:
        cut = functools.partial(_cut, size=SLICE_CHARS, more=KEPT_CHARS)
        return (_Weighed(lambda text: any(map(injection_sign, cut(text))), 1),)
    looks = [
        _Weighed(functools.partial(_matches, pattern), 1 + size_of(pattern).places // _PLACES)
        for pattern in guardrail.patterns
    ]
    phrases = tuple(folded(phrase).strip() for phrase in guardrail.phrases)
    if phrases:
        work = 1 + sum(map(len, phrases)) // _PHRASE_CHARS
        looks.insert(0, _Weighed(functools.partial(_has_one_of, phrases), work))
    return tuple(looks)


def _has_one_of(phrases: tuple[str, ...], text: str) -> bool:
    small = folded(text)
    return any(phrase in small for phrase in phrases)


def _matches(pattern: str, text: str) -> bool:
    try:
        return found(pattern, text)
    except BadPattern:
        return True


def _fits(schema: str, text: str) -> Generator[int, None, bool]:
    """Whether an answer fits; says before each further look what it will cost."""
    if sum(map(text.count, ",[{")) > JSON_ITEMS_MAX:
        return False
    try:
        answer = decode_json(text.encode(errors="surrogatepass"), object)
        check = fitting(schema.encode(errors="replace"), answer, JSON_STEPS_MAX)
        while True:
            try:
                next(check)
            except StopIteration as end:
                return bool(end.value)
            yield LOOK_COST
    except (msgspec.DecodeError, BadSchema, ValueError):  # a number of too many digits, too
        return False
