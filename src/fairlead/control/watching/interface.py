"""What others see of the watching: the desk, the monitors, and how a person changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from fairlead.monitoring.desk import Desk
from fairlead.monitoring.impact import Impact
from fairlead.monitoring.incidents import Incident
from fairlead.monitoring.monitors.interface import SuggestedCase

OLD_S = 120.0
"""Where no look has come to its end for so long, nothing is watched."""


class MonitorStanding(msgspec.Struct, frozen=True):
    """One monitor of one release.

    Attributes:
        standing: How far it is, in a few words.
        requests: Requests that it has seen.
        seen_until: Unix time up to which it has seen everything; 0 for nothing.
        self_tested_at: Unix time of its last self-test; 0 for none.
        trouble: Why it cannot look, or failed its self-test; empty when neither.
        vectors: Name of the embedder that it goes by; empty where it needs none.
    """

    service: str
    release: str
    monitor: str
    standing: str
    requests: int
    seen_until: float
    self_tested_at: float
    trouble: str = ""
    vectors: str = ""


class Watched(Protocol):
    """The watching, as the API needs it."""

    @property
    def desk(self) -> Desk:
        """Alerts, incidents, silences and the audit, as they are kept."""
        ...

    @property
    def age_s(self) -> float:
        """Seconds since a look at everything has last come to its end."""
        ...

    @property
    def trouble(self) -> str:
        """Why the last look failed; empty when none has since one came to its end."""
        ...

    async def edit(self, change: Callable[[Desk], Desk]) -> Desk:
        """Change the desk by a person's word, and keep it; raises Unavailable where that hangs.

        What `change` raises is raised, and nothing has changed then.
        """
        ...

    async def impact(self, incident: Incident) -> list[Impact]:
        """What it has cost the users of its services, as far as that was counted."""
        ...

    def monitors(self, service: str | None = None) -> list[MonitorStanding]:
        """All of them, by service, release and name."""
        ...

    async def suggested_cases(self, service: str) -> list[SuggestedCase]:
        """Requests that the suites of a service lack, by what has drifted, as far as is known now.

        Raises NotFound, and Unavailable where the first look hangs.
        """
        ...

    async def accept(self, service: str, monitor: str) -> None:
        """What this monitor of the champion tells now is as it should be.

        Raises NotFound, and Unavailable where a look hangs.
        """
        ...
