"""Alerts of an installation as a test of faults sees them: what is told, and for which cause."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fairlead.control.watching.watch_views import AlertView, MonitorView
from fairlead.domain.errors import FairleadError
from fairlead.domain.release import short
from support.faulty_services import Fault
from support.installation import Installation

Digests = Mapping[str, Mapping[str, str]]
"""Releases by what they are (`first`, `worse`) and by their service."""


@dataclass
class Alerts:
    """Who has to look at what, as of the last look and ever, by service."""

    installation: Installation
    firing: list[AlertView] = field(default_factory=list)
    ever: dict[str, set[str]] = field(default_factory=dict)

    def look(self) -> None:
        """Look anew."""
        found = self.installation.control.get(list[AlertView], "alerts", limit=1000)
        self.firing = [alert for alert in found if alert.severity != "info"]
        for alert in self.firing:
            self.ever.setdefault(alert.service, set()).add(name_of(alert))

    def of(self, service: str, *names: str) -> list[AlertView]:
        """Of a service, of these names, as of the last look."""
        return [a for a in self.firing if a.service == service and name_of(a) in names]

    def told(self) -> str:
        """All of it, for a test that fails."""
        found = [
            f"{a.service} {name_of(a)}: {a.summary} {[c.words for c in a.causes]}"
            for a in self.firing
        ]
        monitors = self.installation.control.get(list[MonitorView], "monitors")
        found += [f"{m.service} {m.monitor}: {m.standing} {m.trouble}" for m in monitors]
        return "\n".join(found)


def name_of(alert: AlertView) -> str:
    """Its monitor; of a promise also which one: `slo cost`."""
    return f"{alert.monitor} {alert.labels.get('slo', '')}".strip()


def fits(alert: AlertView, fault: Fault, releases: Digests) -> bool:
    """Whether it says what it has to, with the right change as its first cause."""
    if fault.said not in alert.summary or not alert.causes:
        return False
    change = alert.causes[0].change
    release = short(releases[fault.cause.of][alert.service])
    about = {"service": alert.service, "release": release}
    return change.kind == fault.cause.kind and dict(change.labels) == about


async def until(done: Callable[[], bool], what: Callable[[], object], seconds: float) -> None:
    """Wait for a condition; a control that is too busy to answer counts as not done."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(FairleadError):
            if await asyncio.to_thread(done):
                return
        assert time.monotonic() < deadline, str(what())
        await asyncio.sleep(0.5)
