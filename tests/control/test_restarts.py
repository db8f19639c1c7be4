"""Control is thrown away and made anew at any moment: verdict and service are the same."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from control.simulated_world import DIRECT, PLAN, World
from fairlead.store.interface import Store
from fairlead.wire.snapshot import Limits

WRITES = ("put_service", "commit_rollout", "next_number", "setdefault_setting")


class Crash(BaseException):
    """Control dies here."""


class DyingStore:
    """A store in whose writes control dies, before or after what it wrote is kept.

    Attributes:
        share: Probability with which a write is the last.
        fatal: A write before which control always dies.
    """

    def __init__(self, store: Store, dice: random.Random) -> None:
        self._store = store
        self._dice = dice
        self.share = 0.0
        self.fatal = ""
        self.deaths = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in WRITES:
            return method

        def write(*arguments: Any, **named: Any) -> Any:
            fate = self._dice.random()
            if fate < self.share / 2 or name == self.fatal:
                self.deaths += 1
                raise Crash
            result = method(*arguments, **named)
            if fate < self.share:
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


@pytest.mark.parametrize("fatal", ["put_service", "commit_rollout"])
async def test_champion_and_spec_belong_together_wherever_control_dies(
    world: World, dying: DyingStore, fatal: str
) -> None:
    """The promotion is two writes at most; the next control sees or makes them one."""
    await world.first_champion(limits=Limits(queue=1))
    rollout = await world.ship("b", plan=DIRECT, limits=Limits(queue=2))
    await world.until(lambda: world.row(rollout).state == "switching")
    dying.fatal = fatal
    with pytest.raises(Crash):
        await world.finish(rollout)
    dying.fatal = ""
    await world.restart()
    world.check()
    assert (await world.finish(rollout)).outcome == "promoted"
    await world.turn(seconds=6.0)
    assert world.route().champion == world.digests["b"]
    assert world.route().limits.queue == 2


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
