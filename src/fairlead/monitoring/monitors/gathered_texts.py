"""Texts that a larger reference will be made of.

A release is to be watched soon, so its first reference is made of few texts; and what is known from
few has to be taken at far limits, which makes a monitor slow. So texts are gathered on: the first
ones, and of those that came later all that joined what is usual (`fairlead.stats.drift.usual`), in
the order in which they came. None of a change is among them, as far as one was told, nor what came
within 500 texts before an alarm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fairlead.monitoring.monitors.kept_texts import GROUP, KeptText, as_stored, from_stored
from fairlead.stats.drift.usual import SIZE_MAX, WAIT, Joined

GATHERED_MAX = 2 * SIZE_MAX
_WAITING_MAX = WAIT + SIZE_MAX


class Gathered:
    """See the head of this file. Texts that are forgotten leave their places empty."""

    def __init__(self, texts: Iterable[KeptText], waiting: Iterable[KeptText] = ()) -> None:
        """`waiting`: those of which it is not known yet whether they are usual."""
        self._texts = list(texts)
        self._waiting = list(waiting)
        self._count = sum(bool(each.id) for each in self._texts)

    def __len__(self) -> int:
        """How many it has, without those that were forgotten."""
        return self._count

    @property
    def waiting(self) -> int:
        """Of how many it is not known yet whether they are usual."""
        return len(self._waiting)

    def see(self, texts: Sequence[KeptText], joined: Joined, waits: int) -> None:
        """Take in the next ones.

        Args:
            joined: What became of those that waited, these among them.
            waits: How many wait still, the last ones.
        """
        waiting = [*self._waiting, *texts]
        usual = waiting[: joined.taken]
        self._texts += usual
        self._count += sum(bool(each.id) for each in usual)
        self._waiting = waiting[len(waiting) - waits :]

    def known(self) -> list[KeptText]:
        """All that it has, in order of time."""
        return [each for each in self._texts if each.id]

    def forget(self, ids: Collection[str]) -> None:
        """Drop what these requests said."""
        for texts in (self._texts, self._waiting):
            for place, each in enumerate(texts):
                if each.id and each.id in ids:
                    texts[place] = KeptText("", each.at, "")
        self._count = sum(bool(each.id) for each in self._texts)

    def all(self) -> list[KeptText]:
        """Every one, also those that wait, and the places of those that were forgotten."""
        return [*self._texts, *self._waiting]

    def stored(self) -> dict[str, Any]:
        """In JSON's types, in groups: whole ones do not change any more."""
        starts = range(0, len(self._texts), GROUP)
        return {
            "texts": [as_stored(self._texts[start : start + GROUP]) for start in starts],
            "waiting": as_stored(self._waiting),
        }

    @classmethod
    def of_stored(cls, stored: Any, waits: int) -> Gathered:
        """What `stored` made, of which so many wait; raises ValueError if it is damaged."""
        groups = stored["texts"]
        if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
            raise ValueError("stored texts: must be groups of them")
        texts = from_stored([text for group in groups for text in group], GATHERED_MAX)
        waiting = from_stored(stored["waiting"], _WAITING_MAX)
        if len(waiting) != waits:
            raise ValueError(f"stored texts: {len(waiting)} wait, and not {waits}")
        return cls(texts, waiting)
