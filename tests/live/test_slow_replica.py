"""One of three replicas becomes slow under live traffic, and nobody else is accused.

All of them are at loads that nobody has learnt: there was more to do when the monitor learnt, and
the balancer gives less to the slow one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from fairlead.control.watching.watch_views import AlertView, MonitorView
from fairlead.domain.errors import FairleadError
from support.faulty_parts import kill_replica
from support.faulty_services import USUALLY_WATCHED, local
from support.installation import Installation
from support.load import Load, traffic
from support.slow_replicas import throttled

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(500)]

CROWDED, HONEST = "crowded", "calm"
REPLICAS = {CROWDED: 3, HONEST: 2}
RATES = {CROWDED: 40.0, HONEST: 14.0}
"""Requests a second."""
MORE_AT_FIRST = 15.0
LEARNT_S, FOUND_S, OVER_S = 90.0, 240.0, 60.0
SLOW = "slow_replica"
AS_FAST = 1.3
"""Times as long as the others: what is tolerated."""

Questions = list[tuple[str, str]]


@dataclass
class Watched:
    """Every alert that somebody had to look at, by service, monitor and replica, as seen last."""

    installation: Installation
    told: dict[tuple[str, str, str], AlertView] = field(default_factory=dict)

    def look(self) -> None:
        """Look anew."""
        for alert in self.installation.control.get(list[AlertView], "alerts", limit=1000):
            if alert.severity != "info":
                about = alert.service, alert.monitor, alert.labels.get("replica", "")
                self.told[about] = alert

    def monitors(self) -> dict[str, str]:
        """How far the monitors of slow replicas are, by service."""
        found = self.installation.control.get(list[MonitorView], "monitors")
        return {one.service: one.standing for one in found if one.monitor == SLOW}

    def have_learnt(self) -> bool:
        """Whether they have."""
        self.look()
        standing = self.monitors()
        return standing.keys() == REPLICAS.keys() and all(
            words.startswith("watching") for words in standing.values()
        )

    @property
    def slow(self) -> list[AlertView]:
        """Alerts on slow replicas."""
        return [alert for (_, monitor, _), alert in self.told.items() if monitor == SLOW]

    def is_told(self) -> bool:
        """Whether there is such an alert."""
        self.look()
        return bool(self.slow)

    def is_as_fast(self) -> bool:
        """Whether the only alert says that its replica is as fast as the others by now."""
        self.look()
        (alert,) = self.slow
        (now,) = [one.value for one in alert.evidence if one.name.startswith("times as long now")]
        return now < AS_FAST

    async def until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait for one of these; a control that is too busy to answer counts as not done."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(FairleadError):
                if await asyncio.to_thread(done):
                    return
            assert time.monotonic() < deadline, (done.__name__, self.told, self.monitors())
            await asyncio.sleep(0.5)


async def test_a_slow_replica_is_named_at_loads_that_nobody_has_learnt(
    installation: Installation, questions: Questions
) -> None:
    releases = await asyncio.to_thread(serve, installation)

    def load(service: str, rate: float) -> Load:
        of = installation.gateway, installation.key, questions
        return Load(*of, rate, service=service, feedback=False)

    watched = Watched(installation)
    async with traffic([load(service, rate) for service, rate in RATES.items()]):
        async with traffic([load(CROWDED, MORE_AT_FIRST)]):
            await watched.until(watched.have_learnt, LEARNT_S)
        slow = await asyncio.to_thread(kill_replica, installation, releases[CROWDED])
        with throttled(slow.pid):
            await watched.until(watched.is_told, FOUND_S)
        (alert,) = watched.slow
        assert (alert.service, alert.labels["replica"]) == (CROWDED, slow.id), watched.told
        assert f"replica {slow.id} took " in alert.summary
        assert f"replica {slow.id} " in alert.causes[0].words, alert.causes
        await watched.until(watched.is_as_fast, OVER_S)
    consequences = {(CROWDED, monitor, "") for monitor in ("latency", "throughput")}
    assert watched.told.keys() - consequences == {(CROWDED, SLOW, slow.id)}, watched.told


def serve(installation: Installation) -> dict[str, str]:
    """Ship a release to each service, and wait until they serve; their digests."""
    make = partial(local, installation, model="b", more=USUALLY_WATCHED)
    specs = [
        make(service, context=1024 + 256 * place, replicas=REPLICAS[service])
        for place, service in enumerate(REPLICAS)
    ]
    for rollout in [installation.ship(spec).id for spec in specs]:
        assert installation.finish(rollout).outcome == "promoted", installation.log()
    return {spec.service: spec.release for spec in specs}
