"""Fault drills in the control plane: caught or missed, on time, bounded, and in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from control.hook_server import HookServer
from control.simulated_world import DIRECT, PLAN, World
from fairlead.control.drill import drills
from fairlead.control.drill.drill_views import DrillRequest, DrillView
from fairlead.control.outside import webhooks
from fairlead.control.shipping.spec import check_spec
from fairlead.control.views import RollbackRequest
from fairlead.domain.errors import Conflict, InvalidInput, NotFound
from fairlead.rollout.drill import DrillRule
from fairlead.rollout.freeze import Freeze

DAY_S = 86_400.0
RULE = DrillRule(("error", "slow"), every_days=1, at_minute=0, harm=60, share=0.5)


@pytest.fixture
def hook() -> Iterator[HookServer]:
    made = HookServer()
    yield made
    made.close()


async def live(world: World, **changes: Any) -> None:
    """Release a serves users."""
    await world.first_champion(**changes)
    world.users_per_turn = 20


async def drill(world: World, fault: Any = "error", **changes: Any) -> DrillView:
    asked = {"share": 0.5, "harm": 60, **changes}
    return await world.plane.drill("bank", DrillRequest(fault, **asked))


async def ended(world: World, began: DrillView, turns: int = 100) -> DrillView:
    await world.until(lambda: not world.row(began.id).active, turns)
    return await world.plane.drills.view(began.id)


def told(world: World, kind: str) -> list[str]:
    return [e.message for e in world.store.events("bank", limit=1_000) if e.kind == kind]


async def over(world: World, rollout: str) -> str:
    """How a rollout ends that may have to wait for a drill's end first."""
    ends = ("promoted", "gates_passed", "rolled_back", "failed", "aborted")
    await world.until(lambda: world.row(rollout).state in ends, 100)
    return str(world.row(rollout).state)


async def test_a_bad_release_is_caught_and_the_report_says_by_what_and_at_which_price(
    world: World,
) -> None:
    await live(world)
    began = await drill(world)
    assert (began.result, began.state) == ("running", "evaluating")
    view = await ended(world, began)
    assert (view.result, view.state) == ("caught", "rolled_back")
    assert view.by in ("failed", "unconfirmed")
    assert 5 <= view.requests <= 60
    assert view.users == view.requests, "each user asked once"
    assert view.seconds is not None
    assert 0 < view.seconds < 30
    assert view.expected_requests is not None
    assert view.notes == []
    assert world.champion() == world.digests["a"]
    assert [v.id for v in await world.plane.drills.history("bank")] == [began.id]


async def test_it_needs_no_replica_and_is_visible_everywhere(world: World) -> None:
    await live(world)
    started = list(world.target.started)
    began = await drill(world)
    await world.until(lambda: world.route().canary is not None)
    route = world.route()
    assert route.canary not in (None, world.digests["a"])
    bad, good = route.releases[route.canary or ""], route.releases[world.digests["a"]]
    assert bad.endpoints == good.endpoints
    assert (bad.fault and bad.fault.kind, good.fault) == ("error", None)
    assert (bad.name, route.harm) == ("drill-error", 30)
    assert bad.continues is None
    (service,) = (await world.plane.reports.status()).services
    assert service.drills is not None
    assert service.drills.running is not None
    assert service.drills.running.id == began.id
    assert (await world.plane.reports.rollout(began.id)).drill == "error"
    view = await ended(world, began)
    rows = world.store.records(limit=5_000)
    assert {r.rollout for r in rows if r.release == bad.digest} == {began.id}
    assert sum(r.release == bad.digest for r in rows) == view.requests
    assert world.target.started == started
    await world.turn()
    assert bad.digest not in world.route().releases


async def test_what_nothing_notices_is_missed_within_the_harm_budget(world: World) -> None:
    await live(world)
    world.fails["drill"] = 0.2
    view = await ended(world, await drill(world, "slow", harm=6), 150)
    assert (view.result, view.requests) == ("missed", 6)
    assert view.reason.startswith("missed: 6 requests of 6 users")
    assert view.advice
    assert "nothing that the rollout measures shows a fault of the kind slow" in view.notes[0]
    assert world.champion() == world.digests["a"]


async def test_what_would_be_promoted_is_missed_and_never_promoted(world: World) -> None:
    await live(world)
    world.fails["drill"] = 0.0
    world.users_per_turn = 60
    view = await ended(world, await drill(world, "toxic", harm=1_000), 200)
    assert view.result == "missed"
    assert (await world.plane.reports.rollout(view.id)).ending == "drill_missed"
    assert world.champion() == world.digests["a"]


async def test_in_shadow_no_user_meets_it(world: World) -> None:
    await live(world)
    served = dict(world.served)
    view = await ended(world, await drill(world, "error", shadow=True, share=1.0))
    assert (view.result, view.requests, view.users) == ("caught", 0, 0)
    assert view.copies > 0
    assert view.by
    assert world.served.get("drill", 0) == served.get("drill", 0)


async def test_a_restart_in_the_middle_changes_nothing(world: World) -> None:
    await live(world)
    began = await drill(world)
    await world.until(lambda: world.route().canary is not None)
    await world.restart()
    await world.turn()
    canary = world.route().canary
    assert canary is not None
    assert world.route().releases[canary].fault is not None
    assert (await ended(world, began)).result == "caught"


async def test_a_real_rollout_ends_the_drill_and_goes_on(world: World) -> None:
    await live(world)
    world.fails["drill"] = 0.2
    began = await drill(world, harm=1_000)
    await world.until(lambda: world.route().canary is not None)
    shipped = await world.ship("b")
    assert world.row(began.id).state == "rolling_back"
    assert await over(world, shipped) == "promoted"
    view = await world.plane.drills.view(began.id)
    assert view.result == "ended"
    assert "is shipped" in view.reason


async def test_settings_do_not_wait_for_a_drill(world: World) -> None:
    await live(world)
    began = await drill(world, harm=1_000)
    await world.until(lambda: world.route().canary is not None)
    assert (await world.plane.apply(world.spec("a", plan=PLAN, fallbacks=("other",)))).changed
    assert (await ended(world, began)).result == "ended"


async def test_an_evaluation_does_not_wait_for_a_drill(world: World) -> None:
    await live(world)
    began = await drill(world, harm=1_000)
    await world.until(lambda: world.route().canary is not None)
    evaluated = await world.plane.ship(world.spec("c"), gates_only=True)
    assert await over(world, evaluated.id) == "gates_passed"
    assert (await world.plane.drills.view(began.id)).result == "ended"


async def test_going_back_does_not_wait_for_a_drill(world: World) -> None:
    await live(world)
    await world.finish(await world.ship("b", plan=DIRECT))
    began = await drill(world, harm=1_000)
    await world.until(lambda: world.route().canary is not None)
    back = await world.plane.rollback("bank", RollbackRequest(why="it is bad"))
    assert back.id == began.id, "the way back begins where the drill ends"
    await world.until(lambda: world.champion() == world.digests["a"])


async def test_a_drill_waits_for_nobody_and_nothing_is_begun(world: World) -> None:
    with pytest.raises(NotFound, match="no service 'bank' with a champion"):
        await drill(world)
    await live(world)
    with pytest.raises(InvalidInput, match="cannot be divided among 2 gateway workers"):
        await drill(world, harm=1)
    with pytest.raises(InvalidInput, match="harm"):
        await drill(world, harm=100_000)
    with pytest.raises(InvalidInput, match="share"):
        await drill(world, share=0.9)
    world.fails["b"] = 0.2
    await world.ship("b")
    with pytest.raises(Conflict, match="under way"):
        await drill(world)
    assert await world.plane.drills.history(None) == []
    with pytest.raises(NotFound, match="no drill 'dr-1'"):
        await world.plane.drills.view("dr-1")


async def test_not_in_a_freeze(world: World) -> None:
    await live(world)
    await world.plane.apply(world.spec("a", freeze=(Freeze("launch"),)))
    with pytest.raises(Conflict, match="frozen: launch"):
        await drill(world)


async def test_a_drill_cannot_be_shipped(world: World) -> None:
    await live(world)
    began = await drill(world)
    spec = world.plane._overview.running("bank").spec  # type: ignore[union-attr]
    with pytest.raises(InvalidInput, match="is not shipped"):
        check_spec(spec)
    with pytest.raises(NotFound):
        await world.plane.ship(msgspec.structs.replace(spec, drill=None, when_busy="queue"))
    await ended(world, began)


async def scheduled(world: World, rule: DrillRule = RULE) -> None:
    """A service with a schedule, just before a drill is due."""
    await live(world, drills=rule)
    await world.turn()
    world.users_per_turn = 0
    await world.turn(seconds=DAY_S - world.now % DAY_S - 1.0)
    assert await world.plane.drills.history(None) == [], "nothing is due yet"
    world.users_per_turn = 20


async def test_a_scheduled_drill_begins_when_it_is_due_and_its_catch_is_told(world: World) -> None:
    await scheduled(world)
    await world.until(lambda: told(world, drills.CAUGHT) != [], 60)
    (view,) = await world.plane.drills.history(None)
    assert (view.scheduled, view.result) == (True, "caught")
    for _ in range(10):
        await world.turn()
    assert len(told(world, drills.CAUGHT)) == 1
    (service,) = (await world.plane.reports.status()).services
    assert service.drills is not None
    assert service.drills.missed == {}
    assert service.drills.last.startswith("drill")
    assert service.drills.next_at == 2 * DAY_S


async def test_a_missed_one_is_an_alarm_until_one_is_caught(
    world: World, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "BACK_OFF_S", 0.01)
    rule = msgspec.structs.replace(RULE, faults=("error",), harm=40, webhooks=(hook.url,))
    world.fails["drill"] = 0.2
    hook.answers = [(503, "")] * 3
    await scheduled(world, rule)
    await world.until(lambda: bool(await_row(world)), 150)
    await world.restart()
    # The webhook is told beside the turns.
    await world.until_in_real_time(lambda: told(world, drills.MISSED))
    (said,) = told(world, drills.MISSED)
    assert said.startswith("drill error missed after ")
    assert hook.calls[-1]["kind"] == "drill_missed"
    assert hook.calls[-1]["drill"]["result"] == "missed"
    (service,) = (await world.plane.reports.status()).services
    assert service.drills is not None
    assert service.drills.missed == {"error": said}
    world.users_per_turn = 0
    await world.turn(seconds=DAY_S - world.now % DAY_S + 1.0)
    world.users_per_turn, world.fails["drill"] = 20, 1.0
    await world.until(lambda: told(world, drills.CAUGHT) != [], 100)
    await world.turn()
    (service,) = (await world.plane.reports.status()).services
    assert service.drills is not None
    assert service.drills.missed == {}


def await_row(world: World) -> list[Any]:
    """Drills that have ended."""
    return [row for row in world.rollouts() if row.id.startswith("dr-") and not row.active]


async def test_a_drill_that_is_due_waits_for_a_rollout_and_is_left_out_at_last(
    world: World,
) -> None:
    await scheduled(world)
    world.users_per_turn = 0
    await world.ship("b", plan=msgspec.structs.replace(PLAN, deadline_s=40 * DAY_S))
    for _ in range(5):
        await world.turn(seconds=120.0)
    assert await world.plane.drills.history(None) == []
    await world.turn(seconds=drills.LATE_S_MAX)
    await world.turn(seconds=120.0)
    assert len(told(world, drills.SKIPPED)) == 1
    for _ in range(5):
        await world.turn(seconds=120.0)
    assert await world.plane.drills.history(None) == []


async def test_the_slow_watch_does_not_count_a_drill(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 30
    watched = msgspec.structs.replace(PLAN, failures_at_most=0.2)
    assert (await world.finish(await world.ship("b", plan=watched))).outcome == "promoted"
    view = await ended(world, await drill(world, harm=100))
    assert view.result == "caught"
    for _ in range(20):
        await world.turn()
    (service,) = (await world.plane.reports.status()).services
    assert service.watch is not None
    assert service.watch.rate == 0.0
    assert service.watch.alarmed_at is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"faults": ()}, {"every_days": 0}, {"at_minute": 1_440}, {"harm": 0}, {"share": 0.6},
        {"delay_ms": 0.0}, {"webhooks": ("ftp://x",)},
    ],
)  # fmt: skip
def test_a_schedule_makes_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        DrillRule(**{"faults": ("error",), **wrong})


async def test_a_night_without_traffic_raises_no_alarm(world: World, hook: HookServer) -> None:
    """Nothing was tested: that is noted, nobody is called, and the next one is drilled again."""
    await scheduled(world, msgspec.structs.replace(RULE, webhooks=(hook.url,)))
    world.users_per_turn = 0
    await world.until(lambda: told(world, drills.SKIPPED) != [], 100, seconds=30.0)
    (said,) = told(world, drills.SKIPPED)
    assert said.startswith("drill slow ended after 0 requests of 0 users")
    assert hook.calls == []
    (service,) = (await world.plane.reports.status()).services
    assert service.drills is not None
    assert (service.drills.missed, service.drills.last) == ({}, said)
    (view,) = await world.plane.drills.history("bank")
    assert (view.result, view.advice[:15]) == ("ended", "it says nothing")
    assert (await world.plane.reports.rollout(view.id)).advice == view.advice


async def test_in_shadow_a_fault_that_no_copy_shows_is_told_when_it_begins(world: World) -> None:
    await live(world)
    began = await drill(world, "slow", shadow=True, share=1.0)
    assert began.notes[0].startswith("no copy shows a fault of the kind slow: copies are judged by")
    assert "longer than 30 s" in began.notes[0]
