"""The store as the observer keeps it: taking records in, and its upkeep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fairlead.telemetry import upkeep
from fairlead.telemetry.writer import TelemetryWriter


class TelemetryStore(TelemetryWriter):
    """The writer together with its upkeep."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_s: float,
        clock: Callable[[], float],
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(folder, keep_s=keep_s, clock=clock, warn=warn)
        self._given_up: set[tuple[str, int, str]] = set()

    def step(self) -> bool:
        """One step of upkeep, of bounded size; whether there may be more to do."""
        return upkeep.step(self, self._given_up)
