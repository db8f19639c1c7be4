"""Whether looks come to their end, and what is told where they do not.

The loop can fail at each look, or hang in one. Nothing that it would write is needed to say so:
what is known is in memory, and so is who is to be told. What is made of it is laid over the desk
until a look has taken it over; where this process ends before, it is told again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from fairlead.control.watching.interface import OLD_S
from fairlead.gateway.records.metric_families import Family, FamilyState
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.monitoring.desk import Desk
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.telling import Told

CHECK_S_MAX = 5.0
"""More time between two checks is none of the loop's: this process did not run."""
KEEP_S = 60.0


class Overlay(NamedTuple):
    """What is known beside the desk, since a look has last come to its end."""

    alerts: Mapping[str, Alert] = {}
    told: Mapping[str, Told] = {}

    def over(self, desk: Desk) -> Desk:
        """The desk with it; of what was told the latest."""
        if not self.alerts and not self.told:
            return desk
        told = {
            key: one
            for key, one in self.told.items()
            if key not in desk.told or desk.told[key].at <= one.at
        }
        return msgspec.structs.replace(
            desk, alerts={**desk.alerts, **self.alerts}, told={**desk.told, **told}
        )

    def with_told(self, arrived: Mapping[str, Told]) -> Overlay:
        """With what has arrived."""
        return self._replace(told={**self.told, **arrived}) if arrived else self


class Heartbeat:
    """Remembers when a look came to its end, and why the last one did not.

    Args:
        monotonic: Seconds that never jump.

    Attributes:
        trouble: Why the last look failed; empty when none has since one came to its end.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._age = Family(
            "fairlead_control_watching_age_seconds",
            "gauge",
            "Seconds since the monitors have last looked at everything.",
        )
        self._looked_at = self._checked_at = monotonic()
        self._without_s = 0.0
        self.trouble = ""

    def begin(self) -> None:
        """Now the loop begins, or one look has come to its end."""
        self._looked_at = self._checked_at = self._monotonic()
        self._without_s = 0.0
        self.trouble = ""

    def failed(self, why: str) -> None:
        """A look has failed."""
        self.trouble = why[:300]

    @property
    def age_s(self) -> float:
        """Seconds since a look has last come to its end."""
        return self._monotonic() - self._looked_at

    def check(self) -> Condition | None:
        """To be called again and again: the page that no look comes to its end, if it is so."""
        now = self._monotonic()
        self._without_s += min(now - self._checked_at, CHECK_S_MAX)
        self._checked_at = now
        if self._without_s < OLD_S:
            return None
        why = f"the last one failed: {self.trouble}" if self.trouble else "one goes on since then"
        return Condition(
            labels=labels_of(monitor=BLIND, watched="watching", fault="stopped"),
            severity=Severity.PAGE,
            summary=f"nothing is watched: no look at the services has come to its end; {why}",
            evidence=(Figure("since the last look", self.age_s, "s", OLD_S),),
            keep_s=KEEP_S,
        )

    def states(self) -> list[FamilyState]:
        """The metric."""
        self._age.set((), self.age_s)
        return [self._age.state()]
