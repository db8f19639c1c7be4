"""The platform as the loop asks it: what fails there is told, and stops nothing else.

Nothing that could not be said is taken for not being so: who could not say what is wrong has not
looked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from fairlead.control.acting.traffic import Minutes
from fairlead.control.watching.served import Served
from fairlead.domain.defects import defect, trail
from fairlead.domain.errors import FairleadError
from fairlead.monitoring.actions import ActionEntry, Circumstances
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition, Looked, labels_of
from fairlead.monitoring.incidents import Event
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.watchers import Report, Watch

PENDING_S = 60.0
"""What the store refuses once is not told."""
LATELY_S = 6 * 3_600.0
_log = logging.getLogger(__name__)

T = TypeVar("T")


class Platform(Protocol):
    """What watching needs of the rest: what else is the case, and who carries out."""

    def services(self) -> Sequence[Served]:
        """All services, with what is declared of them."""
        ...

    async def refresh(self, counts: Mapping[str, Minutes]) -> None:
        """Look at the platform; what is asked after that is of this moment.

        Args:
            counts: Requests of the last minutes, by service.
        """
        ...

    def conditions(self, now: float) -> Sequence[Condition]: ...

    def looked(self) -> Sequence[Looked]:
        """Who has said, with the conditions before, all that it knows."""
        ...

    def reports(self, now: float) -> Sequence[Report]: ...

    def watches(self) -> Sequence[Watch]: ...

    def changes(self, since: float) -> Sequence[Change]: ...

    def events(self, since: float) -> Sequence[Event]: ...

    def circumstances(self) -> dict[str, Circumstances]: ...

    async def carry_out(self, entry: ActionEntry) -> str:
        """Do it, and say in words what came of it; raises FairleadError to be tried again.

        Empty words say that this is still to come; it is asked for again.
        """
        ...


class Said(NamedTuple):
    """What the platform has said at one look, and with it what it could not say."""

    conditions: list[Condition]
    looked: list[Looked]
    reports: list[Report]
    watches: list[Watch]
    changes: list[Change]
    events: list[Event]
    circumstances: dict[str, Circumstances]


class Around:
    """Asks the platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._failed: dict[str, str] = {}
        self._before: dict[str, str] = {}

    async def refresh(self, counts: Callable[[], Mapping[str, Minutes]]) -> None:
        """Let it look; where it cannot, its monitors have not looked: none of their alerts ends."""
        self._before, self._failed = self._failed, {}
        try:
            await self._platform.refresh(counts())
        except Exception as error:  # noqa: BLE001 - logged, and told
            self._note("look", error)

    def ask(self, now: float) -> Said:
        """What it has to say."""
        platform, since = self._platform, now - LATELY_S
        conditions = self._asked("say what is wrong", lambda: platform.conditions(now))
        is_heard = not self._failed.keys() & {"say what is wrong"}
        looked = self._asked("say what it saw", platform.looked) if is_heard else []
        said = Said(
            conditions,
            looked,
            self._asked("report", lambda: platform.reports(now)),
            self._asked("say what is expected", platform.watches),
            self._asked("say what was changed", lambda: platform.changes(since)),
            self._asked("say what happened", lambda: platform.events(since)),
            dict(self._asked("say what can be done", lambda: platform.circumstances().items())),
        )
        conditions += self._conditions()
        return said

    def _asked(self, what: str, call: Callable[[], Iterable[T]]) -> list[T]:
        try:
            return list(call())
        except Exception as error:  # noqa: BLE001 - logged, and told
            self._note(what, error)
            return []

    def _note(self, what: str, error: Exception) -> None:
        why = error.one_line if isinstance(error, FairleadError) else defect(error)
        self._failed[what] = why
        if self._before.get(what) != why:
            _log.error("watching: the platform could not %s: %s; %s", what, why, trail(error))

    def _conditions(self) -> list[Condition]:
        if not self._failed:
            return []
        said = "; ".join(f"could not {what}: {why[:150]}" for what, why in self._failed.items())
        return [
            Condition(
                labels=labels_of(monitor=BLIND, watched="platform", fault="failed"),
                severity=Severity.PAGE,
                summary="nobody watches replicas, records, providers and all else of the platform: "
                f"{said}"[:500],
                pending_s=PENDING_S,
            )
        ]
