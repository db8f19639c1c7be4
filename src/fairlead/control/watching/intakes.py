"""Which monitors of a release take in nothing of what they could have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from fairlead.monitoring.monitors.intake import Intake, TakesIn, kinds_of
from fairlead.monitoring.monitors.interface import Monitor, Seen


class Lack(NamedTuple):
    """What a monitor does not get: so many requests without it, and what it is."""

    requests: int = 0
    what: str = ""


class Intakes:
    """What each monitor of a release has taken in; those that do not say so are left alone."""

    def __init__(self) -> None:
        self._fresh: Counter[str] = Counter()
        self._known: dict[str, dict[str, Intake]] = {}
        self._counted: dict[str, dict[str, int]] = {}

    def see(self, seen: Seen) -> None:
        """A request that its monitors have seen."""
        self._fresh.update(kinds_of(seen))

    def count(self, monitors: Mapping[str, Monitor], at: float) -> None:
        """Take in what they have taken in since the last time.

        Args:
            at: Unix time of the last request.
        """
        fresh, self._fresh = self._fresh, Counter()
        for name, monitor in monitors.items():
            if not isinstance(monitor, TakesIn):
                continue
            before, now = self._counted.get(name, {}), dict(monitor.taken)
            known = self._known.setdefault(name, {})
            for what in now.keys() | known.keys():
                taken = now.get(what, 0) - before.get(what, 0)
                known[what] = known.get(what, Intake()).after(taken, fresh[monitor.expects.of], at)
            self._counted[name] = now

    def lack(self, name: str, monitor: Monitor) -> Lack:
        """What this monitor does not get; of several things the one that was missed for longest."""
        if not isinstance(monitor, TakesIn):
            return Lack()
        lacks = [
            Lack(missing, monitor.expects.lacks.format(what))
            for what, intake in self._known.get(name, {}).items()
            if (missing := intake.lacking(monitor.expects))
        ]
        return max(lacks, default=Lack())

    def forget(self, name: str, monitor: Monitor) -> None:
        """This monitor learns anew: what came before says nothing of what is to come."""
        self._known.pop(name, None)
        self._counted[name] = dict(monitor.taken) if isinstance(monitor, TakesIn) else {}

    def kept(self, name: str) -> dict[str, Intake]:
        """Of one monitor, to be kept."""
        return self._known.get(name, {})

    def restore(self, name: str, kept: Mapping[str, Intake]) -> None:
        """Go on from what is kept of one monitor."""
        self._known[name] = dict(kept)
