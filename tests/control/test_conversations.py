"""Conversations that may finish on the release that is left: in one swap, uncounted, for a time."""

from __future__ import annotations

import msgspec
import pytest

from control.simulated_world import DIRECT, PLAN, World
from fairlead.control.shipping import conversations
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.replica import ReplicaState
from fairlead.rollout.plan import Step
from fairlead.store.rows import FeedbackRow, RequestRow, SpoolCursor
from fairlead.wire.snapshot import ServiceRoute

FINISH = msgspec.structs.replace(
    PLAN, steps=(Step(0.5, 1_000_000),), finish_s=20.0, deadline_s=600.0
)


async def judging(world: World, **changes: object) -> str:
    """A canary with half of the traffic, for ten seconds."""
    await world.first_champion()
    world.users_per_turn = 10
    rollout = await world.ship("b", plan=msgspec.structs.replace(FINISH, **changes))
    await world.until(lambda: world.row(rollout).state == "judging")
    for _ in range(10):
        await world.turn()
    return rollout


def on(world: World, rollout: str, arm: str, *, before: float) -> set[str]:
    """Units with requests on an arm."""
    rows = world.store.assigned_requests(rollout, after=0.0, until=before, limit=10**5)
    return {row.unit for row in rows if row.arm == arm}


def routes(world: World) -> list[ServiceRoute]:
    return [snapshot.services["bank"] for snapshot in world.published]


async def test_at_a_rollback_they_stay_on_the_canary_and_then_move(world: World) -> None:
    rollout = await judging(world)
    canary = world.digests["b"]
    units = on(world, rollout, "canary", before=world.now - 3.0)
    began = world.now
    await world.plane.command(rollout, "abort")
    await world.turn()
    route = world.route()
    assert (route.champion, route.canary, route.canary_share) == (world.digests["a"], None, 0.0)
    assert route.finishing is not None
    assert route.finishing.release == canary
    assert set(route.finishing.units) == units
    assert len(units) > 20
    assert route.releases[canary].endpoints
    swaps = [r for r in routes(world) if r.rollout == rollout]
    split = [(r.canary_share, r.finishing is not None) for r in swaps if r.phase > 0]
    assert list(dict.fromkeys(split)) == [(0.5, False), (0.0, True)], "both in one swap"
    view = await world.plane.reports.rollout(rollout)
    assert view.state == "rolling_back"
    assert view.missing == "conversations that may finish on the release that they are on"
    assert view.time_left_s == pytest.approx(19.0, abs=1.0)
    ended = await world.finish(rollout)
    assert ended.outcome == "rolled_back"
    assert world.now - began >= 20.0
    await world.turn()
    assert world.route().finishing is None
    await world.until(lambda: world.replicas_of("b") == [])


async def test_at_a_promotion_they_stay_on_the_old_release_and_then_move(world: World) -> None:
    rollout = await judging(world)
    await world.plane.command(rollout, "promote")
    await world.until(lambda: world.row(rollout).state == "watching")
    route = world.route()
    assert route.champion == world.digests["b"]
    assert route.finishing is not None
    assert route.finishing.release == world.digests["a"]
    assert len(route.finishing.units) > 20
    assert route.releases[world.digests["a"]].endpoints
    assert world.champion() == world.digests["a"], "its replicas stay until they have finished"
    assert (await world.finish(rollout)).outcome == "promoted"
    assert world.champion() == world.digests["b"]
    await world.until(lambda: world.replicas_of("a") == [])


async def test_a_restart_of_control_keeps_them_where_they_are(world: World) -> None:
    rollout = await judging(world)
    await world.plane.command(rollout, "abort")
    await world.turn()
    before = world.route().finishing
    assert before is not None
    await world.restart()
    await world.until(lambda: world.plane.hub.snapshot is not None)
    assert world.route().finishing == before


async def test_whose_answer_ended_after_the_move_does_not_go_back_after_a_restart(
    world: World,
) -> None:
    """Its record says that it was there before; but it was not among them when all others moved."""
    rollout = await judging(world)
    await world.plane.command(rollout, "abort")
    await world.turn()
    before = world.route().finishing
    finish = read_rollout(world.row(rollout)).document.rollout.finish
    assert before is not None
    assert finish is not None
    world.users_per_turn = 0
    row = RequestRow(
        "long", "bank", finish.release, "canary", "", "key", "streaming", 0.5, rollout,
        finish.phase, "/v1/chat/completions", True, 200, "", finish.before - 1.0,
        10.0, -1.0, 9_000.0, 5, 7, 1,
    )  # fmt: skip
    world.store.ingest("the-workers", [row], [], SpoolCursor(9**6, 1, world.now))
    await world.restart()
    await world.until(lambda: world.plane.hub.snapshot is not None)
    assert world.route().finishing == before
    assert world.store.get_setting("conversations/bank")
    await world.finish(rollout)
    await world.turn()
    assert not world.store.get_setting("conversations/bank"), "who they were is not kept"


@pytest.mark.parametrize("stored", ["{", '{"rollout": 1}', "[]", '{"rollout":"r","units":[]}'])
async def test_damaged_conversations_are_chosen_anew(world: World, stored: str) -> None:
    rollout = await judging(world)
    world.store.set_setting("conversations/bank", stored)
    await world.plane.command(rollout, "abort")
    await world.turn()
    finishing = world.route().finishing
    assert finishing is not None
    assert len(finishing.units) > 20


async def test_a_second_abort_moves_them_at_once(world: World) -> None:
    rollout = await judging(world)
    await world.plane.command(rollout, "abort")
    await world.turn()
    await world.plane.command(rollout, "abort")
    await world.until(lambda: not world.row(rollout).active, 3)
    view = await world.plane.reports.rollout(rollout)
    assert any("all conversations move at once" in entry.why for entry in view.history)


async def test_by_default_all_move_at_once(world: World) -> None:
    rollout = await judging(world, finish_s=0.0)
    await world.plane.command(rollout, "abort")
    await world.until(lambda: not world.row(rollout).active, 4)
    assert all(route.finishing is None for route in routes(world))


async def test_where_replicas_fail_nobody_stays(world: World) -> None:
    rollout = await judging(world)
    await world.plane.command(rollout, "abort")
    await world.turn()
    assert world.route().finishing is not None
    for replica in world.replicas_of("b"):
        world.target.set_state(replica.id, ReplicaState.FAILED, "it died")
    await world.until(lambda: not world.row(rollout).active, 4)


async def test_blue_green_lets_them_finish_on_the_old_release(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 10
    plan = msgspec.structs.replace(DIRECT, finish_s=15.0)
    world.target.held.add(world.engine_of("b"))
    rollout = await world.ship("b", plan=plan)
    for _ in range(8):
        await world.turn()
    world.target.held.clear()
    await world.until(lambda: world.row(rollout).state == "watching")
    finishing = world.route().finishing
    assert finishing is not None
    assert finishing.release == world.digests["a"]
    assert finishing.units
    assert (await world.finish(rollout)).outcome == "promoted"


async def test_what_they_do_is_not_judged(world: World) -> None:
    """Recorded with the probability 1 under the phase after the rollback."""
    rollout = await judging(world)
    await world.plane.command(rollout, "abort")
    await world.turn()
    before = read_rollout(world.row(rollout)).document.rollout.judge
    finishing = world.route().finishing
    assert finishing is not None
    at = world.now + 0.5
    row = RequestRow(
        "late", "bank", finishing.release, "canary", "", "key", finishing.units[0], 1.0, rollout,
        world.route().phase, "/v1/chat/completions", False, 500, "upstream_error", at,
        10.0, -1.0, 20.0, 5, 7, 1,
    )  # fmt: skip
    given = FeedbackRow("late", "late", "key", "success", 0.0, at)
    world.users_per_turn = 0
    world.store.ingest("the-workers", [row], [given], SpoolCursor(9**6, 1, world.now + 60.0))
    await world.finish(rollout)
    after = read_rollout(world.row(rollout)).document.rollout.judge
    assert (after.canary, after.champion) == (before.canary, before.champion)


async def test_only_so_many_stay_those_that_spoke_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "UNITS_MAX", 7)
    rollout = await judging(world)
    await world.plane.command(rollout, "abort")
    await world.turn()
    finishing = world.route().finishing
    assert finishing is not None
    assert len(finishing.units) == 7
