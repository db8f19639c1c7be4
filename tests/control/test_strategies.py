"""Queues, freezes, approvals, testers and warm times, in a world on simulated time."""

from __future__ import annotations

import msgspec
import pytest

from control.simulated_world import DIRECT, PLAN, World
from fairlead.control.limits.key_views import KeyRequest
from fairlead.control.views import RollbackRequest
from fairlead.domain.errors import Conflict
from fairlead.gateway.replicas.routing import assign, pinned_arm
from fairlead.rollout.freeze import Freeze
from fairlead.rollout.plan import Step, Strategy
from fairlead.wire.snapshot import Pin

LONG = msgspec.structs.replace(PLAN, steps=(Step(0.5, 1_000_000, 0.0),))
WARM = msgspec.structs.replace(PLAN, warm_s=30.0, holdback=0.1)
BLUE_GREEN = msgspec.structs.replace(DIRECT, strategy=Strategy.BLUE_GREEN, warm_s=30.0)


async def judged(world: World, release: str) -> str:
    rollout = await world.ship(release, plan=LONG)
    await world.until(lambda: world.row(rollout).state == "judging")
    return rollout


async def test_a_queued_release_begins_when_the_one_before_it_has_ended(world: World) -> None:
    """Also through a restart of control, in the order in which they came."""
    await world.first_champion()
    first = await judged(world, "b")
    second = await world.ship("c", plan=DIRECT, when_busy="queue")
    await world.turn()
    third = await world.ship("d", plan=DIRECT, when_busy="queue")
    view = await world.plane.reports.rollout(second)
    assert (view.state, view.outcome) == ("queued", "running")
    await world.restart()
    for _ in range(3):
        await world.turn()
    assert world.row(second).state == "queued"
    assert world.replicas_of("c") == []
    await world.plane.command(first, "promote")
    assert (await world.finish(first)).outcome == "promoted"
    await world.until(lambda: world.row(third).state == "promoted")
    view = await world.plane.reports.rollout(second)
    assert (view.outcome, view.champion) == ("promoted", world.digests["b"])
    assert (await world.plane.reports.rollout(third)).champion == world.digests["c"]


async def test_a_queued_release_can_be_given_up(world: World) -> None:
    await world.first_champion()
    first = await judged(world, "b")
    second = await world.ship("c", when_busy="queue")
    with pytest.raises(Conflict, match="has not begun"):
        await world.plane.command(second, "promote")
    view = await world.plane.command(second, "abort")
    assert (view.outcome, view.ending) == ("aborted", "aborted")
    await world.plane.command(first, "abort")
    await world.finish(first)
    for _ in range(3):
        await world.turn()
    assert world.champion() == world.digests["a"]
    assert world.row(second).state == "aborted"


async def test_a_release_can_take_the_place_of_the_one_under_way(world: World) -> None:
    await world.first_champion()
    first = await judged(world, "b")
    waiting = await world.ship("c", when_busy="queue")
    newest = await world.ship("d", plan=DIRECT, when_busy="supersede")
    await world.until(lambda: world.row(newest).state == "promoted")
    for ended in (first, waiting):
        view = await world.plane.reports.rollout(ended)
        assert view.ending == "superseded"
        assert view.reason == f"superseded by release d ({newest})"
    assert world.served.get("c", 0) == 0


async def test_a_way_back_is_not_superseded(world: World) -> None:
    for release in "ab":
        await world.first_champion(release)
    world.target.held.add(world.engine_of("a"))
    for replica in world.replicas_of("a"):
        world.target.lose(replica.id)
    await world.plane.rollback("bank", RollbackRequest())
    with pytest.raises(Conflict, match="is not superseded"):
        await world.ship("c", when_busy="supersede")


async def test_a_way_back_that_is_still_to_begin_is_not_superseded(world: World) -> None:
    """It is asked for while a release is on its way out; the workers have not confirmed that."""
    for release in "ab":
        await world.first_champion(release)
    rollout = await judged(world, "c")
    view = await world.plane.rollback("bank", RollbackRequest(to="a"))
    assert (view.state, view.then is not None) == ("rolling_back", True)
    with pytest.raises(Conflict, match=r"going back to release a .* is not superseded"):
        await world.ship("d", plan=DIRECT, when_busy="supersede")
    assert (await world.plane.reports.rollout(rollout)).then == view.then
    await world.finish(rollout)
    assert view.then is not None
    assert (await world.finish(view.then)).outcome == "promoted"
    assert world.champion() == world.digests["a"]


async def test_in_a_freeze_nothing_moves_to_the_new_release(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 15
    window = Freeze("release week", since=world.now, until=world.now + 60)
    rollout = await world.ship("b", freeze=(window,))
    for _ in range(50):
        await world.turn()
    view = await world.plane.reports.rollout(rollout)
    assert (view.state, view.held, view.share) == ("starting", "release week", 0.0)
    assert (await world.finish(rollout)).outcome == "promoted"
    assert any(h.why == "the freeze is over" for h in (
        await world.plane.reports.rollout(rollout)).history)  # fmt: skip


async def test_a_step_waits_for_its_approval_and_says_what_to_type(world: World) -> None:
    plan = msgspec.structs.replace(PLAN, steps=(Step(0.3, 1), Step(0.6, 15, 2.0, approval=True)))
    await world.first_champion()
    world.users_per_turn = 15
    rollout = await world.ship("b", plan=plan)
    for _ in range(30):
        await world.turn()
    view = await world.plane.reports.rollout(rollout)
    assert (view.state, view.share) == ("judging", 0.3)
    assert view.awaits == f"a person at step 2: fairlead rollout approve {rollout}"
    assert view.time_left_s is not None
    assert 86_000 < view.time_left_s < 86_400
    await world.plane.command(rollout, "approve")
    assert (await world.finish(rollout)).outcome == "promoted"


async def test_testers_get_their_release_and_are_not_counted(world: World) -> None:
    await world.first_champion()
    made = await world.plane.keys.create("qa", KeyRequest("qa"))
    pins = (
        Pin("canary", keys=("qa", "nobody-has-this-name"), sessions=("try-",)),
        Pin("champion", sessions=("calm-",)),
    )
    rollout = await world.ship("b", plan=LONG, pins=pins)
    await world.until(lambda: world.row(rollout).state == "judging")
    route = world.route()
    assert pinned_arm(route, made.id, b"calm-1") == "canary"
    assert pinned_arm(route, "other", b"try-7") == "canary"
    assert pinned_arm(route, "other", b"calm-1") == "champion"
    assert pinned_arm(route, "other", None) is None
    for arm, rho in (("canary", 1.0), ("champion", 0.0)):
        for number in range(20):
            to = assign(route, f"u{number}", canary_is_usable=True, pinned=arm)  # type: ignore[arg-type]
            assert to is not None
            assert (to.arm, to.rho) == (arm, rho), "no judge counts what is certain"
    gone = assign(route, "u1", canary_is_usable=False, pinned="canary")
    assert gone is not None
    assert gone.arm == "champion"
    await world.plane.command(rollout, "abort")
    await world.finish(rollout)
    await world.turn()
    assert world.route().pins == ()


async def test_a_worse_release_is_taken_back_after_all_traffic_has_moved(world: World) -> None:
    """In one snapshot, to replicas that are still there."""
    await world.first_champion()
    world.users_per_turn = 15
    world.fails["c"] = 0.0
    plan = msgspec.structs.replace(WARM, warm_s=500.0)
    rollout = await world.ship("c", plan=plan)
    await world.until(lambda: world.row(rollout).state == "watching")
    route = world.route()
    assert (route.canary, route.champion) == (world.digests["c"], world.digests["a"])
    assert route.canary_share == pytest.approx(0.9)
    assert world.replicas_of("a")
    world.fails["c"] = 0.9
    await world.until(lambda: world.row(rollout).state != "watching", 400)
    published = len(world.published)
    view = await world.finish(rollout)
    assert (view.outcome, view.ending) == ("rolled_back", "worse")
    assert world.champion() == world.digests["a"]
    (back,) = [s for s in world.published[published - 1 :] if s.services["bank"].rollout]
    assert (back.services["bank"].canary, back.services["bank"].champion) == (
        None, world.digests["a"],
    )  # fmt: skip


async def test_blue_green_keeps_the_old_replicas_until_its_time_is_over(world: World) -> None:
    await world.first_champion()
    rollout = await world.ship("b", plan=BLUE_GREEN)
    await world.until(lambda: world.row(rollout).state == "watching")
    await world.turn()
    route = world.route()
    assert (route.canary, route.champion) == (None, world.digests["b"])
    assert world.champion() == world.digests["a"], "the service is the old release's until the end"
    assert world.replicas_of("a")
    view = await world.finish(rollout)
    assert view.outcome == "promoted"
    assert world.champion() == world.digests["b"]
    await world.until(lambda: world.replicas_of("a") == [])


async def test_blue_green_is_taken_back_by_a_person_at_once(world: World) -> None:
    await world.first_champion()
    rollout = await world.ship("b", plan=BLUE_GREEN)
    await world.until(lambda: world.row(rollout).state == "watching")
    await world.plane.rollback("bank", RollbackRequest(why="complaints"))
    await world.turn()
    assert world.route().champion == world.digests["a"]
    assert world.route().releases[world.digests["a"]].endpoints
    assert (await world.finish(rollout)).reason == "complaints"
