"""Looks for what guardrails are about in a text that comes in parts, in bounded time and memory.

Of what came before, as many characters are kept as a phrase may have, so that one that is split
over parts is found. A part is looked through in slices: `slices` gives them to whoever must not
spend long on one text. What nobody can look at (an answer that is to be JSON and has more than
`JSON_CHARS_MAX` characters or `JSON_ITEMS_MAX` items, a pattern of a foreign release that does not
compile) is a hit: a guard that cannot see does not let pass.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.injection import injection_sign
from fairlead.domain.json_schemas import BadSchema, fits
from fairlead.domain.patterns import BadPattern, found
from fairlead.domain.redaction import redactor

SLICE_CHARS = 7_000
"""With what is kept of the part before, no more than `injection_sign` looks at as a whole."""
WIDE_SLICE_CHARS = 1_000
"""The same where not all of it is ASCII: in plain form it can be six times as long."""
KEPT_CHARS = 512
JSON_CHARS_MAX = 128 * 1024
JSON_ITEMS_MAX = 5_000
"""More items than that take a schema too long."""
JSON_STEPS_MAX = 100_000
"""Looks that a schema may take at one answer: some tenths of a second."""
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


class Watch:
    """One guardrail on one text.

    Attributes:
        guardrail: Which it is.
        is_hit: Whether it has been hit.
    """

    __slots__ = ("_chars", "_kept", "_look", "_parts", "guardrail", "is_hit")

    def __init__(self, guardrail: Guardrail) -> None:
        self.guardrail = guardrail
        self.is_hit = False
        self._look = None if guardrail.schema else _look_of(guardrail)
        self._kept = ""
        self._chars = 0
        self._parts: list[str] = []

    def take(self, part: str) -> bool:
        """The next part of the text; whether there is a hit now for the first time."""
        if self.is_hit or not part:
            return False
        guardrail = self.guardrail
        self._chars += len(part)
        if guardrail.max_characters:
            self.is_hit = self._chars > guardrail.max_characters
        elif self._look is None:
            self.is_hit = self._chars > JSON_CHARS_MAX
            self._parts.append(part)
            if self.is_hit:
                self._parts.clear()
        else:
            self.is_hit = any(map(self._finds, slices(part)))
        return self.is_hit

    def end(self) -> bool:
        """The text is complete; whether there is a hit now for the first time."""
        if self.is_hit or self._look is not None:
            return False
        self.is_hit = bool(self.guardrail.schema) and not _fits(
            self.guardrail.schema, "".join(self._parts)
        )
        return self.is_hit

    def _finds(self, piece: str) -> bool:
        assert self._look is not None
        window = plain(self._kept + piece)
        self._kept = _SPACES.sub(" ", window)[-KEPT_CHARS:]  # Spaces fill no room that words need.
        return self._look(window)


def slices(text: str) -> Iterator[str]:
    """A text in pieces that are looked at one by one."""
    for piece in _cut(text, SLICE_CHARS):
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
def _look_of(guardrail: Guardrail) -> Look:
    if guardrail.pii:
        redact = redactor(guardrail.pii, ())
        return lambda text: redact(text) != text
    if guardrail.injection:
        return lambda text: any(map(injection_sign, _cut(text, SLICE_CHARS, KEPT_CHARS)))
    phrases = tuple(folded(phrase).strip() for phrase in guardrail.phrases)
    patterns = guardrail.patterns

    def denied(text: str) -> bool:
        if phrases:
            small = folded(text)
            if any(phrase in small for phrase in phrases):
                return True
        return any(_matches(pattern, text) for pattern in patterns)

    return denied


def _matches(pattern: str, text: str) -> bool:
    try:
        return found(pattern, text)
    except BadPattern:
        return True


def _fits(schema: str, text: str) -> bool:
    if sum(map(text.count, ",[{")) > JSON_ITEMS_MAX:
        return False
    try:
        answer = decode_json(text.encode(errors="surrogatepass"), object)
        return fits(schema.encode(errors="replace"), answer, JSON_STEPS_MAX)
    except (msgspec.DecodeError, BadSchema, ValueError):  # a number of too many digits, too
        return False
