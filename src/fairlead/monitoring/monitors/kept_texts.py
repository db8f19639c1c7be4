"""Texts that a monitor keeps for a while: cut, bounded, and forgotten on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from fairlead.monitoring.monitors.interface import SeenText

CHARS_MAX = 500
"""Of a longer text only so many first characters are looked at, and kept."""
KEPT_MAX = 2_000
GROUP = 100
"""So many texts one after another are stored together: whole groups do not change any more."""


class KeptText(NamedTuple):
    """A text of the sample; id and text are empty once it is forgotten.

    Attributes:
        id: Of its request.
        at: Unix time in seconds at which that began.
    """

    id: str
    at: float
    text: str


def kept_text(seen: SeenText, text: str) -> KeptText:
    """What is kept of a prompt or an answer."""
    return KeptText(seen.request.id, seen.request.started_at, text[:CHARS_MAX])


def as_stored(texts: Iterable[KeptText]) -> list[list[Any]]:
    """In JSON's types."""
    return [list(each) for each in texts]


def from_stored(stored: Any, most: int) -> list[KeptText]:
    """What `as_stored` made; raises ValueError if it is damaged, or more than `most`."""
    if not isinstance(stored, list) or len(stored) > most:
        raise ValueError(f"stored texts: must be a list of at most {most}")
    made = []
    for each in stored:
        match each:
            case [str(id), float() | int() as at, str(text)] if len(text) <= CHARS_MAX:
                made.append(KeptText(id, float(at), text))
            case _:
                raise ValueError("stored texts: must be id, time and a text that was cut")
    return made


def without(texts: Iterable[KeptText], ids: Collection[str]) -> list[KeptText]:
    """All but those of these requests."""
    return [each for each in texts if each.id not in ids]


class RecentTexts:
    """The last texts by their number, counted from 0."""

    def __init__(self, texts: Iterable[KeptText] = (), seen: int = 0) -> None:
        """Goes on from the last `texts` of `seen`."""
        self._texts = deque(texts, KEPT_MAX)
        self._seen = seen

    def add(self, texts: Sequence[KeptText]) -> None:
        """Take in the next ones."""
        self._texts.extend(texts)
        self._seen += len(texts)

    def at(self, number: int) -> KeptText | None:
        """The text of this number; None if it is kept no more."""
        place = number - self._seen + len(self._texts)
        if not 0 <= place < len(self._texts) or not self._texts[place].id:
            return None
        return self._texts[place]

    def time_of(self, number: int) -> float:
        """When the text of this number came, or the oldest that is kept; 0 if none is."""
        place = max(0, number - self._seen + len(self._texts))
        return self._texts[place].at if place < len(self._texts) else 0.0

    def forget(self, ids: Collection[str]) -> None:
        """Drop what these requests said; others keep their numbers."""
        for place, each in enumerate(self._texts):
            if each.id in ids:
                self._texts[place] = KeptText("", each.at, "")

    def stored(self) -> list[list[list[Any]]]:
        """All in JSON's types, in groups by their numbers; see `of_stored`."""
        groups: dict[int, list[list[Any]]] = {}
        for number, each in enumerate(self._texts, self._seen - len(self._texts)):
            groups.setdefault(number // GROUP, []).append(list(each))
        return list(groups.values())

    @classmethod
    def of_stored(cls, stored: Any, seen: int) -> RecentTexts:
        """What `stored` made, the last texts of `seen`; raises ValueError if it is damaged."""
        if not isinstance(stored, list) or not all(isinstance(group, list) for group in stored):
            raise ValueError("stored texts: must be groups of them")
        texts = from_stored([text for group in stored for text in group], KEPT_MAX)
        if len(texts) != min(seen, KEPT_MAX):
            raise ValueError(f"stored texts: {len(texts)} of the last {seen}")
        return cls(texts, seen)

    def all(self) -> list[KeptText]:
        """Every one, oldest first, with those that were forgotten."""
        return list(self._texts)
