"""Control is thrown away and made anew at any moment: verdict and service are the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control.simulated_world import DIRECT, PLAN, World
from fairlead.control.shipping.stored import read_spec
from fairlead.control.views import RollbackRequest
from fairlead.domain.errors import StorageFailed
from fairlead.rollout.plan import Step
from fairlead.store.interface import Store
from fairlead.wire.snapshot import Limits

WRITES = ("put_service", "commit_rollout", "next_number", "setdefault_setting")


class Crash(BaseException):
    """Control dies here."""


class DyingStore:
    """A store in whose writes control dies, before or after what it wrote is kept.

    Attributes:
        share: Probability with which a write is the last.
        fatal: A write in which control always dies.
        fatal_is_kept: It dies after what it wrote is kept.
    """

    def __init__(self, store: Store, dice: random.Random) -> None:
        self._store = store
        self._dice = dice
        self.share = 0.0
        self.fatal = ""
        self.fatal_is_kept = False
        self.deaths = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in WRITES:
            return method

        def write(*arguments: Any, **named: Any) -> Any:
            fate = self._dice.random()
            is_fatal = name == self.fatal
            if fate < self.share / 2 or (is_fatal and not self.fatal_is_kept):
                self.deaths += 1
                raise Crash
            result = method(*arguments, **named)
            if fate < self.share or is_fatal:
                self.deaths += 1
                raise Crash
            return result

        return write


@pytest.fixture
async def dying(world: World) -> DyingStore:
    """The store that control uses."""
    made = DyingStore(world.store, random.Random(0))
    world.control_s_store = made  # type: ignore[assignment]
    await world.restart()
    return made


async def turn_or_die(world: World, dying: DyingStore, share: float) -> None:
    """One turn; a control that dies in it is followed by another."""
    dying.share = share
    try:
        await world.turn()
    except Crash:
        dying.share = 0.0
        await world.restart()
        world.check()
    finally:
        dying.share = 0.0


@pytest.mark.parametrize("seed", range(3))
async def test_a_control_that_keeps_dying_comes_to_the_same_verdicts(
    world: World, dying: DyingStore, seed: int
) -> None:
    """Better is promoted and worse rolled back; the world checks every invariant at each turn."""
    dying._dice = random.Random(seed)
    world.users_per_turn = 15
    outcomes = []
    for queue, release in enumerate("abc", start=1):
        plan = DIRECT if release == "a" else PLAN
        rollout = await world.ship(release, plan=plan, limits=Limits(queue=queue))
        for _ in range(300):
            if not world.row(rollout).active:
                break
            await turn_or_die(world, dying, 0.4)
        outcomes.append(world.row(rollout).state)
        await world.restart()
        await world.turn(seconds=6.0)
    assert outcomes == ["promoted", "promoted", "rolled_back"]
    assert dying.deaths > 5
    assert world.champion() == world.digests["b"]
    assert world.route().limits.queue == 2


@pytest.mark.parametrize("kept", [False, True])
async def test_champion_and_spec_belong_together_wherever_control_dies(
    world: World, dying: DyingStore, kept: bool
) -> None:
    """The promotion is one write: before it the champion's settings are those applied last."""
    await world.first_champion(limits=Limits(queue=1))
    applied = world.spec("a", plan=DIRECT, limits=Limits(queue=9))
    await world.plane.apply(applied)
    rollout = await world.ship("b", plan=DIRECT, limits=Limits(queue=2))
    await world.until(lambda: world.row(rollout).state == "switching")
    dying.fatal, dying.fatal_is_kept = "commit_rollout", kept
    with pytest.raises(Crash):
        await world.finish(rollout)
    dying.fatal = ""
    await world.restart()
    world.check()
    row = world.store.service("bank")
    assert row is not None
    assert read_spec(row).limits.queue == (2 if kept else 9)
    assert (await world.finish(rollout)).outcome == "promoted"
    await world.turn(seconds=6.0)
    assert world.route().champion == world.digests["b"]
    assert world.route().limits.queue == 2


@pytest.mark.parametrize("seed", range(3))
async def test_a_way_back_that_was_asked_for_is_gone_however_often_control_dies(
    world: World, dying: DyingStore, seed: int
) -> None:
    """From a canary to the release named: two rollouts, of which the second is never forgotten."""
    for release in "ab":
        await world.first_champion(release)
    long = msgspec.structs.replace(PLAN, steps=(Step(0.5, 1_000_000, 0.0),))
    rollout = await world.ship("c", plan=long)
    await world.until(lambda: world.row(rollout).state == "judging")
    view = await world.plane.rollback("bank", RollbackRequest("a", "complaints"))
    assert view.then is not None
    dying._dice = random.Random(seed)
    for _ in range(100):
        await turn_or_die(world, dying, 0.6)
    assert dying.deaths > 2
    assert [row.id for row in world.rollouts()][:2] == [view.then, rollout]
    assert (await world.plane.reports.rollout(view.then)).reason == "complaints"
    assert world.champion() == world.digests["a"]


async def test_no_snapshot_before_the_champion_s_replicas_are_ready_again(world: World) -> None:
    """The gateway runs on the last one meanwhile."""
    await world.first_champion()
    world.target.forgets_at_adoption = True
    world.target.held.add(world.engine_of("a"))
    await world.restart()
    for _ in range(3):
        await world.turn()
        assert world.plane.hub.snapshot is None
    world.target.held.clear()
    await world.turn()
    assert world.plane.hub.snapshot is not None
    assert world.route().releases[world.digests["a"]].endpoints != ()


async def test_after_five_seconds_the_snapshot_says_what_is(world: World) -> None:
    """A champion that has lost all its replicas does not hold up the other services."""
    await world.first_champion()
    world.target.forgets_at_adoption = True
    world.target.held.add(world.engine_of("a"))
    await world.restart()
    await world.turn(seconds=4.9)
    assert world.plane.hub.snapshot is None
    await world.turn(seconds=0.2)
    assert world.plane.hub.snapshot is not None
    assert world.route().releases[world.digests["a"]].endpoints == ()


async def test_versions_never_go_back_and_change_only_when_something_changes(
    world: World,
) -> None:
    await world.first_champion()
    for _ in range(3):
        before = world.published[-1]
        await world.turn()
        assert world.published[-1] is before, "nothing changed, nothing is published"
        await world.restart()
        await world.turn()
        assert world.published[-1].version > before.version
        assert world.published[-1].services == before.services
        assert world.published[-1].request_id_key == before.request_id_key


async def test_a_new_key_reaches_the_gateway_at_the_next_turn(world: World) -> None:
    await world.first_champion()
    made = await world.plane.keys.create("app")
    await world.turn()
    for worker in world.workers:
        assert worker.snapshot is not None
        assert [key.id for key in worker.snapshot.keys] == [made.id]
    await world.plane.keys.revoke("app")
    await world.turn()
    assert world.published[-1].keys == ()


async def test_a_rollout_does_not_go_on_while_a_worker_runs_on_an_older_split(
    world: World,
) -> None:
    await world.first_champion()
    world.users_per_turn = 5
    world.workers[1].is_hung = True
    rollout = await world.ship("b")
    for _ in range(20):
        await world.turn()
    assert world.row(rollout).state == "shifting"
    world.workers[1].is_hung = False
    await world.turn()
    await world.turn()
    assert world.row(rollout).state == "judging"


async def test_a_paused_rollout_is_still_paused_after_a_restart(world: World) -> None:
    await world.first_champion()
    long = msgspec.structs.replace(PLAN, steps=PLAN.steps[:1])
    rollout = await world.ship("b", plan=long)
    await world.until(lambda: world.row(rollout).state == "judging")
    await world.plane.command(rollout, "pause")
    await world.restart()
    await world.turn()
    assert (await world.plane.reports.rollout(rollout)).paused


def config_of(world: World, release: str) -> Path:
    """The small blob that says what the release is."""
    return world.registry._layout.path_of(world.digests[release])


def damage(blob: Path) -> bytes:
    """Another file of this name: the one there is shared with other tests."""
    sound = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(sound[:-1] + b"?")
    return sound


async def trouble(world: World, service: str = "bank") -> str:
    status = await world.plane.reports.status()
    return next(s.trouble for s in status.services if s.name == service)


@pytest.mark.parametrize("how", ["damaged", "gone"])
async def test_a_champion_that_cannot_be_read_is_missing_for_its_service_only(
    world: World, how: str
) -> None:
    """Built again, it is served again, without another restart."""
    await world.first_champion("a")
    other = await world.ship("b", plan=DIRECT, service="shop")
    assert (await world.finish(other)).outcome == "promoted"
    blob = config_of(world, "a")
    sound = damage(blob)
    if how == "gone":
        blob.unlink()
    await world.restart()
    for _ in range(8):
        await world.turn()
    assert world.route("bank").champion is None
    assert world.route("shop").champion == world.digests["b"]
    assert world.route("shop").releases[world.digests["b"]].endpoints
    assert await trouble(world, "shop") == ""
    said = await trouble(world)
    assert "release a " in said
    assert "cannot be read" in said
    assert "fairlead release build" in said
    blob.unlink(missing_ok=True)
    blob.write_bytes(sound)
    for _ in range(6):
        await world.turn()
    assert await trouble(world) == ""
    assert world.route("bank").champion == world.digests["a"]
    assert world.route("bank").releases[world.digests["a"]].endpoints


async def test_another_release_can_be_shipped_over_a_champion_that_cannot_be_read(
    world: World,
) -> None:
    await world.first_champion("a")
    damage(config_of(world, "a"))
    await world.restart()
    rollout = await world.ship("b", plan=DIRECT)
    assert (await world.finish(rollout)).outcome == "promoted"
    await world.turn()
    assert world.route().champion == world.digests["b"]
    assert await trouble(world) == ""


@pytest.mark.parametrize(("state", "outcome"), [("starting", "failed"), ("judging", "rolled_back")])
async def test_the_rollout_of_a_release_that_cannot_be_read_ends_with_the_cause(
    world: World, state: str, outcome: str
) -> None:
    await world.first_champion("a")
    if state == "starting":
        world.target.held.add(world.engine_of("b"))
    rollout = await world.ship("b")
    await world.until(lambda: world.row(rollout).state == state)
    damage(config_of(world, "b"))
    await world.restart()
    view = await world.finish(rollout)
    assert view.outcome == outcome
    assert "cannot be read" in view.reason
    assert world.route().champion == world.digests["a"]


async def test_a_rollout_waits_for_a_registry_that_cannot_be_read_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk that refuses says nothing of the release."""
    await world.first_champion("a")
    rollout = await world.ship("b")
    await world.until(lambda: world.row(rollout).state == "judging")

    def refuse(_reference: str) -> Any:
        raise StorageFailed("input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(world.registry, "get", refuse)
        await world.restart()
        for _ in range(8):
            await world.turn()
        assert world.row(rollout).state == "judging"
        assert await trouble(world) == "input/output error"
    world.users_per_turn = 15
    assert (await world.finish(rollout)).outcome == "promoted"
    assert await trouble(world) == ""
