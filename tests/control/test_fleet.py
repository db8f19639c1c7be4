"""Replicas: as many as are wanted, never from damaged weights, stopped only when unused."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import msgspec
import pytest

from control.simulated_world import DIRECT, World
from fairlead.control.world.fleet import Fleet
from fairlead.domain.replica import Launch, ReplicaState
from fairlead.registry.layout import Layout
from fairlead.targets import LocalTarget

TWO = msgspec.structs.replace(DIRECT, champion_replicas=2)
S = ReplicaState


def weights_of(world: World, release: str) -> Path:
    (path,) = world.registry.weights(world.digests[release])
    return path


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    replace(path, bytes(data))


def replace(path: Path, data: bytes) -> None:
    """Another file of this name: the one there is shared with other tests."""
    path.unlink()
    path.write_bytes(data)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


async def test_a_lost_replica_is_replaced(world: World) -> None:
    await world.first_champion(plan=TWO)
    lost = world.replicas_of("a")[0].id
    world.target.lose(lost)
    await world.turn()
    await world.turn()
    assert [r.state for r in world.replicas_of("a")] == [S.READY, S.READY]
    await world.turn()
    endpoints = world.route().releases[world.digests["a"]].endpoints
    assert [e.replica for e in endpoints] == [r.id for r in world.replicas_of("a")]
    assert lost not in [e.replica for e in endpoints]


async def test_only_ready_replicas_are_in_the_snapshot(world: World) -> None:
    await world.first_champion(plan=TWO)
    first, second = (r.id for r in world.replicas_of("a"))
    world.target.set_state(first, S.UNHEALTHY)
    await world.turn()
    endpoints = world.route().releases[world.digests["a"]].endpoints
    assert [e.replica for e in endpoints] == [second]


async def test_nothing_is_started_from_damaged_weights_and_what_runs_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.first_champion(plan=TWO)
    first, second = (r.id for r in world.replicas_of("a"))
    damage(weights_of(world, "a"))
    world.target.lose(first)
    started = len(world.target.started)
    for _ in range(5):
        await world.turn()
    assert len(world.target.started) == started
    assert [r.id for r in world.replicas_of("a")] == [second]
    assert world.route().champion == world.digests["a"]
    assert [e.replica for e in world.route().releases[world.digests["a"]].endpoints] == [second]
    (line,) = said(caplog)
    assert "does not match its digest" in line


async def test_a_replica_that_ended_is_not_counted_as_running(world: World) -> None:
    """One that backs off would be started again from the damaged file."""
    await world.first_champion(plan=TWO)
    damage(weights_of(world, "a"))
    world.target.set_state(world.replicas_of("a")[0].id, S.BACKING_OFF)
    await world.turn()
    assert [(wish.count, wish.start) for wish in world.target.wanted] == [(1, False)]


async def test_what_runs_goes_on_through_a_restart_of_control_on_damaged_weights(
    world: World,
) -> None:
    await world.first_champion(plan=TWO)
    running = [r.id for r in world.replicas_of("a")]
    damage(weights_of(world, "a"))
    await world.restart()
    for _ in range(8):
        await world.turn()
    assert [r.id for r in world.replicas_of("a")] == running
    assert [r.state for r in world.replicas_of("a")] == [S.READY, S.READY]
    assert len(world.target.started) == 2


async def test_the_rollout_of_a_damaged_release_fails_with_the_reason(world: World) -> None:
    await world.first_champion()
    rollout = await world.ship("b")
    damage(weights_of(world, "b"))
    view = await world.finish(rollout)
    assert view.outcome == "failed"
    assert "does not match its digest" in view.reason
    assert world.replicas_of("b") == []
    assert world.champion() == world.digests["a"]


async def test_repaired_weights_are_served_again(world: World) -> None:
    await world.first_champion(plan=TWO)
    path = weights_of(world, "a")
    sound = path.read_bytes()
    damage(path)
    world.target.lose(world.replicas_of("a")[0].id)
    await world.turn()
    assert len(world.replicas_of("a")) == 1
    assert [wish.start for wish in world.target.wanted] == [False]
    replace(path, sound)
    await world.turn()
    await world.turn()
    assert [r.state for r in world.replicas_of("a")] == [S.READY, S.READY]


async def test_a_disk_that_cannot_be_read_for_a_while_does_not_fail_a_rollout(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is started meanwhile; the error says nothing of the release."""
    await world.first_champion()
    rollout = await world.ship("b", plan=DIRECT)

    def unreadable(self: Layout, digest: str) -> bool:
        from fairlead.domain.errors import StorageFailed

        raise StorageFailed("the disk does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(Layout, "_verify", unreadable)
        for _ in range(3):
            await world.turn()
        assert world.replicas_of("b") == []
        assert world.row(rollout).active
        assert len(world.replicas_of("a")) == 1
    assert len(said(caplog)) == 2, "once for each release"
    assert (await world.finish(rollout)).outcome == "promoted"


async def test_a_replica_is_stopped_only_when_all_workers_have_left_it(world: World) -> None:
    """A worker that is slow, and then one with a request open, keep it; the world asserts it."""
    await world.first_champion()
    (old,) = world.replicas_of("a")
    slow, busy = world.workers
    slow.is_hung = True
    rollout = await world.ship("b", plan=DIRECT)
    for _ in range(10):
        await world.turn()
    assert old.id not in world.target.stopped
    assert world.row(rollout).active, "not promoted before every worker is on the new split"
    slow.is_hung = False
    busy.open = {old.id}
    await world.finish(rollout)
    for _ in range(5):
        await world.turn()
    assert old.id not in world.target.stopped
    assert [r.state for r in world.replicas_of("a")] == [S.SURPLUS]
    busy.open = set()
    await world.turn()
    assert world.target.stopped == [old.id]


async def test_closing_says_whether_the_replicas_are_to_stop(world: World) -> None:
    await world.first_champion()
    await world.plane.close(stop_replicas=True)
    await world.start()
    assert world.target.closed_with == [True]


async def test_a_killed_process_is_not_started_again_from_weights_damaged_meanwhile(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real processes: neither the target by itself nor control starts it."""
    await world.first_champion()
    marks = tmp_path / "starts"
    sleeper = Launch(
        argv=("/bin/sh", "-c", 'echo started >> "$0"; exec sleep 60', str(marks)), probe_body={}
    )
    monkeypatch.setattr("fairlead.control.world.fleet.launch", lambda _release, _paths: sleeper)
    target = LocalTarget(tmp_path / "replicas", supervisor_pid=None, environ={"PATH": "/bin"})
    fleet = Fleet(world.registry, target, lambda: world.now)
    wants = world.plane._overview.wants()
    await fleet.adopt()
    try:
        async with asyncio.timeout(30.0):
            while not marks.exists():
                await fleet.reconcile(wants, lambda _: True)
                await asyncio.sleep(0.02)
            damage(weights_of(world, "a"))
            (replica,) = target.replicas()
            os.kill(replica.pid, signal.SIGKILL)
            while replica.pid in [r.pid for r in target.replicas()]:
                await fleet.reconcile(wants, lambda _: True)
                await asyncio.sleep(0.02)
        for _ in range(10):
            await fleet.reconcile(wants, lambda _: True)
            await asyncio.sleep(0.02)
        assert marks.read_text() == "started\n"
        assert not [r for r in target.replicas() if r.pid]
    finally:
        await fleet.close(stop=True)


async def test_a_rollout_shows_what_its_replicas_say_while_they_are_waited_for(
    world: World,
) -> None:
    world.target.held.add(world.engine_of("a"))
    rollout = await world.ship("a", plan=DIRECT)
    await world.turn()
    assert (await world.plane.reports.rollout(rollout)).waiting == ""
    (starting,) = world.replicas_of("a")
    world.target.set_state(starting.id, S.STARTING, "loading\nprobe: status 503\n")
    waiting = (await world.plane.reports.rollout(rollout)).waiting
    assert waiting == f"replica {starting.id} starting: probe: status 503"
    world.target.held.clear()
    assert (await world.finish(rollout)).waiting == ""
