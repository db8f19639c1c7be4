"""A clock that is off is named; nothing is said of users that is only a wrong date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control.acting_world import platform
from control.simulated_world import World
from control.watching_world import WatchedWorld
from fairlead.control.acting.changes import change_of, event_of
from fairlead.control.acting.clock_watch import OFF, RIGHT, TOLD_AFTER_S, ClockWatch
from fairlead.control.world.hub import WorkerStatus
from fairlead.monitoring.causes import causes_of
from fairlead.store import open_store
from fairlead.store.rows import EventRow

HOUR = 3_600.0


def worker(number: int = 0, **fields: Any) -> WorkerStatus:
    made = WorkerStatus(f"b{number}", number, 100 + number, 1, 0.1)
    return msgspec.structs.replace(made, **fields)


@pytest.mark.parametrize(("ahead_s", "words"), [(2.5, "2.5 s ahead of"), (-60.0, "60.0 s behind")])
def test_a_clock_that_is_off_is_found(ahead_s: float, words: str) -> None:
    both = [worker(0, ahead_s=1.9), worker(1, ahead_s=ahead_s)]
    (off,) = ClockWatch().conditions(both)
    assert off.monitor == "clock_skew"
    assert f"worker 1 is {words} control's" in off.summary
    assert off.pending_s > 0.0, "one late call is no skew"


def test_clocks_that_agree_and_those_that_say_nothing_are_no_skew() -> None:
    assert list(ClockWatch().conditions([worker(0, ahead_s=-1.9), worker(1)])) == []
    assert list(ClockWatch().conditions([worker(0, ahead_s=99.0, silent_s=30.0)])) == []


def test_a_skew_is_one_event_when_it_begins_and_one_when_it_ends() -> None:
    watch = ClockWatch()
    told: list[EventRow] = []
    for second in range(200):
        ahead_s = 60.0 if 50 <= second < 150 else 0.1
        told += watch.look([worker(0, ahead_s=0.0), worker(1, ahead_s=ahead_s)], float(second))
    assert [event.kind for event in told] == [OFF, RIGHT]
    assert told[0].at == 50.0 + TOLD_AFTER_S
    assert "gateway worker 1 is 60.0 s ahead of" in told[0].message
    change, event = change_of(told[0]), event_of(told[1])
    assert change is not None
    assert change.kind == "clock"
    assert event is not None
    assert event.kind == "clock"


def test_a_skew_that_wavers_about_the_bound_is_one_event() -> None:
    """It is right again once it has been clearly so for a while."""
    watch = ClockWatch()
    told: list[EventRow] = []
    for second in range(600):
        ahead_s = 2.1 if second % 20 < 15 else 1.9 if second % 40 < 20 else 0.1
        told += watch.look([worker(0, ahead_s=ahead_s)], float(second))
    assert [event.kind for event in told] == [OFF]
    for second in range(600, 640):
        told += watch.look([worker(0, ahead_s=0.9)], float(second))
    assert [(event.kind, event.at) for event in told[1:]] == [(RIGHT, 595.0 + TOLD_AFTER_S)]


def test_one_late_call_and_a_worker_that_ended_while_it_was_off_are_no_events() -> None:
    watch = ClockWatch()
    assert watch.look([worker(0, ahead_s=-9.0)], 0.0) == []
    assert watch.look([worker(0, ahead_s=0.0)], TOLD_AFTER_S + 1.0) == []
    watch.look([worker(0, ahead_s=-9.0)], 100.0)
    assert len(watch.look([worker(0, ahead_s=-9.0)], 100.0 + TOLD_AFTER_S)) == 1
    assert watch.look([worker(1, ahead_s=0.0)], 200.0) == [], "the gateway was restarted"


async def test_what_begins_while_a_clock_is_off_has_that_as_a_cause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.first_champion()
    seen = platform(world)
    await seen.look()
    monkeypatch.setattr(world.plane.hub, "workers", lambda: [worker(0, ahead_s=30.0)])
    for _ in range(20):
        world.now += 1.0
        await seen.look()
    (skew,) = [one for one in seen.conditions(world.now) if one.monitor == "clock_skew"]
    assert "30.0 s ahead of" in skew.summary
    late = (("monitor", "monitor_blind"), ("service", "bank"), ("watched", "slo"))
    causes = causes_of(late, world.now, seen.changes(0.0))
    assert "clock" in {cause.change.kind for cause in causes}


# What monitors say of users meanwhile


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[WatchedWorld]:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    yield WatchedWorld(store)
    store.close()


def serve(world: WatchedWorld, skew_s: float) -> None:
    """Honest traffic, dated by a clock that is off."""
    world.now += skew_s
    world.serve(30)
    world.now -= skew_s


@pytest.mark.parametrize("skew_s", [-HOUR, -20.0, 20.0, HOUR])
async def test_honest_traffic_under_a_wrong_clock_and_after_it_raises_nothing_about_users(
    watched: WatchedWorld, skew_s: float
) -> None:
    """Eight minutes with each clock; that monitors do not see is said, where it is so."""
    watching = await watched.begin()
    said: dict[str, set[str]] = {}
    for moment, off_s in (("before", 0.0), ("while", skew_s), ("after", 0.0)):
        seen = said.setdefault(moment, set())
        for _ in range(40):
            serve(watched, off_s)
            await watching.look()
            seen.update(a.of["monitor"] for a in watching.desk.alerts.values() if a.is_firing)
    assert said["before"] == set()
    assert said["while"] | said["after"] <= {"monitor_blind"}
    if skew_s == -HOUR:
        assert "monitor_blind" in said["while"], "what is dated an hour ago is not seen"
    if skew_s == HOUR:
        assert "monitor_blind" in said["after"], "what is dated now is before what was seen"
    await watching.close()


async def test_failures_under_a_wrong_clock_are_told_all_the_same(watched: WatchedWorld) -> None:
    watching = await watched.begin()
    for _ in range(20):
        serve(watched, HOUR)
        await watching.look()
    for _ in range(20):
        watched.now += HOUR
        watched.serve(30, status=503, error="no_replica")
        watched.now -= HOUR
        await watching.look()
    firing = {a.of["monitor"] for a in watching.desk.alerts.values() if a.is_firing}
    assert "slo" in firing
    await watching.close()
