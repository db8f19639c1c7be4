"""What a short answer is: shorter than half of the first ones to comparable requests."""

from __future__ import annotations

from itertools import chain
from typing import Any

FIRST = 101
"""Answers of a stratum of which the middle one is learnt, whoever had them."""
STRATA_MAX = 64
"""Strata of which that is known, the first ones."""


class ShortAnswers:
    """Learns the middle length of each stratum, and tells shorter answers from then on."""

    def __init__(self) -> None:
        self._first: dict[str, list[int]] = {}
        self._middle: dict[str, int] = {}

    def is_short(self, stratum: str, tokens: int) -> bool | None:
        """Whether so many tokens are few; None for what is learnt from, and where nothing is."""
        middle = self._middle.get(stratum)
        if middle is not None:
            return tokens < middle
        if stratum not in self._first and len(self._first) + len(self._middle) >= STRATA_MAX:
            return None
        first = self._first.setdefault(stratum, [])
        first.append(tokens)
        if len(first) >= FIRST:
            self._middle[stratum] = sorted(first)[len(first) // 2]
            del self._first[stratum]
        return None

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, in JSON's types."""
        first = {stratum: list(known) for stratum, known in self._first.items()}
        return {"first": first, "middle": dict(self._middle)}

    def restore(self, state: Any) -> None:
        """Go on from a state; raises ValueError, and changes nothing, if it is damaged."""
        match state:
            case {"first": dict() as first, "middle": dict() as middle} if (
                len(first) + len(middle) <= STRATA_MAX
                and all(isinstance(known, list) and len(known) < FIRST for known in first.values())
                and all(map(_is_count, chain(middle.values(), *first.values())))
            ):
                self._first = {str(stratum): list(known) for stratum, known in first.items()}
                self._middle = {str(stratum): count for stratum, count in middle.items()}
            case _:
                raise ValueError("damaged state of the monitor segments: lengths")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
