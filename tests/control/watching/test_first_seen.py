"""Since when a release's monitors have seen what they hold against what comes: kept, inherited."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from control.watching_world import WatchedWorld
from fairlead.control.watching.first_seen import FirstSeen
from fairlead.control.watching.release_monitors import MONITOR, PART, ReleaseMonitors
from fairlead.monitoring.baseline import Compared
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import labels_of
from fairlead.monitoring.monitors.errors import ErrorsMonitor
from fairlead.monitoring.monitors.exercise import Made
from fairlead.monitoring.monitors.interface import Monitor, Seen
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.store import open_store

OF = ("bank", "sha256:a")
BEGAN = 1_000_000.0
SETTINGS = MonitorSettings(learn=200)


class Watched:
    """A monitor of errors, and the requests that it sees."""

    def __init__(self) -> None:
        self.monitors = ReleaseMonitors(*OF, lambda: [ErrorsMonitor(*OF, SETTINGS)])
        self.at = BEGAN
        self._dice = random.Random(5)

    def ask(self, count: int, failing: float = 0.0) -> None:
        for _ in range(count):
            is_failed = self._dice.random() < failing
            request = Made(id=f"{self.at}", started_at=self.at, status=500 if is_failed else 200)
            self.monitors.see(Seen(request, 1.0, 1.0, is_failed))
            self.at += 1.0

    def since(self, *, is_remote: bool = False) -> float | None:
        (found,) = self.monitors.conditions(self.at, is_remote=is_remote)
        assert found.baseline is not None
        assert found.baseline.of is Compared.ANSWERED
        assert found.baseline.is_remote is is_remote
        return found.baseline.since


@pytest.fixture
def watched() -> Watched:
    made = Watched()
    made.ask(300)
    return made


def test_what_is_wrong_says_since_when_that_was_learnt_which_it_is_held_against(
    watched: Watched,
) -> None:
    watched.ask(200, failing=0.5)
    assert watched.since() == watched.since(is_remote=True) == BEGAN


def test_accepted_it_begins_anew(watched: Watched) -> None:
    watched.monitors.accept("errors")
    began = watched.at
    watched.ask(300)
    watched.ask(200, failing=0.5)
    assert watched.since() == began


def test_it_is_kept_and_what_was_kept_without_it_excludes_nothing(watched: Watched) -> None:
    kept = watched.monitors.documents()
    for is_old in (False, True):
        again = Watched()
        again.at = watched.at
        documents = {
            key: data.replace(b'"since":1000000.0', b'"since":null') if is_old else data
            for (kind, key), data in kept.items()
            if kind == MONITOR
        }
        parts = {key: data for (kind, key), data in kept.items() if kind == PART}
        again.monitors.restore(documents, parts)
        again.ask(200, failing=0.5)
        assert again.since() == (None if is_old else BEGAN)


def test_one_goes_on_with_what_the_release_before_has_seen_if_that_has_seen_anything() -> None:
    before, after = FirstSeen(["drift"]), FirstSeen(["drift"])
    after.see(20.0)
    after.inherit("drift", before)
    assert after.since("drift") == 20.0
    before.see(10.0)
    after.inherit("drift", before)
    assert after.since("drift") == 10.0
    after.see(30.0)
    assert after.since("drift") == 10.0


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
