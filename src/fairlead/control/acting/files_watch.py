"""Whether the files of the champions are still what their digests say.

A file that was changed underneath changes no replica that runs, and none starts from it: the next
one that ends is missing. So it is said when it is found, and not when that comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from fairlead.domain.release import short
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.store.rows import EventRow

DAMAGED = "release_damaged"
"""The monitor, and the kind of its events."""
WHY_MAX = 300


class FilesWatch:
    """Remembers whose files cannot be used.

    Args:
        damage_of: Why no replica of a release (its digest) can be started; empty if one can.
    """

    def __init__(self, damage_of: Callable[[str], str]) -> None:
        self._damage_of = damage_of
        self._damaged: dict[tuple[str, str], str] = {}

    def look(self, champions: Iterable[tuple[str, str]], now: float) -> list[EventRow]:
        """Look at the champions, each a service and a digest; what was found since the last."""
        before = self._damaged
        found = {each: self._damage_of(each[1]) for each in champions}
        self._damaged = {each: why[:WHY_MAX] for each, why in found.items() if why}
        return [
            EventRow(
                now, DAMAGED, f"release {short(release)} cannot be started any more: {why}",
                service=service, data=msgspec.json.encode({"release": release}),
            )
            for (service, release), why in self._damaged.items()
            if (service, release) not in before
        ]  # fmt: skip

    def conditions(self) -> Iterator[Condition]:
        """One for each champion whose files cannot be used."""
        for (service, release), why in self._damaged.items():
            yield Condition(
                labels=labels_of(monitor=DAMAGED, service=service, release=release),
                severity=Severity.TICKET,
                summary=f"{service}: no replica of release {short(release)} can be started: {why}; "
                "those that run go on, and none that ends comes back",
            )
