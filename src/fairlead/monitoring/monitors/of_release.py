"""What the monitors of one release have in common: labels, and states that are told apart."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from fairlead.domain.release import short
from fairlead.monitoring.baseline import Baseline
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.monitoring.monitors.interface import Deaf, Document
from fairlead.monitoring.monitors.lasting import restoring
from fairlead.monitoring.monitors.settings import LEARN_MIN, MonitorSettings
from fairlead.stats.monitors.evidence import made_with

LOAD = "requests open; in 10 s"
"""What loads are in `Seen`."""


class ReleaseMonitor(Deaf, ABC):
    """A monitor of one release of one service."""

    name: str = ""
    loads: ClassVar[str] = LOAD
    """What loads its times were learnt at: others are no reference."""

    def __init__(self, service: str, release: str, settings: MonitorSettings) -> None:
        """`release`: its digest."""
        self.service, self.release, self.settings = service, release, settings
        said = (settings.learn, settings.requests_per_false_alarm, settings.tolerance, self.loads)
        self._of = made_with(self.name, service, release, *said)
        self.accept()

    @abstractmethod
    def accept(self) -> None:
        """Learn anew."""

    @abstractmethod
    def conditions(self, now: float) -> list[Condition]:
        """What is wrong now."""

    @abstractmethod
    def standing(self) -> str:
        """How far it is, in a few words."""

    @abstractmethod
    def self_test(self) -> str:
        """Empty if it finds a fault in data made for it, and none in honest data."""

    @abstractmethod
    def _remembered(self) -> Document:
        """What it has to remember, in JSON's types."""

    @abstractmethod
    def _recall(self, state: Document) -> None:
        """Take over what was remembered; changes nothing if it raises."""

    def state(self) -> Document:
        """Everything that `restore` needs."""
        return {"of": self._of, **self._remembered()}

    def restore(self, state: Document) -> None:
        """Go on from a state of a monitor made with the same arguments.

        Raises ValueError, and changes nothing, if it is damaged or of another monitor.
        """
        with restoring(self.name):
            if state["of"] != self._of:
                raise ValueError(
                    f"state of another monitor than {self.name} of {self.service}, release "
                    f"{short(self.release)}, with these settings"
                )
            self._recall(state)

    def _small(self) -> MonitorSettings:
        """Settings of a self-test: the same, learnt from as little as may be."""
        return msgspec.structs.replace(self.settings, learn=LEARN_MIN)

    def _condition(
        self,
        severity: Severity,
        said: str,
        evidence: list[Figure],
        baseline: Baseline | None = None,
        **labels: str,
    ) -> Condition:
        """`baseline`: what it is held against, if that was learnt of the release."""
        return Condition(
            labels=labels_of(
                monitor=self.name, service=self.service, release=self.release, **labels
            ),
            severity=severity,
            summary=f"{self.service}: {said}",
            evidence=tuple(evidence),
            baseline=baseline,
        )


def stored_since(state: Mapping[str, Any], name: str = "learnt_since") -> float | None:
    """Since when something was learnt, as it was kept; raises ValueError if that is no time.

    What was kept without it by an earlier version is not known.
    """
    kept = state.get(name)
    if kept is None:
        return None
    if isinstance(kept, bool) or not isinstance(kept, int | float) or not math.isfinite(kept):
        raise ValueError(f"damaged state of a monitor: it has learnt since {kept!r}")
    return float(kept)


def learning(known: int, needed: int, what: str = "requests") -> str:
    """`learning, 120 of 500 requests`."""
    return f"learning, {min(known, needed):,} of {needed:,} {what}"


def minutes_since(at: float | None, now: float) -> list[Figure]:
    """How long it has been so; nothing where that is not known."""
    return [] if at is None else [Figure("it began about", max(0.0, (now - at) / 60.0), "min ago")]
