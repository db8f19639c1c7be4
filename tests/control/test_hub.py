"""The hub knows what each worker runs on, and when a replica may be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from fairlead.control.limits.leases import Leases
from fairlead.control.world.hub import GONE_AFTER_S, REPORT_GRACE_S, SnapshotHub
from fairlead.domain.quota import Quota, UseRow
from fairlead.store import open_store
from fairlead.wire.quota import Grants, QuotaReport, WindowUse
from fairlead.wire.snapshot import (
    Endpoint,
    KeyEntry,
    ReleaseRoute,
    ServiceRoute,
    Snapshot,
    SyncRequest,
)


class World:
    """Simulated time and processes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.dead: set[int] = set()


class NothingKept:
    """Where it is kept what was used of limits."""

    def quota_use(self, now: float) -> list[UseRow]:
        return []

    def put_quota_use(self, rows: Sequence[UseRow], now: float) -> None:
        """Keep nothing."""


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def hub(world: World) -> SnapshotHub:
    return SnapshotHub(clock=lambda: world.now, is_alive=lambda pid: pid not in world.dead)


def snapshot(version: int, *replicas: str) -> Snapshot:
    endpoints = tuple(Endpoint(name, "http://127.0.0.1:1") for name in replicas)
    route = ReleaseRoute("sha256:a", "a", endpoints)
    return Snapshot(
        version, "00", services={"s": ServiceRoute("s", {"sha256:a": route}, "sha256:a")}
    )


def says(
    version: int, *, boot: str = "w", pid: int = 1, busy: tuple[str, ...] = (), worker: int = 0
) -> SyncRequest:
    return SyncRequest(worker, boot, pid, version, busy, wait_s=0.0)


async def test_a_worker_gets_a_newer_snapshot_at_once(hub: SnapshotHub) -> None:
    hub.publish(snapshot(3, "r1"))
    assert await hub.sync(says(0)) == hub.snapshot


async def test_a_worker_with_the_newest_snapshot_gets_none(hub: SnapshotHub) -> None:
    hub.publish(snapshot(3, "r1"))
    assert await hub.sync(says(3)) is None


async def test_a_waiting_worker_is_answered_when_a_snapshot_is_published(hub: SnapshotHub) -> None:
    hub.publish(snapshot(1, "r1"))
    waiting = asyncio.create_task(hub.sync(SyncRequest(0, "w", 1, 1, wait_s=5.0)))
    await asyncio.sleep(0)
    hub.publish(snapshot(2, "r1"))
    answer = await waiting
    assert answer is not None
    assert answer.version == 2


async def test_without_workers_nothing_is_current(hub: SnapshotHub) -> None:
    hub.publish(snapshot(1))
    assert not hub.is_current


async def test_it_is_current_when_every_live_worker_has_acknowledged(hub: SnapshotHub) -> None:
    hub.publish(snapshot(2))
    await hub.sync(says(2, boot="one", pid=1))
    await hub.sync(says(1, boot="two", pid=2))
    assert not hub.is_current
    await hub.sync(says(2, boot="two", pid=2))
    assert hub.is_current


async def test_a_dead_worker_is_not_waited_for(hub: SnapshotHub, world: World) -> None:
    hub.publish(snapshot(2))
    await hub.sync(says(2, boot="one", pid=1))
    await hub.sync(says(1, boot="two", pid=2))
    world.now, world.dead = 1.0, {2}
    assert hub.is_current
    assert [worker.boot for worker in hub.workers()] == ["one"]


async def test_a_silent_worker_that_still_runs_is_waited_for_but_not_for_ever(
    hub: SnapshotHub, world: World
) -> None:
    hub.publish(snapshot(2))
    await hub.sync(says(1, boot="hung", pid=2))
    world.now = GONE_AFTER_S - 1
    assert not hub.is_current
    await hub.sync(says(2, boot="one", pid=1))
    world.now = GONE_AFTER_S + 1
    assert hub.is_current


async def test_a_replica_in_the_snapshot_may_not_be_stopped(hub: SnapshotHub) -> None:
    hub.publish(snapshot(1, "r1"))
    await hub.sync(says(1))
    assert not hub.may_stop("r1")


async def test_a_replica_may_be_stopped_once_no_worker_knows_it_or_uses_it(
    hub: SnapshotHub,
) -> None:
    hub.publish(snapshot(1, "r1", "r2"))
    await hub.sync(says(1))
    hub.publish(snapshot(2, "r2"))
    assert not hub.may_stop("r1"), "the worker still runs on the older snapshot"
    await hub.sync(says(2, busy=("r1",)))
    assert not hub.may_stop("r1"), "a request is open on it"
    await hub.sync(says(2))
    assert hub.may_stop("r1")


async def test_a_replica_that_came_back_into_the_snapshot_stays(hub: SnapshotHub) -> None:
    for version, replicas in ((1, ("r1",)), (2, ()), (3, ("r1",))):
        hub.publish(snapshot(version, *replicas))
    await hub.sync(says(3))
    assert not hub.may_stop("r1")


@pytest.fixture
async def of_two(world: World) -> SnapshotHub:
    """The hub of a control that has just started, beside two workers."""
    return SnapshotHub(
        clock=lambda: world.now, is_alive=lambda pid: pid not in world.dead, expected_workers=2
    )


async def test_nothing_is_known_before_all_expected_workers_have_reported(
    of_two: SnapshotHub,
) -> None:
    of_two.publish(snapshot(7, "r1"))
    assert not of_two.may_stop("gone")
    await of_two.sync(says(7, boot="one", pid=1))
    assert not of_two.is_current
    assert not of_two.may_stop("gone")
    await of_two.sync(says(7, boot="again", pid=1))
    assert not of_two.is_current, "two lives of one worker are one worker"
    await of_two.sync(says(7, boot="two", pid=2, worker=1))
    assert of_two.is_current
    assert of_two.may_stop("gone")


async def test_a_worker_that_never_reports_is_waited_for_a_while_only(
    of_two: SnapshotHub, world: World
) -> None:
    of_two.publish(snapshot(7, "r1"))
    world.now = REPORT_GRACE_S - 0.1
    await of_two.sync(says(7))
    assert not of_two.is_current
    world.now = REPORT_GRACE_S
    assert of_two.is_current
    assert of_two.may_stop("gone")


async def test_the_replacement_of_a_dead_worker_is_waited_for_a_while_only(
    of_two: SnapshotHub, world: World
) -> None:
    """It starts from the snapshot on disk, and may send before it reports."""
    of_two.publish(snapshot(7, "r1"))
    world.now = 100.0
    await of_two.sync(says(7, boot="one", pid=1))
    await of_two.sync(says(7, boot="two", pid=2, worker=1))
    assert of_two.is_current
    world.now, world.dead = 101.0, {2}
    assert not of_two.is_current
    assert not of_two.may_stop("gone")
    world.now = 101.0 + REPORT_GRACE_S
    assert of_two.is_current
    assert of_two.may_stop("gone")


async def test_without_a_snapshot_nothing_may_be_stopped(hub: SnapshotHub) -> None:
    await hub.sync(says(3))
    assert not hub.may_stop("r1")


async def test_a_replica_of_the_hub_before_is_kept_until_workers_have_left_its_snapshot(
    hub: SnapshotHub,
) -> None:
    """This hub has never published it, but the worker may still send to it."""
    hub.publish(snapshot(8, "r2"))
    await hub.sync(says(7))
    assert not hub.may_stop("r1")
    await hub.sync(says(8))
    assert hub.may_stop("r1")


async def test_a_worker_on_a_later_version_than_the_newest_is_not_current(
    hub: SnapshotHub,
) -> None:
    """The store was restored; nobody knows what that version says."""
    hub.publish(snapshot(3, "r1"))
    await hub.sync(says(50))
    assert hub.highest_reported == 50
    assert not hub.is_current
    assert not hub.may_stop("r2")


async def test_a_waiting_worker_is_never_given_an_older_snapshot(hub: SnapshotHub) -> None:
    waiting = asyncio.create_task(hub.sync(SyncRequest(0, "w", 1, 50, wait_s=5.0)))
    await asyncio.sleep(0)
    hub.publish(snapshot(3, "r1"))
    assert await waiting is None


async def test_a_worker_that_lacks_gets_what_another_one_gives_back(
    world: World, tmp_path: Path
) -> None:
    """The other one waits for news meanwhile, and is told at once to hold less."""
    at = 1_764_000_000.0
    hub = SnapshotHub(clock=lambda: world.now, is_alive=lambda _: True, expected_workers=2)
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    hub.leases = Leases(store, 2, now=lambda: at, monotonic=lambda: world.now)
    key = KeyEntry("k", "k", "aa", quota=Quota(requests_per_minute=100))
    hub.publish(Snapshot(1, "00", keys=(key,), workers=2))
    limit, start = "key:k:requests_per_minute", int(at)

    def asks(number: int, sequence: int, *uses: WindowUse, wait_s: float = 5.0) -> SyncRequest:
        report = QuotaReport(f"s{number}", number, sequence, uses)
        return SyncRequest(number, f"b{number}", 1, 1, wait_s=wait_s, quota=report)

    idle = asyncio.create_task(hub.sync(asks(1, 1)))
    await asyncio.sleep(0)
    full = WindowUse(limit, start, 50, 50, 60, 1)
    busy = asyncio.create_task(hub.sync(asks(0, 1, full)))
    told = await idle
    assert isinstance(told, Grants)
    (less,) = told.grants
    assert less.held < 10
    world.now += 0.1
    back = asks(1, 2, WindowUse(limit, start, less.held, 0, 0, 0), wait_s=0.0)
    await hub.sync(back)
    got = await busy
    assert isinstance(got, Grants)
    assert got.grants[0].held == 100 - less.held
    await hub.leases.save(at_once=True)
    assert [(row.seat, row.used) for row in store.quota_use(at)] == [("s0", 50)]
    store.close()


async def test_a_question_that_was_given_up_takes_nothing_from_the_one_after_it(
    world: World,
) -> None:
    hub = SnapshotHub(clock=lambda: world.now, is_alive=lambda _: True, expected_workers=2)
    at = 1_764_000_000.0
    leases = Leases(NothingKept(), 2, now=lambda: at, monotonic=lambda: world.now)
    hub.leases = leases
    key = KeyEntry("k", "k", "aa", quota=Quota(requests_per_minute=100))
    hub.publish(Snapshot(1, "00", keys=(key,), workers=2))
    limit, start = "key:k:requests_per_minute", int(at)

    def asks(number: int, sequence: int, *uses: WindowUse, wait_s: float) -> SyncRequest:
        report = QuotaReport(f"s{number}", number, sequence, uses)
        return SyncRequest(number, f"b{number}", 1, 1, wait_s=wait_s, quota=report)

    full = WindowUse(limit, start, 50, 50, 60, 1)
    given_up = asyncio.create_task(hub.sync(asks(0, 1, full, wait_s=0.5)))
    await asyncio.sleep(0)
    world.now += 0.1
    newest = asyncio.create_task(hub.sync(asks(0, 2, full, wait_s=5.0)))
    await asyncio.sleep(0)
    world.now += 0.1
    await hub.sync(asks(1, 1, WindowUse(limit, start, 10, 0, 0, 0), wait_s=0.0))
    got = await newest
    assert isinstance(got, Grants)
    assert got.grants[0].held > 50
    assert await given_up is None


async def test_old_processes_of_a_restarted_gateway_are_waited_for(world: World) -> None:
    """Control came up while the old process of worker 0 (pid 3) still ended its requests."""
    hub = SnapshotHub(
        clock=lambda: world.now,
        is_alive=lambda pid: pid not in world.dead,
        expected_workers=2,
        expected_pids=(1, 2, 3),
    )
    hub.publish(snapshot(2, "r2"))
    await hub.sync(says(2, boot="new", pid=1))
    await hub.sync(says(2, boot="other", pid=2, worker=1))
    assert not hub.may_stop("r1")
    await hub.sync(says(2, boot="old", pid=3, busy=("r1",)))
    assert hub.is_current
    assert not hub.may_stop("r1")
    world.now += 1.0
    world.dead.add(3)
    assert hub.may_stop("r1")


async def test_an_old_process_that_has_ended_unheard_is_not_waited_for(world: World) -> None:
    hub = SnapshotHub(
        clock=lambda: world.now,
        is_alive=lambda pid: pid not in world.dead,
        expected_workers=1,
        expected_pids=(1, 3),
    )
    hub.publish(snapshot(2))
    await hub.sync(says(2, pid=1))
    assert not hub.is_current
    world.dead.add(3)
    assert hub.is_current
