"""A desk that is kept in memory, and monitors that learn anew: what watches, for those who look."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.control.watching.interface import MonitorStanding
from fairlead.domain.errors import NotFound
from fairlead.monitoring.actions import ActionKind, ActionPolicy, Circumstances
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.desk import Desk, Duties, Look, step
from fairlead.monitoring.impact import Impact
from fairlead.monitoring.incidents import Incident
from fairlead.monitoring.monitors.interface import SuggestedCase
from monitoring.making import condition

T0 = 1_767_225_600.0
SHIPPED = Change(T0 - 240.0, "rollout", "release b promoted", (("service", "bank"),))
BACK = ActionPolicy(ActionKind.ROLL_BACK, ("slo",), dry_run=True)
PAGE = condition(slo="availability")
TICKET = condition("drift", severity=Severity.TICKET, keep_s=60.0)
SHOP = condition("latency", "shop", release="sha256:ab")


class KeptDesk:
    """The watching, in memory."""

    def __init__(self, *standings: MonitorStanding) -> None:
        self.desk = Desk()
        self.standings = list(standings)
        self.accepted: list[tuple[str, str]] = []
        self.age_s, self.trouble = 1.5, ""
        self.edits = 0
        self.impacts: list[Impact] = []

    async def edit(self, change: Callable[[Desk], Desk]) -> Desk:
        self.desk = change(self.desk)
        self.edits += 1
        return self.desk

    async def impact(self, incident: Incident) -> list[Impact]:
        return self.impacts

    def monitors(self, service: str | None = None) -> list[MonitorStanding]:
        return [one for one in self.standings if service in (None, one.service)]

    async def accept(self, service: str, monitor: str) -> None:
        if not any((one.service, one.monitor) == (service, monitor) for one in self.standings):
            raise NotFound(f"there is no monitor {monitor!r} of {service!r}")
        self.accepted.append((service, monitor))

    async def suggested_cases(self, service: str) -> list[SuggestedCase]:
        if not self.monitors(service):
            raise NotFound(f"no service {service!r} is watched")
        return [SuggestedCase("r1", "where is my card", ("drift",))]

    def look(self, now: float, *conditions: Condition) -> None:
        """One look of the desk, at which all monitors have looked."""
        looked = {alert.seen_by for alert in self.desk.alerts.values()}
        looked |= {one.seen_by for one in conditions}
        seen = Circumstances("sha256:b", SHIPPED.at, "sha256:a")
        look = Look(
            now, conditions, tuple(looked), changes=(SHIPPED,), circumstances={"bank": seen}
        )
        self.desk = step(self.desk, Duties(actions={"bank": (BACK,)}), look).desk


def outage() -> KeptDesk:
    """Two services with trouble at T0: a page and a ticket of one, a page of the other; a fourth
    alert has ended."""
    kept = KeptDesk(
        MonitorStanding("bank", "sha256:ab", "slo", "watching", 1_234, T0, T0 - 60.0),
        MonitorStanding("shop", "sha256:ab", "latency", "blind", 0, 0.0, 0.0, "no data"),
    )
    brief = condition("spend", severity=Severity.TICKET, keep_s=0.0)
    kept.look(T0 - 60.0, brief)
    for minute in range(3):
        kept.look(T0 + 60.0 * minute, PAGE, TICKET, SHOP)
    return kept
