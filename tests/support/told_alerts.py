"""Alerts of an installation as a test of faults sees them: what is told, and for which cause."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.watching.watch_views import ActionView, AlertView, MonitorView
from fairlead.domain.errors import FairleadError
from fairlead.domain.release import short
from support.faulty_services import Fault
from support.installation import Installation

Digests = Mapping[str, Mapping[str, str]]
"""Releases by what they are (`first`, `worse`) and by their service."""
Told = tuple[str, Fault]
"""A service and what has to be told of it."""
Make = Callable[[], ServiceSpec]


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
    expected = fault.cause.kind, fault.cause.is_inferred, about
    return (change.kind, change.is_inferred, dict(change.labels)) == expected


async def promoted(installation: Installation, makes: Mapping[str, Make]) -> dict[str, str]:
    """Ship a release to each of these services, and wait until they serve; their digests."""
    made = {name: await asyncio.to_thread(make) for name, make in makes.items()}
    shipped = [await asyncio.to_thread(installation.ship, spec) for spec in made.values()]

    def outcomes() -> set[str]:
        return {installation.rollout(one.id).outcome for one in shipped}

    await until(lambda: "running" not in outcomes(), installation.log, 120.0)
    assert outcomes() == {"promoted"}, installation.log()
    return {name: spec.release for name, spec in made.items()}


async def all_told(
    alerts: Alerts, expected: Collection[Told], releases: Digests, seconds: float
) -> None:
    """Each of these has its alert, with the right cause on top."""
    missing = set(expected)

    def look() -> bool:
        alerts.look()
        for service, fault in list(missing):
            found = alerts.of(service, fault.monitor)
            if any(fits(alert, fault, releases) for alert in found):
                missing.discard((service, fault))
        return not missing

    await until(
        look, lambda: ([(name, one.monitor) for name, one in missing], alerts.told()), seconds
    )


async def all_done(
    installation: Installation,
    wanted: Mapping[str, str],
    serving: Mapping[str, str],
    seconds: float,
) -> dict[str, ActionView]:
    """What is declared was carried out.

    Args:
        wanted: The kinds of actions, by service; so is what comes back.
        serving: Digests of the releases that serve after that, by service.
    """
    done: dict[str, ActionView] = {}

    def look() -> bool:
        for action in installation.control.get(list[ActionView], "actions"):
            if action.verdict == "act" and action.settled_at is not None:
                done[action.service] = action
        champions = {row.name: row.champion for row in installation.status().services}
        return wanted.keys() <= done.keys() and serving.items() <= champions.items()

    await until(look, lambda: (wanted, done), seconds)
    assert {name: action.kind for name, action in done.items()} == wanted
    return done


def assert_only(
    ever: Mapping[str, set[str]], allowed: Mapping[str, Collection[str]], alerts: Alerts
) -> None:
    """Nothing else was told of any service, nor of fairlead's own parts."""
    others = {name: told - set(allowed.get(name, ())) for name, told in ever.items()}
    others = {name: told for name, told in others.items() if told}
    assert not others, (others, alerts.told())


async def until(done: Callable[[], bool], what: Callable[[], object], seconds: float) -> None:
    """Wait for a condition; a control that is too busy to answer counts as not done."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(FairleadError):
            if await asyncio.to_thread(done):
                return
        assert time.monotonic() < deadline, str(what())
        await asyncio.sleep(0.5)
