"""Asks the parts that find what is wrong with the platform, each by itself.

One that fails, by a defect or because the store refuses, stops no other one: it is blind, which is
an alert that names it, and its alerts stay as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from fairlead.domain.defects import defect, trail
from fairlead.domain.errors import FairleadError
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.inhibition import BLIND

PENDING_S = 30.0
"""What the store refuses once is not told."""
_log = logging.getLogger(__name__)

T = TypeVar("T")


class Sources:
    """Remembers which of them have failed at this look.

    Attributes:
        failed: Why, by monitor.
    """

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self._before: dict[str, str] = {}

    def begin(self) -> None:
        """A look begins: what failed at the one before may not fail now."""
        self._before, self.failed = self.failed, {}

    def ask(self, monitors: Sequence[str], source: Callable[[], Iterable[T]]) -> list[T]:
        """What the source of these monitors says; nothing if it fails."""
        try:
            return list(source())
        except FairleadError as error:
            why = error.one_line
        except Exception as error:  # noqa: BLE001 - logged, and told
            why = defect(error)
            if self._before.get(monitors[0]) != why:
                _log.error("monitor %s: a defect: %s", monitors[0], trail(error))
        for monitor in monitors:
            self.failed.setdefault(monitor, why)
        return []

    def let(self, monitors: Sequence[str], look: Callable[[], object]) -> None:
        """Let the part of these monitors look."""
        self.ask(monitors, lambda: (look(),))

    def conditions(self) -> Iterator[Condition]:
        """One for each monitor that could not look."""
        for monitor, why in sorted(self.failed.items()):
            yield Condition(
                labels=labels_of(monitor=BLIND, watched=monitor, fault="failed"),
                severity=Severity.TICKET,
                summary=f"monitor {monitor} could not look: {why[:300]}",
                pending_s=PENDING_S,
            )
