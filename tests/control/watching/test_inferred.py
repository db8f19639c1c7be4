"""Who must have changed is told by what a provider's release, or an own one, was learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from control.simulated_world import World
from control.watching_world import WatchedWorld
from fairlead.control.shipping.overview import Overview
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import labels_of
from fairlead.monitoring.monitors.errors import ErrorsMonitor
from fairlead.monitoring.monitors.interface import Monitor
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.store import open_store

SETTINGS = MonitorSettings(learn=200)


@pytest.mark.parametrize("is_remote", [True, False])
async def test_of_a_provider_that_fails_with_nothing_else_changed_it_is_the_provider(
    tmp_path: Path, is_remote: bool
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    world = WatchedWorld(store)
    world.platform.served = [world.platform.served[0]._replace(is_remote=is_remote)]
    promoted = Change(world.now - 30.0, "release", "a promoted", labels_of(service="bank"))
    world.platform.changes = lambda since: [promoted]  # type: ignore[assignment]

    def errors(_served: Any, release: str) -> Sequence[Monitor]:
        return [ErrorsMonitor("bank", release, SETTINGS)]

    watching = await world.begin(errors)
    for statuses in ((200,), (200,), (200, 500)):
        for status in statuses:
            world.serve(200, status=status, error="upstream_failed" if status == 500 else "")
            await watching.look()
    (alert,) = [one for one in watching.desk.alerts.values() if one.of["monitor"] == "errors"]
    expected = [("provider", True)] if is_remote else []
    assert [(one.change.kind, one.change.is_inferred) for one in alert.causes] == expected
    await watching.close()
    store.close()


async def test_who_answers_is_known_of_each_service(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.first_champion()
    watched = world.plane.watching._platform
    assert [one.is_remote for one in watched.services()] == [False]
    monkeypatch.setattr(Overview, "is_remote", lambda _, release: release == world.digests["a"])
    assert [one.is_remote for one in watched.services()] == [True]
