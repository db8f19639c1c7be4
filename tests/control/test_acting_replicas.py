"""Replicas that are down, missing or flapping are found; what happens to them is told."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from control.acting_world import acting, platform
from control.simulated_world import DIRECT, World
from fairlead.control.acting import replica_watch
from fairlead.control.acting.changes import change_of
from fairlead.control.acting.replica_watch import (
    DROPPED,
    EVENTS_AT_ONCE_MAX,
    FLAPS_WITHIN_S,
    GONE,
    READY,
    STARTED,
    ReplicaWatch,
)
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.control.world.wants import KnownRelease, ServiceWant
from fairlead.domain.release import Engine, Release, RemoteModel, short
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.desk import Desk, Duties, Look, note_told, step
from fairlead.monitoring.telling import Message, Route, Told
from fairlead.rollout.machine import Desired
from fairlead.rollout.plan import Plan
from fairlead.store.rows import EventRow

S = ReplicaState
RELEASE = Release(RemoteModel("http://x/v1", "m"), Engine("remote"))
DIGEST = "sha256:" + "ab" * 32
LIMIT = {RELEASE.engine_digest: 60.0}


def want(service: str = "bank", count: int = 2, **fields: Any) -> ServiceWant:
    return ServiceWant(
        ServiceSpec(service, DIGEST, "a", Plan(), **fields), Desired(champion=DIGEST), None,
        {DIGEST: KnownRelease(DIGEST, "a", RELEASE)}, {DIGEST: count},
    )  # fmt: skip


def replica(key: str, state: ReplicaState = S.READY, **fields: Any) -> ReplicaStatus:
    made = ReplicaStatus(key, RELEASE.engine_digest, state, "http://x", 7, 2, 0.0)
    return msgspec.structs.replace(made, **fields)


class Watched:
    """A watch that is shown replicas over time."""

    def __init__(self, *wants: ServiceWant) -> None:
        self.watch = ReplicaWatch()
        self.wants = wants or (want(),)
        self.now = 1_000.0
        self.events: list[EventRow] = []

    def look(self, *replicas: ReplicaStatus, after_s: float = 1.0) -> list[Condition]:
        self.now += after_s
        self.events += self.watch.look(self.wants, replicas, self.now)
        return self.watch.conditions(self.wants, self.now, LIMIT)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def monitors(found: list[Condition]) -> list[str]:
    return [condition.monitor for condition in found]


def test_while_all_are_ready_nothing_is_said() -> None:
    seen = Watched()
    for _ in range(100):
        assert seen.look(replica("r1"), replica("r2")) == []
    assert seen.events == []


def test_a_service_without_a_ready_replica_is_down_and_a_page() -> None:
    seen = Watched(want(fallbacks=("small",)))
    seen.look(replica("r1"), replica("r2"))
    found = seen.look(replica("r1", S.BACKING_OFF), replica("r2", S.UNHEALTHY))
    (down,) = [one for one in found if one.monitor == "service_down"]
    assert down.severity == "page"
    assert dict(down.labels)["release"] == short(DIGEST)
    assert down.pending_s > 0.0, "one that is started again at once is no outage"
    assert "its fallbacks are asked" in down.summary
    assert "service_down" not in monitors(seen.look(replica("r1", S.BACKING_OFF), replica("r2")))


@pytest.mark.parametrize("state", [S.STARTING, S.UNHEALTHY, S.BACKING_OFF])
def test_a_replica_is_down_when_it_is_not_ready_for_longer_than_a_start_takes(
    state: ReplicaState,
) -> None:
    seen = Watched()
    seen.look(replica("r1"), replica("r2"))
    bad = replica("r2", state, since=seen.now + 1.0, detail="no memory\nat line 7")
    assert monitors(seen.look(replica("r1"), bad)) == []
    assert monitors(seen.look(replica("r1"), bad, after_s=58.0)) == []
    (down,) = seen.look(replica("r1"), bad, after_s=2.0)
    assert dict(down.labels) == {
        "monitor": "replica_down", "service": "bank", "release": short(DIGEST), "replica": "r2",
    }  # fmt: skip
    assert down.summary == f"bank: replica r2 is {state.value}: no memory"
    assert seen.look(replica("r1"), replica("r2")) == []


def test_coming_and_going_between_states_does_not_begin_its_time_anew() -> None:
    seen = Watched()
    seen.look(replica("r1"), replica("r2"))
    found: list[Condition] = []
    for second in range(70):
        state = S.STARTING if second % 2 else S.UNHEALTHY
        found = seen.look(replica("r1"), replica("r2", state, since=seen.now + 1.0))
    assert monitors(found) == ["replica_down"]


def test_a_replica_that_has_failed_is_down_at_once_also_if_it_is_retried() -> None:
    seen = Watched()
    assert monitors(seen.look(replica("r1"), replica("r2", S.FAILED))) == ["replica_down"]


def test_replicas_that_nobody_starts_are_missing() -> None:
    seen = Watched(want(count=3))
    assert seen.look(replica("r1")) == []
    said = {DIGEST: "its weights are damaged"}
    seen.look(replica("r1"), after_s=61.0)
    (down,) = seen.watch.conditions(seen.wants, seen.now, LIMIT, said)
    assert down.summary == (
        "bank: 2 of its replicas are wanted and not started: its weights are damaged"
    )
    assert "replica" not in dict(down.labels)
    assert seen.look(replica("r1"), replica("r2"), replica("r3")) == []
    assert seen.look(replica("r1"), replica("r2")) == [], "its time begins anew"


def test_surplus_replicas_are_no_matter_of_anybody() -> None:
    seen = Watched(want(count=1))
    for _ in range(3):
        seen.look(replica("r1"), replica("r2", S.SURPLUS))
    assert seen.look(replica("r1"), replica("r2", S.STOPPING), after_s=500.0) == []
    assert seen.look(replica("r1")) == []
    assert seen.events == []


def flap(seen: Watched, times: int, start: int = 0, gap_s: float = 10.0) -> list[Condition]:
    found: list[Condition] = []
    for number in range(start, start + times):
        down = replica("r2", S.BACKING_OFF, restarts=number, since=seen.now, detail="killed")
        seen.look(replica("r1"), down, after_s=gap_s / 2)
        found = seen.look(replica("r1"), replica("r2", restarts=number + 1), after_s=gap_s / 2)
    return found


def test_three_drops_in_ten_minutes_are_flapping_and_two_are_not() -> None:
    seen = Watched()
    seen.look(replica("r1"), replica("r2"))
    assert flap(seen, 2) == []
    (found,) = flap(seen, 1, start=2)
    assert dict(found.labels) == {
        "monitor": "replica_flapping", "service": "bank", "release": short(DIGEST), "replica": "r2",
    }  # fmt: skip
    assert "3 times in 10 minutes" in found.summary
    assert seen.look(replica("r1"), replica("r2", restarts=3), after_s=FLAPS_WITHIN_S) == []


def test_drops_between_two_looks_are_counted_and_slow_ones_are_not() -> None:
    seen = Watched()
    seen.look(replica("r1"), replica("r2"))
    assert monitors(seen.look(replica("r1"), replica("r2", restarts=3))) == ["replica_flapping"]
    slow = Watched()
    slow.look(replica("r1"), replica("r2"))
    assert flap(slow, 12, gap_s=310.0) == []


def test_a_replica_that_stops_answering_again_and_again_flaps_too() -> None:
    seen = Watched()
    seen.look(replica("r1"), replica("r2"))
    for _ in range(3):
        seen.look(replica("r1"), replica("r2", S.UNHEALTHY))
        found = seen.look(replica("r1"), replica("r2"))
    assert monitors(found) == ["replica_flapping"]


def test_another_control_finds_the_drops_again_in_the_events() -> None:
    seen = Watched(want(), want("shop"))
    seen.look(replica("r1"), replica("r2"))
    flap(seen, 2)
    seen.look(replica("r1"), replica("r2", restarts=2), after_s=61.0)
    later = Watched(want(), want("shop"))
    later.now = seen.now
    later.watch.recall(seen.events)
    later.look(replica("r1"), replica("r2", restarts=2))
    assert later.look(replica("r1"), replica("r2", restarts=2)) == [], "each drop counts once"
    assert set(monitors(flap(later, 1, start=2))) == {"replica_flapping"}
    fresh = Watched()
    fresh.watch.recall([EventRow(1.0, DROPPED, "x", data=data) for data in (b"x", b"[]", b"{}")])
    fresh.look(replica("r1"), replica("r2", restarts=40))
    assert fresh.look(replica("r1"), replica("r2", restarts=40)) == []


def test_what_happens_is_told_to_each_service_with_its_release() -> None:
    seen = Watched(want(), want("shop"))
    seen.look(replica("r1"))
    seen.look(replica("r1"), replica("r2", S.STARTING, since=seen.now))
    seen.look(replica("r1"), replica("r2"), after_s=9.0)
    seen.look(replica("r1"), replica("r2", S.BACKING_OFF, detail="signal 9\nlog"), after_s=90.0)
    seen.look(replica("r1"))
    assert seen.kinds() == [STARTED] * 2 + [READY] * 2 + [DROPPED] * 2 + [GONE] * 2
    assert [event.service for event in seen.events[:2]] == ["bank", "shop"]
    assert seen.events[4].message == "replica r2 ended: signal 9"
    data = msgspec.json.decode(seen.events[4].data)
    assert (data["replica"], data["release"]) == ("r2", DIGEST)


def test_events_are_few_however_much_it_flaps_and_none_is_uncounted() -> None:
    seen = Watched()
    seen.look(replica("r1"), replica("r2"))
    flap(seen, 60, gap_s=2.0)
    drops = [event for event in seen.events if event.kind == DROPPED]
    assert len(drops) == 2, "one a minute"
    assert drops[1].message.startswith("replica r2 ended 3")
    many = Watched(want(count=500))
    many.look()
    many.look(*(replica(f"r{number}") for number in range(500)))
    assert len(many.events) == EVENTS_AT_ONCE_MAX


def test_a_clock_that_was_set_back_stops_nothing() -> None:
    seen = Watched()
    seen.look(replica("r1"), replica("r2"))
    seen.look(replica("r1"), replica("r2", S.FAILED, since=5_000.0))
    seen.now -= 900.0
    (down,) = seen.look(replica("r1"), replica("r2", S.FAILED, since=5_000.0))
    assert down.evidence[0].value == 0.0
    flap(seen, 1, start=1)
    assert seen.kinds().count(DROPPED) == 2


def test_a_replica_that_flaps_for_hours_is_one_alert_whose_first_cause_is_that_replica() -> None:
    """However often it goes and comes back: one alert, told of once."""
    seen, desk, dice = Watched(), Desk(), random.Random(3)
    duties = Duties(routes=(Route("pager", wait_s=0.0, repeat_s=1e6),))
    seen.look(replica("r1"), replica("r2"))
    drops, sent, told = 0, list[Message](), dict[str, Told]()
    next_drop = seen.now + 60.0
    while seen.now < 9_000.0:
        is_down = seen.now >= next_drop
        if is_down:
            drops, next_drop = drops + 1, seen.now + dice.uniform(30.0, 200.0)
        state = S.BACKING_OFF if is_down else S.READY
        shown = replica("r2", state, restarts=drops - is_down, since=seen.now, detail="killed")
        found = seen.look(replica("r1"), shown, after_s=5.0)
        changes = [one for row in seen.events if (one := change_of(row)) is not None]
        changes.append(Change(seen.now - 300.0, "traffic", "traffic rose", (("service", "bank"),)))
        looked = (("replica_flapping", "bank"), ("replica_down", "bank"), ("service_down", "bank"))
        look = Look(seen.now, tuple(found), looked, changes=tuple(changes))
        outcome = step(note_told(desk, told), duties, look)
        desk, told = outcome.desk, {one.key: one.told for one in outcome.messages}
        sent += outcome.messages
    assert drops > 50
    (alert,) = desk.alerts.values()
    assert (alert.of["monitor"], alert.of["replica"]) == ("replica_flapping", "r2")
    assert alert.causes[0].change.kind == "replica"
    assert "replica r2 " in alert.causes[0].words
    assert len(sent) == 1
    assert len(desk.incidents) == 1


# In the world


async def test_in_the_world_an_outage_is_a_condition_with_the_replicas_words_and_an_event(
    world: World,
) -> None:
    await world.first_champion(plan=msgspec.structs.replace(DIRECT, champion_replicas=2))
    seen = platform(world)
    await seen.look()
    assert seen.conditions(world.now) == []
    assert ("service_down", "bank") in seen.looked()
    for one in world.replicas_of("a"):
        world.target.set_state(one.id, S.FAILED, "no memory")
    await seen.look()
    found = seen.conditions(world.now)
    assert sorted(monitors(found)) == ["replica_down", "replica_down", "service_down"]
    assert all("no memory" in one.summary for one in found)
    told = [row for row in world.store.events("bank", limit=1_000) if row.kind == DROPPED]
    assert len(told) == 2
    await seen.look()
    (one, other) = [c for c in seen.changes(world.now - 60.0) if c.kind == "replica"]
    assert {dict(one.labels)["replica"], dict(other.labels)["replica"]} == {
        status.id for status in world.replicas_of("a")
    }


async def test_the_replicas_of_a_canary_are_its_rollouts_matter(world: World) -> None:
    await world.first_champion()
    await world.ship("b")
    for _ in range(3):
        await world.turn()
    for one in world.replicas_of("b"):
        world.target.set_state(one.id, S.FAILED, "it broke")
    await platform(world).look()
    assert [c for c in platform(world).conditions(world.now) if c.monitor in
            (replica_watch.SERVICE_DOWN, replica_watch.REPLICA_DOWN)] == []  # fmt: skip
    assert acting(world) is not None
