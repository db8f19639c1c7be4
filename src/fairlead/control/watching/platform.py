"""What watching needs of control's other parts, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fairlead.control.shipping.rollouts import Rollouts
from fairlead.domain.errors import Unavailable
from fairlead.monitoring.actions import ActionEntry, Circumstances
from fairlead.monitoring.alerts import Condition, Looked
from fairlead.monitoring.causes import Change
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.incidents import Event
from fairlead.monitoring.watchers import Report, Watch


class ServedService(NamedTuple):
    """A service as it is now."""

    name: str
    champion: str
    declared: Declared


class ControlPlatform:
    """Implements `fairlead.control.watching.watching.Platform`."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts

    def services(self) -> Sequence[ServedService]:
        """All that have served, or are to."""
        return [
            ServedService(row.name, row.champion or "", spec.monitoring)
            for row, spec in self._rollouts.services()
        ]

    async def refresh(self, now: float) -> None:
        """Nothing to look at so far."""

    def conditions(self, now: float) -> Sequence[Condition]:
        return ()

    def looked(self) -> Sequence[Looked]:
        return ()

    def reports(self, now: float) -> Sequence[Report]:
        return ()

    def watches(self) -> Sequence[Watch]:
        return ()

    def changes(self, since: float) -> Sequence[Change]:
        return ()

    def events(self, since: float) -> Sequence[Event]:
        return ()

    def circumstances(self) -> dict[str, Circumstances]:
        return {}

    async def carry_out(self, entry: ActionEntry) -> str:
        raise Unavailable(f"nobody carries out {entry.kind}")
