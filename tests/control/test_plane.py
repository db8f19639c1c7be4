"""The control loop: what it survives, and what it must not survive in silence."""

from __future__ import annotations

import logging

import pytest

from control.simulated_world import DIRECT, World
from fairlead.control.parts import Ground
from fairlead.control.plane import ControlPlane
from fairlead.control.world.hub import SnapshotHub
from fairlead.domain.errors import StorageFailed
from support.waiting import until


@pytest.fixture
async def looping(world: World) -> ControlPlane:
    """A plane over the same world whose loop is not started yet."""
    ground = Ground(
        store=world.store,
        registry=world.registry,
        target=world.target,
        hub=SnapshotHub(clock=lambda: world.now, is_alive=lambda _pid: True),
        gateway_url="http://127.0.0.1:7600",
        now=lambda: world.now,
        monotonic=lambda: world.now,
        new_id=world.new_id,
    )
    return ControlPlane(ground)


async def test_the_loop_turns_by_itself_and_at_once_when_it_is_woken(
    world: World, looping: ControlPlane
) -> None:
    await looping.start()
    await looping.ship(world.spec("a", plan=DIRECT))
    await until(lambda: len(world.target.started) == 1)
    await looping.close(stop_replicas=False)
    assert world.target.closed_with == [False]


async def test_an_error_of_the_world_is_said_once_and_the_loop_goes_on(
    world: World,
    looping: ControlPlane,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full disk ends; what was asked for is done then."""
    failures = 0

    def full() -> list[object]:
        nonlocal failures
        failures += 1
        raise StorageFailed("the disk is full")

    def turns_and_fails() -> bool:
        looping.wake()
        return failures >= 3

    await looping.start()
    with monkeypatch.context() as broken:
        broken.setattr(world.store, "list_keys", full)
        await until(turns_and_fails)
    told = [r for r in caplog.records if "the disk is full" in r.getMessage()]
    assert len(told) == 1
    looping.wake()
    await until(lambda: looping.hub.snapshot is not None)
    await looping.close(stop_replicas=False)


async def test_an_error_that_is_none_of_ours_is_reported_so_that_the_process_ends(
    world: World, looping: ControlPlane, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A control that answers but decides nothing would be worse than none."""
    broken: list[bool] = []

    async def bug(*_arguments: object) -> None:
        raise OSError("out of file descriptors")

    monkeypatch.setattr(world.target, "reconcile", bug)
    await looping.start(on_broken=lambda: broken.append(True))
    await until(lambda: broken == [True])
    assert [r.levelno for r in caplog.records if "loop has ended" in r.getMessage()] == [
        logging.CRITICAL
    ]
    await looping.close(stop_replicas=False)
    assert broken == [True]


async def test_closing_is_no_failure(world: World, looping: ControlPlane) -> None:
    broken: list[bool] = []
    await looping.start(on_broken=lambda: broken.append(True))
    await looping.close(stop_replicas=True)
    assert broken == []
    assert world.target.closed_with == [True]


@pytest.mark.parametrize("failing", ["rollouts", "fleet"])
async def test_a_step_that_fails_does_not_keep_the_others_from_being_taken(
    world: World, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A rollout that cannot be stored must not keep a lost replica down, or a key in force."""
    await world.first_champion()
    key = await world.plane.keys.create("leaked")
    await world.turn()
    assert world.plane.hub.snapshot is not None
    assert key.id in [entry.id for entry in world.plane.hub.snapshot.keys]

    async def full(*_arguments: object) -> None:
        raise StorageFailed(f"{failing}: the disk is full")

    part = world.plane._rollouts if failing == "rollouts" else world.plane._fleet
    monkeypatch.setattr(part, "advance" if failing == "rollouts" else "reconcile", full)
    (lost,) = world.replicas_of("a")
    world.target.lose(lost.id)
    await world.plane.keys.revoke(key.id)
    with pytest.raises(StorageFailed, match=f"{failing}: the disk is full"):
        await world.plane.tick()
    assert key.id not in [entry.id for entry in world.plane.hub.snapshot.keys]
    assert len(world.replicas_of("a")) == (1 if failing == "rollouts" else 0)


async def test_of_several_errors_the_first_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(*_arguments: object) -> None:
        raise StorageFailed("first")

    async def second(*_arguments: object) -> None:
        raise StorageFailed("second")

    monkeypatch.setattr(world.plane._fleet, "reconcile", first)
    monkeypatch.setattr(world.plane._publisher, "publish", second)
    with pytest.raises(StorageFailed, match="first"):
        await world.plane.tick()
