"""What the deciders are told of a service is what is the case."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from control.acting_world import acting, carry_out, entry, small
from control.simulated_world import DIRECT, PLAN, World, questions
from fairlead.control.acting import room
from fairlead.control.acting.room import own_memory, room_for
from fairlead.domain.release import Engine, Release, RemoteModel
from fairlead.domain.replica import ReplicaState, ReplicaStatus
from fairlead.monitoring.actions import ActionKind, Circumstances
from fairlead.rollout.plan import REPLICAS_MAX


async def seen(world: World) -> Circumstances:
    return (await acting(world).surroundings.look())["bank"]


async def test_a_service_without_a_champion_has_nothing_to_act_on(world: World) -> None:
    world.target.held.add(world.engine_of("a"))
    await world.ship("a", plan=DIRECT)
    await world.turn()
    found = await seen(world)
    assert (found.champion, found.champion_since, found.last_good) == (None, 0.0, None)


async def test_the_champion_serves_since_all_traffic_moved_and_the_one_before_it_is_good(
    world: World,
) -> None:
    await world.first_champion()
    first = world.now
    assert (await seen(world)).last_good is None
    warm = msgspec.structs.replace(DIRECT, warm_s=60.0)
    for _ in range(50):
        await world.turn()
    moved = world.now
    await world.finish(await world.ship("b", plan=warm))
    found = await seen(world)
    assert found.champion == world.digests["b"]
    assert found.last_good == world.digests["a"]
    assert first < moved <= found.champion_since < moved + 10.0 < world.now - 40.0
    await world.restart()
    again = await seen(world)
    assert (again.champion_since, again.last_good) == (found.champion_since, found.last_good)
    settings = world.spec("b", plan=msgspec.structs.replace(warm, champion_replicas=2))
    world.now += 500.0
    await world.plane.apply(settings)
    assert (await seen(world)).champion_since == found.champion_since


async def test_a_release_that_was_rolled_back_is_not_good(world: World) -> None:
    """a, b, back to a, c: the last good one is a."""
    await world.first_champion()
    await world.finish(await world.ship("b", plan=DIRECT))
    await carry_out(world, entry(ActionKind.ROLL_BACK, world.digests["a"]))
    await world.until(lambda: world.champion() == world.digests["a"])
    await world.turn()
    assert (await seen(world)).last_good is None
    await world.finish(await world.ship("c", plan=DIRECT))
    assert (await seen(world)).last_good == world.digests["a"]


async def test_a_rollout_under_way_is_named_and_one_that_only_evaluates_is_not(
    world: World,
) -> None:
    await world.first_champion()
    rollout = await world.ship("b")
    await world.turn()
    assert (await seen(world)).rollout == rollout
    assert not (await seen(world)).rollout_is_paused
    await world.plane.command(rollout, "pause")
    assert (await seen(world)).rollout_is_paused
    await world.plane.command(rollout, "abort")
    await world.finish(rollout)
    assert (await seen(world)).rollout is None
    world.target.held.add(world.engine_of("c"))
    gate = world.gate(questions(2), minimum=0.5)
    await world.plane.ship(world.spec("c", gates=(gate,)), gates_only=True)
    await world.turn()
    assert world.plane._overview.running("bank") is not None
    assert (await seen(world)).rollout is None


async def test_only_fallbacks_that_can_answer_are_named(world: World) -> None:
    await world.first_champion(fallbacks=("nobody", "small"))
    assert (await seen(world)).fallbacks == ()
    await small(world)
    assert (await seen(world)).fallbacks == ("small",)
    for replica in world.replicas_of("b"):
        world.target.set_state(replica.id, ReplicaState.UNHEALTHY)
    assert (await seen(world)).fallbacks == ()


async def test_the_gates_and_the_replicas_that_are_declared_are_counted(world: World) -> None:
    plan = msgspec.structs.replace(PLAN, champion_replicas=3, steps=())
    await world.first_champion(plan=plan)
    world.target.lose(world.replicas_of("a")[0].id)
    found = await seen(world)
    assert (found.replicas, found.gates) == (3, 0)


async def test_there_is_room_for_as_many_as_memory_and_cores_allow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = world.registry.get(world.digests["a"]).release
    mine = ReplicaStatus("r1", release.engine_digest, ReplicaState.READY, "", 77, 4, 0.0)
    other = ReplicaStatus("r2", "sha256:other", ReplicaState.READY, "", 78, 4, 0.0)
    monkeypatch.setattr(room, "own_memory", lambda pid: {77: 100, 78: 5_000}[pid])
    assert room_for(release, 2, [mine, other], 340, 64) == 2 + 3, "a tenth is spared"
    assert room_for(release, 2, [mine, other], 340, 4) == 4
    assert room_for(release, 2, [mine, other], 50, 64) == 2
    assert room_for(release, 8, [mine], 10_000, 4) == 8, "what is declared is never too many"
    assert room_for(release, 2, [mine], None, None) == REPLICAS_MAX
    remote = Release(RemoteModel("http://x/v1", "m"), Engine("remote"))
    assert room_for(remote, 1, [mine], 0, 1) == REPLICAS_MAX


def test_a_process_has_memory_of_its_own_and_one_that_is_gone_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_PROC", tmp_path)
    (tmp_path / "5").mkdir()
    status = "Name:\tx\nVmRSS:\t900 kB\nRssAnon:\t10 kB\nRssFile:\t870 kB\nRssShmem:\t2 kB\n"
    (tmp_path / "5" / "status").write_text(status)
    assert own_memory(5) == 12 * 1024
    assert own_memory(6) is None
