"""The slow watch in the control plane: alarms that are seen, kept through restarts, acted upon."""

from __future__ import annotations

import msgspec
import pytest

from control.simulated_world import PLAN, World
from fairlead.control.shipping import slow_watches
from fairlead.control.shipping.slow_watches import KIND, LOOK_S

WATCHED = msgspec.structs.replace(PLAN, failures_at_most=0.2)


async def promoted(world: World, **changes: object) -> str:
    """Release b is champion by its canary; its users come in numbers."""
    await world.first_champion()
    world.users_per_turn = 30
    rollout = await world.ship("b", plan=msgspec.structs.replace(WATCHED, **changes))
    assert (await world.finish(rollout)).outcome == "promoted"
    return rollout


def alarms(world: World) -> list[str]:
    return [e.message for e in world.store.events("bank", limit=1_000) if e.kind == KIND]


async def test_a_champion_beyond_its_limit_is_an_alarm_in_status_show_and_events(
    world: World,
) -> None:
    rollout = await promoted(world)
    for _ in range(30):
        await world.turn()
    (service,) = (await world.plane.reports.status()).services
    assert service.watch is not None
    assert service.watch.alarmed_at is None
    assert service.watch.units > 100
    assert alarms(world) == []
    world.fails["b"] = 0.6
    await world.until(lambda: alarms(world) != [], 60)
    for _ in range(10):
        await world.turn()
    (told,) = alarms(world)
    assert "fails more often than its limit of 20 % (declared)" in told
    assert "not a comparison" in told
    (service,) = (await world.plane.reports.status()).services
    shown = (await world.plane.reports.rollout(rollout)).watch
    assert service.watch == shown
    assert shown is not None
    assert shown.alarm == told
    assert shown.evidence >= shown.threshold
    assert world.champion() == world.digests["b"], "it was not declared to go back"


async def test_by_declaration_it_goes_back_to_the_last_good_release(world: World) -> None:
    """Replicas first, then all of it in one snapshot; and it does not go back further by itself."""
    await promoted(world, revert=True)
    world.fails["b"] = 0.9
    await world.until(lambda: world.champion() == world.digests["a"], 100)
    moved = [s.services["bank"] for s in world.published]
    first = next(
        i for i, route in enumerate(moved)
        if route.champion == world.digests["a"] and moved[i - 1].champion == world.digests["b"]
    )  # fmt: skip
    assert moved[first].canary is None
    assert moved[first].releases[world.digests["a"]].endpoints, "its replicas were ready"
    view = next(v for v in await world.plane.reports.rollouts("bank", 10) if v.goes_back)
    assert view.reason.startswith("slow watch: release ")
    world.fails["a"] = 0.9
    for _ in range(60):
        await world.turn()
    assert world.champion() == world.digests["a"]
    assert world.plane._overview.running("bank") is None


async def test_without_a_way_back_it_says_so_once(world: World) -> None:
    await world.first_champion(plan=msgspec.structs.replace(WATCHED, steps=(), revert=True))
    world.users_per_turn = 30
    world.fails["a"] = 0.8
    await world.until(lambda: len(alarms(world)) == 2, 60)
    for _ in range(10):
        await world.turn()
    assert alarms(world)[1].startswith("it could not go back: ")
    assert len(alarms(world)) == 2


async def test_a_restart_forgets_neither_evidence_nor_alarm(world: World) -> None:
    await promoted(world)
    for _ in range(20):
        await world.turn()
    before = world.plane._watches.view("bank")
    await world.restart()
    await world.turn(seconds=LOOK_S)
    after = world.plane._watches.view("bank")
    assert before is not None
    assert after is not None
    assert after.since == before.since
    assert after.units >= before.units > 0
    world.fails["b"] = 0.9
    await world.until(lambda: alarms(world) != [], 60)
    raised = world.plane._watches.view("bank")
    await world.restart()
    for _ in range(20):
        await world.turn()
    assert world.plane._watches.view("bank") == raised
    assert len(alarms(world)) == 1


async def test_a_new_limit_is_watched_from_then_on(world: World) -> None:
    await promoted(world)
    for _ in range(10):
        await world.turn()
    changed = world.spec("b", plan=msgspec.structs.replace(PLAN, failures_at_most=0.4))
    assert (await world.plane.apply(changed)).changed
    await world.turn(seconds=LOOK_S)
    view = world.plane._watches.view("bank")
    assert view is not None
    assert view.limit == 0.4
    assert view.since >= world.now - 2 * LOOK_S


async def test_a_kept_watch_that_cannot_be_read_begins_anew(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await promoted(world)
    await world.turn(seconds=LOOK_S)
    world.store.set_setting(slow_watches._key("bank"), '{"rollout": 3}')
    await world.restart()
    await world.turn(seconds=LOOK_S)
    assert "cannot be read and begins anew" in caplog.text
    assert world.plane._watches.view("bank") is not None


async def test_without_evidence_or_a_declared_limit_nothing_is_claimed(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 10
    for _ in range(10):
        await world.turn()
    (service,) = (await world.plane.reports.status()).services
    assert service.watch is None
