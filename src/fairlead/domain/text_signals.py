"""What a text shows of itself, cheaply: does it loop, in which script and language, how long.

Guesses for monitors, which watch their rates: a guess that is wrong now and then is wrong as often
before a change as after it. Only the first `SCANNED_MAX` characters are looked at, and for loops
also the last `TAIL_MAX`, in linear time.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import islice

SCANNED_MAX = 20_000
TAIL_MAX = 4_000
LOOPS_FROM = 0.5
"""A text with this repetition, or more, loops."""
LENGTH_CLASSES = (1, 16, 64, 256, 1_024, 4_096, 16_384)
"""Least tokens of each length class but the first, which is that of empty texts."""

_GRAM = 6
_WORDS_MIN = 24
_LETTERS_MIN = 3
_WORD = re.compile(r"\w+|[^\w\s]")
_LETTERS = re.compile(r"[^\W\d_]+")
_THREE_LETTERS = re.compile(r"[A-Za-z](?:[^A-Za-z]*[A-Za-z]){2}")
_SPACED_OUT = 40

_SCRIPTS = (
    "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "THAI",
    "HANGUL", "HIRAGANA", "KATAKANA", "CJK", "GEORGIAN", "ARMENIAN", "ETHIOPIC",
)  # fmt: skip
_STOP_WORDS = {
    "en": "the and of to in is that it for you with this are not be have on what how my can do i a "
    "was why has does will your from if there did at get would when where am been still need me",
    "de": "der die und das ist nicht ich sie ein eine zu den mit auf für von dem wie es auch wird",
    "fr": "le la les et des est une dans que pas pour vous je sur avec qui au ce comment mon du",
    "es": "el los las y es una que en por con para no se como del mi está qué puedo un lo más",
    "it": "il di che è non una per sono con come mi gli della del si nel questo anche più ho",
    "pt": "o os e é não uma que em para com por do da como mais meu você está no na se um",
    "nl": "de het een en van is niet ik dat op met te voor zijn je hoe wat kan mijn ook aan",
    "pl": "i w nie na się z do jest to że jak co mi czy moja po od dla są o tak mogę",
    "sv": "och att det är en som på jag inte för med av till den har ett hur min kan om",
    "tr": "ve bir bu için da de ne ile nasıl mi çok daha var ben o gibi değil ama olarak kadar",
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _STOP_WORDS.items()}
LANGUAGES = tuple(_LANGUAGES)
"""The languages in Latin script that are told apart (ISO 639-1)."""
_SPOKEN = {
    word: tuple(name for name, known in _LANGUAGES.items() if word in known)
    for words in _LANGUAGES.values()
    for word in words
}
"""The languages of each stop word."""


def repetition(text: str) -> float:
    """Share of a text's runs of six words (or signs) that it has said before, 0 to 1.

    A text without spaces is taken by characters. Texts of fewer than 24 words have 0. Ordinary
    prose is below 0.05, tables and code may have 0.3; a model that loops goes towards 1.
    """
    scanned = text[:SCANNED_MAX]
    words: Sequence[str] = _WORD.findall(scanned)
    if len(scanned) > _SPACED_OUT * max(len(words), 1):
        words = scanned
    runs = len(words) - _GRAM + 1
    if len(words) < _WORDS_MIN:
        return 0.0
    return 1.0 - len({tuple(words[i : i + _GRAM]) for i in range(runs)}) / runs


def loops(text: str) -> bool:
    """Whether the text repeats itself as a model does that does not come to an end.

    On the whole, or at its end: a long answer that ends in a loop repeats little of all its text.
    """
    whole = repetition(text)
    return max(whole, repetition(text[-TAIL_MAX:]) if len(text) > TAIL_MAX else 0.0) >= LOOPS_FROM


def script(text: str) -> str | None:
    """The script of most letters: `latin`, `cyrillic`, `cjk` ...; `other`, or None without letters.

    Japanese is `kana` as soon as a tenth of its letters are.
    """
    scanned = text[:SCANNED_MAX]
    if scanned.isascii():
        return "latin" if _THREE_LETTERS.search(scanned) else None
    counts: Counter[str] = Counter()
    for letter in islice((each for each in scanned if each.isalpha()), 2_000):
        if letter.isascii():
            counts["latin"] += 1
        else:
            first = unicodedata.name(letter, "").partition(" ")[0]
            counts[first.lower() if first in _SCRIPTS else "other"] += 1
    total = counts.total()
    if total < _LETTERS_MIN:
        return None
    if 10 * (counts["hiragana"] + counts["katakana"]) >= total:
        return "kana"
    return max(sorted(counts), key=lambda name: counts[name])


def language(text: str) -> str | None:
    """The likeliest of ten languages in Latin script, by its stop words; None if none stands out.

    A word that several languages share counts less. Two distinct stop words are needed, and more
    weight than any other language has.
    """
    if script(text) != "latin":
        return None
    found: dict[str, list[str]] = {}
    for word in _LETTERS.findall(text[:SCANNED_MAX].lower())[:500]:
        for name in _SPOKEN.get(word, ()):
            found.setdefault(name, []).append(word)
    weights = [
        (sum(1.0 / len(_SPOKEN[word]) for word in theirs), name)
        for name, theirs in found.items()
        if len(set(theirs)) >= 2
    ]
    weights.sort(reverse=True)
    if not weights or (len(weights) > 1 and weights[0][0] == weights[1][0]):
        return None
    return weights[0][1]


def language_class(text: str) -> str:
    """Language, or else script, or `none`: one name for each text, for a monitor of the mix."""
    return language(text) or script(text) or "none"


def length_class(tokens: int) -> int:
    """The class of a length: 0 for empty, and then by factors of four from 1, 16, 64 ... tokens."""
    if tokens < 0:
        raise ValueError(f"{tokens} tokens: must not be negative")
    return sum(tokens >= least for least in LENGTH_CLASSES)
