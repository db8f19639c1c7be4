"""What is said of a release before it is shipped."""

from __future__ import annotations

import msgspec
import pytest

from control.simulated_world import PLAN, World
from fairlead.control.shipping import capacity
from fairlead.control.shipping.capacity import Planner, available_memory
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.errors import Conflict, Damaged, NotFound
from fairlead.domain.quota import Price
from fairlead.domain.strata import Strata
from fairlead.registry import ReleaseEntry
from fairlead.rollout.plan import Step
from fairlead.rollout.suites import SuiteMetric
from fairlead.store.keys import KeyRow

SLOW = msgspec.structs.replace(PLAN, steps=(Step(0.3, 1_000, 2.0),))


def planner(world: World, memory: int | None = 1 << 40) -> Planner:
    return Planner(world.store, world.registry, lambda: world.now, lambda: memory)


async def test_a_first_release_needs_its_replicas_and_compares_nothing(world: World) -> None:
    plan = msgspec.structs.replace(PLAN, champion_replicas=3)
    view = await planner(world).plan(world.spec("a", plan=plan))
    assert (view.replicas_more, view.steps, view.units_to_promote) == (3, [], None)
    assert view.bytes_more == world.registry.get(world.digests["a"]).size > 0
    assert view.problems == []


async def test_a_canary_s_needs_are_counted_from_the_traffic(world: World) -> None:
    """That it began only a minute ago does not make it less."""
    await world.first_champion()
    world.users_per_turn = 1
    for _ in range(60):
        await world.turn()
    view = await planner(world).plan(world.spec("b", price=Price(1.0, 2.0)))
    assert view.requests_per_s == pytest.approx(1.0, rel=0.2)
    assert view.replicas_more == 1
    assert view.seconds is not None
    assert view.canary_requests is not None
    assert view.usd == pytest.approx(view.canary_requests * (5 * 1.0 + 7 * 2.0) / 1e6)
    assert view.problems == []
    late = await planner(world).plan(world.spec("b", plan=SLOW))
    assert "its steps take 5" in late.problems[0]
    assert "rollout.deadline_minutes" in late.problems[0]


async def test_releases_that_share_an_engine_need_no_memory_and_no_replica(world: World) -> None:
    await world.first_champion()
    view = await planner(world, memory=1).plan(world.spec("a"))
    assert (view.replicas_more, view.bytes_more, view.problems) == (0, 0, [])


async def test_weights_that_do_not_fit_are_a_problem(world: World) -> None:
    await world.first_champion()
    view = await planner(world, memory=1_000).plan(world.spec("b"))
    assert view.problems[0].startswith("its weights need ")
    unknown = await planner(world, memory=None).plan(world.spec("b"))
    assert (unknown.problems, unknown.bytes_available) == ([], None)


async def test_suites_are_promised_where_there_are_steps_at_which_they_are_run(
    world: World,
) -> None:
    suited = msgspec.structs.replace(PLAN, suites=(SuiteMetric("answers", "quality"),))
    assert (await planner(world).plan(world.spec("a", plan=suited))).queries == []
    await world.first_champion()
    (said,) = (await planner(world).plan(world.spec("b", plan=suited))).queries
    assert said.startswith("suite answers: 50 further cases of gate quality")
    at_once = msgspec.structs.replace(suited, steps=())
    assert (await planner(world).plan(world.spec("b", plan=at_once))).queries == []


async def test_a_release_that_is_not_there_has_no_plan(world: World) -> None:
    spec = msgspec.structs.replace(world.spec("a"), release="sha256:" + "0" * 64)
    with pytest.raises(NotFound):
        await planner(world).plan(spec)


def test_the_memory_is_the_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    found = available_memory()
    assert found is None or found > 1 << 20
    monkeypatch.setattr(capacity, "_MEMINFO", capacity.Path("/nowhere"))
    assert available_memory() is None


async def test_steps_that_nobody_named_are_chosen_and_kept_with_the_rollout(world: World) -> None:
    """The plan says them before, and the rollout takes them; the spec stays as it was declared."""
    await world.first_champion()
    world.users_per_turn = 20
    for _ in range(60):
        await world.turn()
    open_plan = msgspec.structs.replace(PLAN, chooses_steps=True, champion_replicas=4)
    view = await planner(world).plan(world.spec("b", plan=open_plan))
    assert view.chosen
    assert [step.share for step in view.steps] == [0.1, 0.25]
    assert "replicas.canary: 2 would do" in view.notes[0]
    rollout = await world.ship("b", plan=open_plan)
    document = read_rollout(world.row(rollout)).document
    assert [step.share for step in document.rollout.plan.steps] == [0.1, 0.25]
    assert not document.rollout.plan.chooses_steps
    assert document.spec.plan == open_plan
    named = await planner(world).plan(world.spec("b"))
    assert not named.chosen


async def test_strata_by_keys_that_there_are_not_are_told(world: World) -> None:
    """A key that was revoked is none; where nothing is compared, nothing is said."""
    world.store.create_key(KeyRow("k1", "web", "1", 1.0))
    world.store.create_key(KeyRow("k2", "old", "2", 1.0))
    world.store.revoke_key("k2", 2.0)
    plan = msgspec.structs.replace(PLAN, strata=Strata("key", ("web", "batch", "old")))
    first = await planner(world).plan(world.spec("a", plan=plan))
    assert not any("no key" in note for note in first.notes)
    await world.first_champion()
    notes = (await planner(world).plan(world.spec("b", plan=plan))).notes
    assert [note.partition(" (")[0] for note in notes if "no key" in note] == [
        "no key is named 'batch'", "no key is named 'old'",
    ]  # fmt: skip


async def test_what_cannot_fit_is_refused_whoever_ships_it_unless_anyway(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has begun then. An evaluation takes no traffic, and is not held against it."""
    await world.first_champion()
    world.users_per_turn = 1
    for _ in range(60):
        await world.turn()
    late = world.spec("b", plan=SLOW)
    with pytest.raises(
        Conflict, match=r"release b does not fit: at .* its steps take 5"
    ) as refused:
        await world.plane.ship(late)
    assert "anyway=true" in str(refused.value.hint)
    assert [row.release for row in world.rollouts()] == [world.digests["a"]]
    evaluated = await world.plane.ship(late, gates_only=True)
    await world.plane.command(evaluated.id, "abort")
    begun = await world.plane.ship(late, anyway=True)
    await world.plane.command(begun.id, "abort")
    await world.finish(begun.id)
    monkeypatch.setattr(world.plane.planner, "_memory", lambda: 1_000)
    with pytest.raises(Conflict, match="its weights need "):
        await world.plane.ship(world.spec("b"))
    assert (await world.plane.ship(world.spec("b"), anyway=True)).state != "failed"


async def test_a_champion_that_is_damaged_can_be_shipped_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps are still planned; what it shares with the other is not known."""
    await world.first_champion()
    whole = world.registry.get

    def get(digest: str) -> ReleaseEntry:
        if digest == world.digests["a"]:
            raise Damaged("its configuration is gone")
        return whole(digest)

    monkeypatch.setattr(world.registry, "get", get)
    view = await planner(world).plan(world.spec("b"))
    assert [step.share for step in view.steps] == [0.3, 0.6]
    assert view.problems == []
