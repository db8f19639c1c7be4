"""Takes out of a text what should not be kept: addresses, numbers of accounts, secrets.

The built-in patterns run in time linear in the text: every repetition is bounded or possessive, and
begins where nothing of its kind stands before it. A service's own patterns run in the engine of
`patterns`, which is linear by itself; it tells whether a text has a match, not where, so the place
is found by bisection. When in doubt, more is taken out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable

from fairlead.domain.capture import Redaction
from fairlead.domain.patterns import found

MATCHES_MAX = 50
"""Places of one own pattern; a text with more of them is taken out as a whole."""
_WIDER = 200
"""Characters by which a match of an own pattern is looked for beyond its shortest form."""

_NAMES_OF_KEYS = r"(?:api[_-]?key|access[_-]?key|secret|token|password|passwd|passphrase|pwd)"
_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
    r"|\b(?:fl|sk|pk|rk|ak|hf|gsk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeprs])[-_][\w-]{12,}+"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bAIza[\w-]{30,}+"
    r"|\bBearer\s{1,4}[\w.~+/=-]{8,}+"
    rf"|(?<![a-z]){_NAMES_OF_KEYS}\b[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"']?[^\s\"',;]{{4,}}+",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"(?<![\w-])((?:(?!\beyJ)[\w-])*+)eyJ[\w-]{8,}+\.[\w-]++(?:\.[\w-]*+)?", re.IGNORECASE
)
"""A signed token. Of several beginnings in a row the first one is enough: the same follows on all
of them, and each would be looked through to its end."""
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,256}+@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_CARD = re.compile(r"(?<![\d])\d(?:[ -]?\d){12,18}(?!\d)")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+|00)[1-9](?:[ ()./-]{0,3}\d){6,14}(?!\d)"
    r"|(?<![\w.])\(?0\d{1,5}\)?[ /.-]{1,3}\d(?:[ ./-]?\d){4,10}(?!\d)"
    r"|(?<![\w.])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?!\d)"
)


class Redactor:
    """Replaces, and counts what was replaced.

    Args:
        kinds: Which of the built-in kinds.
        patterns: Own ones; must compile.
    """

    def __init__(self, kinds: Iterable[Redaction], patterns: Iterable[str] = ()) -> None:
        wanted = set(kinds)
        self._steps = [step for kind, step in _STEPS if kind in wanted]
        self._patterns = tuple(patterns)

    def __call__(self, text: str) -> str:
        """The text without what should not be kept."""
        for step in self._steps:
            text = step(text)
        for pattern in self._patterns:
            text = _without(pattern, text)
        return text


@functools.lru_cache(maxsize=64)
def redactor(kinds: tuple[Redaction, ...], patterns: tuple[str, ...]) -> Redactor:
    """The redactor of these, made once."""
    return Redactor(kinds, patterns)


def _keys(text: str) -> str:
    if "eyj" in text.lower():
        text = _TOKEN.sub(r"\1[key]", text)
    return _KEY.sub("[key]", text)


def _emails(text: str) -> str:
    return _EMAIL.sub("[email]", text) if "@" in text else text


def _phones(text: str) -> str:
    return _PHONE.sub("[phone]", text)


def _cards(text: str) -> str:
    return _CARD.sub(lambda m: "[card]" if _is_card(m[0]) else m[0], text)


def _is_card(text: str) -> bool:
    """Luhn's check."""
    digits = [int(c) for c in reversed(text) if c.isdigit()]
    doubled = (2 * d - 9 if d > 4 else 2 * d for d in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _ibans(text: str) -> str:
    return _IBAN.sub(_iban, text)


def _iban(match: re.Match[str]) -> str:
    """A match may run on into the next words: the longest beginning that is an IBAN counts."""
    given = match[0]
    if not given.isascii():
        return given
    # ISO 7064: what stands behind the first four characters, then these, as one number modulo 97.
    ends, size, rest = 0, 0, 0
    first = "".join(str(int(letter, 36)) for letter in given[:4])
    for place, letter in enumerate(given):
        if letter in " -":
            continue
        size += 1
        if size > 4:
            rest = _followed_by(rest, letter)
        if 15 <= size <= 34 and int(f"{rest}{first}") % 97 == 1:
            ends = place + 1
    return "[iban]" + given[ends:] if ends else given


def _followed_by(rest: int, letter: str) -> int:
    """The rest modulo 97 of a number with one more letter, of which some are two digits."""
    value = int(letter, 36)
    return (rest * (10 if value < 10 else 100) + value) % 97


def _without(pattern: str, text: str) -> str:
    kept: list[str] = []
    for _ in range(MATCHES_MAX):
        if not found(pattern, text):
            return "".join(kept) + text
        start, end = _place(pattern, text)
        if start == end:
            break  # It matches nothing at all, or by what stands around it.
        kept += [text[:start], "[redacted]"]
        text = text[end:]
    return "[redacted]" if found(pattern, text) else "".join(kept) + text


def _place(pattern: str, text: str) -> tuple[int, int]:
    """Where its first match is; an empty place when that cannot be told."""
    low, high = 0, len(text)
    while low < high:  # The shortest beginning that has a match.
        middle = (low + high) // 2
        low, high = (low, middle) if found(pattern, text[:middle]) else (middle + 1, high)
    end = low
    low, high = 0, end
    while low < high:  # The shortest end of that.
        middle = (low + high + 1) // 2
        low, high = (middle, high) if found(pattern, text[middle:end]) else (low, middle - 1)
    start = low
    if not found(pattern, text[start:end]):
        return 0, 0
    whole = rf"\A(?:{pattern})\z"
    if len(whole) <= 1000:
        befores = (s for s in range(max(0, start - _WIDER), start) if found(whole, text[s:end]))
        start = next(befores, start)
        last = min(len(text), end + _WIDER)
        end = next((e for e in range(last, end, -1) if found(whole, text[start:e])), end)
    return start, end


_STEPS: tuple[tuple[Redaction, Callable[[str], str]], ...] = (
    ("key", _keys),
    ("email", _emails),
    ("iban", _ibans),
    ("card", _cards),
    ("phone", _phones),
)
"""In this order: what is a card's number is no longer there to be taken for a phone's."""
