"""How large a regular expression becomes when it is compiled, told from its text. Pure.

The engine of `patterns` matches in time linear in the text, whatever the pattern: but that time is
also linear in the pattern's *places*, the letters and classes that it has once its counted
repetitions are written out (`(ab){20}` has 40), and so is its memory, in which a class of Unicode
such as `\\w` takes as much as hundreds of letters. Neither shows in the length of the text.

This is an estimate, on the high side (`tests/domain/test_pattern_size.py` holds it against the
engine): what it cannot read counts as letters.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

LETTER_BYTES = 96
ANY_CASE = 3
"""A letter whose case does not matter is as large as so many."""
ANY_BYTES = 1_024
"""`.`, and a set of letters that are not all ASCII, or that is of all but some letters."""
CLASS_BYTES = {"d": 16 * 1_024, "s": 2_048, "w": 64 * 1_024, "p": 64 * 1_024}
"""By the letter of the escape, a small one."""
_IGNORES_CASE = re.compile(r"\(\?[A-Za-z]*i")
_COUNT = re.compile(r"\{\s*(\d+)\s*(?:,\s*(\d*)\s*)?\}")
_GROUP = re.compile(r"\(\?(?:P?<[^>]*>|[A-Za-z-]*:)")
_FLAGS = re.compile(r"\(\?[A-Za-z-]*\)")
_NAMED = re.compile(r"[pP](?:\{[^}]*\}|.)?", re.DOTALL)
_NUMBER = re.compile(r"[xuU](?:\{[^}]*\}|[0-9A-Fa-f]{2,8})")
_NO_LETTERS = frozenset("bBAzZ<>")
_COUNT_MAX = 1_000_000
PLACES_MAX = 1_000
"""What is declared may have no more: the time of a look is linear in them."""
BYTES_MAX = 4 * 1024 * 1024
"""Nor may one take up more."""
SMALLER = "fewer counts such as {1,40}, or [a-z0-9] in the place of \\w, take up less"


class PatternSize(NamedTuple):
    """See the head of this file.

    Attributes:
        places: Letters and classes, each as often as it may be repeated by a count.
        bytes: About what it takes up, compiled.
    """

    places: int
    bytes: int


_NOTHING = PatternSize(0, 0)


@functools.lru_cache(maxsize=1024)
def size_of(pattern: str) -> PatternSize:
    """The size of a pattern."""
    return _Reader(pattern).read()


def size_problem(pattern: str) -> str:
    """Why a pattern is too large to be declared; empty if it is not."""
    size = size_of(pattern)
    if size.places > PLACES_MAX:
        return (
            f"a pattern of {size.places} letters and classes, with its counts written out; at most "
            f"{PLACES_MAX}"
        )
    if size.bytes > BYTES_MAX:
        return (
            f"a pattern that takes up about {size.bytes / 1024**2:.1f} MiB when it is compiled; at "
            f"most {BYTES_MAX // 1024**2} MiB ({SMALLER})"
        )
    return ""


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        has_any_case = _IGNORES_CASE.search(pattern) is not None
        self._letter = LETTER_BYTES * (ANY_CASE if has_any_case else 1)
        self._open: list[PatternSize] = []
        """What stands before each group that is open."""
        self._sum = _NOTHING
        self._last = _NOTHING
        """What a count behind it would repeat."""

    def read(self) -> PatternSize:
        text = self._text
        while self._at < len(text):
            self._step(text[self._at])
        while self._open:
            self._close()
        return self._sum

    def _step(self, letter: str) -> None:
        if letter == "(":
            self._group()
        elif letter == ")":
            self._at += 1
            self._close()
        elif letter == "{" and (count := _COUNT.match(self._text, self._at)) is not None:
            self._at = count.end()
            self._repeat(count[1], count[2])
        elif letter == "[":
            self._atom(self._set())
        elif letter == "\\":
            self._atom(self._escape())
        else:
            self._at += 1
            if letter == ".":
                self._atom(PatternSize(1, ANY_BYTES))
            elif letter == "|":
                self._last = _NOTHING
            elif letter not in "^$*+?":  # The latter three repeat without a copy.
                self._atom(PatternSize(1, self._letter * len(letter.encode(errors="replace"))))

    def _atom(self, size: PatternSize) -> None:
        self._sum = _plus(self._sum, size)
        self._last = size

    def _group(self) -> None:
        flags = _FLAGS.match(self._text, self._at)
        if flags is not None:
            self._at = flags.end()
            self._last = _NOTHING
            return
        group = _GROUP.match(self._text, self._at)
        self._at = self._at + 1 if group is None else group.end()
        self._open.append(self._sum)
        self._sum = self._last = _NOTHING

    def _close(self) -> None:
        if self._open:
            inside = self._sum
            self._sum = self._open.pop()
            self._atom(inside)

    def _repeat(self, least: str, most: str | None) -> None:
        count = min(_COUNT_MAX, max(1, int((most or least)[:9])))
        again = PatternSize(self._last.places * (count - 1), self._last.bytes * (count - 1))
        self._sum = _plus(self._sum, again)
        self._last = PatternSize(self._last.places * count, self._last.bytes * count)

    def _escape(self) -> PatternSize:
        self._at += 1
        if self._at >= len(self._text):
            return _NOTHING
        letter = self._text[self._at]
        if letter in _NO_LETTERS:
            self._at += 1
            return _NOTHING
        for form in (_NAMED, _NUMBER):
            named = form.match(self._text, self._at)
            if named is not None:
                self._at = named.end()
                return PatternSize(1, CLASS_BYTES.get(letter.lower(), ANY_BYTES))
        self._at += 1
        return PatternSize(1, CLASS_BYTES.get(letter.lower(), self._letter))

    def _set(self) -> PatternSize:
        """`[...]`: one place, as large as what it names."""
        size, depth = self._letter, 0
        start = self._at
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter == "\\":
                size += self._escape().bytes
                continue
            self._at += 1
            if letter == "[":
                depth += 1
                size += ANY_BYTES if self._text.startswith("^", self._at) else 0
            elif letter == "]" and not self._is_first(start):
                depth -= 1
                if depth == 0:
                    break
            elif not letter.isascii():
                size += ANY_BYTES
        return PatternSize(1, size)

    def _is_first(self, start: int) -> bool:
        """Whether the bracket just read is the first thing in its set: it closes nothing then."""
        return self._text[start : self._at - 1] in ("[", "[^")


def _plus(one: PatternSize, two: PatternSize) -> PatternSize:
    return PatternSize(one.places + two.places, one.bytes + two.bytes)
