"""What another build stored, and what is damaged, holds up one rollout at most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy

from control.simulated_world import DIRECT, PLAN, World
from fairlead.control.shipping.stored import JUDGE_LOST, read_rollout
from fairlead.control.views import RollbackRequest
from fairlead.domain.errors import Damaged
from fairlead.domain.strata import Strata
from fairlead.rollout.judge import new_judge
from fairlead.rollout.plan import Step

LONG = msgspec.structs.replace(PLAN, steps=(Step(0.5, 1_000_000, 0.0),))


def rewrite(tmp_path: Path, rollout: str, document: bytes) -> None:
    """Put another document in the place of a rollout's own."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/fairlead.db")
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("update rollouts set document = :document where id = :id"),
            {"document": document.decode(), "id": rollout},
        )
    engine.dispose()


def with_another_judge(world: World, tmp_path: Path, rollout: str) -> None:
    """As a build wrote it whose tests kept their state in another form."""
    given: Any = msgspec.json.decode(world.row(rollout).document)
    given["rollout"]["judge"]["rollback"] = {"wealth": [1.0, 2.0]}
    rewrite(tmp_path, rollout, msgspec.json.encode(given))


async def test_an_ended_rollout_of_another_build_is_still_there(
    world: World, tmp_path: Path
) -> None:
    await world.first_champion("a")
    old = await world.ship("b", plan=DIRECT)
    await world.finish(old)
    with_another_judge(world, tmp_path, old)
    await world.restart()
    stored = read_rollout(world.row(old))
    assert stored.judge_lost
    assert stored.document.rollout.judge == new_judge(DIRECT)
    assert stored.document.spec == world.spec("b", plan=DIRECT)
    view = await world.plane.reports.rollout(old)
    assert (view.outcome, view.ending) == ("promoted", "promoted")
    assert JUDGE_LOST in [entry.why for entry in view.history]
    back = await world.plane.rollback("bank", RollbackRequest())
    assert (await world.finish(back.id)).outcome == "promoted"
    assert world.champion() == world.digests["a"]


async def test_a_rollout_whose_evidence_is_lost_goes_back(world: World, tmp_path: Path) -> None:
    await world.first_champion("a")
    rollout = await world.ship("b", plan=LONG)
    await world.until(lambda: world.row(rollout).state == "judging")
    with_another_judge(world, tmp_path, rollout)
    await world.restart()
    view = await world.finish(rollout)
    assert (view.outcome, view.reason) == ("rolled_back", JUDGE_LOST)
    assert world.champion() == world.digests["a"]


async def test_one_that_waits_in_the_queue_begins_with_a_new_judge(
    world: World, tmp_path: Path
) -> None:
    await world.first_champion("a")
    first = await world.ship("b", plan=LONG)
    waiting = await world.ship("c", plan=DIRECT, when_busy="queue")
    with_another_judge(world, tmp_path, waiting)
    await world.restart()
    await world.plane.command(first, "abort")
    await world.until(lambda: world.row(waiting).state == "promoted")


async def test_a_damaged_rollout_holds_up_its_service_only(world: World, tmp_path: Path) -> None:
    """It says what to do, and can be ended."""
    await world.first_champion("a")
    await world.first_champion("b", service="other")
    old = await world.ship("c", plan=DIRECT)
    await world.finish(old)
    rollout = await world.ship("d", plan=LONG)
    await world.until(lambda: world.row(rollout).state == "judging")
    queued = await world.ship("a", plan=DIRECT, when_busy="queue")
    for damaged in (old, rollout, queued):
        rewrite(tmp_path, damaged, b'{"spec": {}}')
    await world.stop()
    await world.start()
    await world.plane.tick()
    await world.acknowledge()
    await world.plane.tick()
    assert world.plane.hub.snapshot is not None
    assert set(world.plane.hub.snapshot.services) == {"bank", "other"}
    assert world.route().champion == world.digests["c"]
    assert world.route().canary is None
    views = {view.id: view for view in await world.plane.reports.rollouts(None, 100)}
    assert views[old].outcome == "promoted"
    assert f"rollout abort {rollout}" in views[rollout].advice
    troubles = {s.name: s.trouble for s in (await world.plane.reports.status()).services}
    assert rollout in troubles["bank"]
    assert not troubles["other"]
    with pytest.raises(Damaged, match=rollout) as refused:
        await world.ship("a", plan=DIRECT)
    assert f"fairlead rollout abort {rollout}" in str(refused.value)
    for damaged in (queued, rollout):
        await world.plane.command(damaged, "abort")
        assert (world.row(damaged).state, world.row(damaged).active) == ("aborted", False)
    again = await world.ship("a", plan=DIRECT)
    for _ in range(30):
        world.target.step()
        await world.acknowledge()
        await world.plane.tick()
    assert world.row(again).state == "promoted"


async def test_evidence_on_other_strata_is_lost_though_it_can_be_read(
    world: World, tmp_path: Path
) -> None:
    """As of a build that told other strata apart: the loop of control goes on."""
    told = msgspec.structs.replace(LONG, strata=Strata("size"))
    await world.first_champion("a")
    rollout = await world.ship("b", plan=told)
    await world.until(lambda: world.row(rollout).state == "judging")
    given: Any = msgspec.json.decode(world.row(rollout).document)
    given["rollout"]["judge"]["rollback"]["parts"][0]["strata"].pop()
    rewrite(tmp_path, rollout, msgspec.json.encode(given))
    await world.restart()
    view = await world.finish(rollout)
    assert (view.outcome, view.reason) == ("rolled_back", JUDGE_LOST)
    assert world.champion() == world.digests["a"]
