"""Each action does what was decided, once, also when it is carried out twice."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import msgspec
import pytest

from control.acting_world import acting, carry_out, entry, serves, small, told
from control.answering_replica import AnsweringReplica, echo
from control.simulated_world import DIRECT, PLAN, World, questions
from fairlead.control.acting.proposals import PROPOSALS_MAX
from fairlead.control.api import create_app
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.errors import Conflict, InvalidInput, NotFound
from fairlead.domain.release import short
from fairlead.domain.replica import ReplicaState
from fairlead.monitoring.actions import ActionKind
from fairlead.store.rows import SampleRow, SpoolCursor

Start = Callable[..., AnsweringReplica]


# Going back


async def test_it_goes_back_once_and_says_why(world: World) -> None:
    await world.first_champion()
    await world.finish(await world.ship("b", plan=DIRECT))
    back = entry(ActionKind.ROLL_BACK, world.digests["a"])
    begun = await carry_out(world, back)
    assert "rollout ro-" in begun
    again = await carry_out(world, back)
    assert "it goes back to release a by rollout" in again
    await world.until(lambda: world.champion() == world.digests["a"])
    await world.until(lambda: world.plane._overview.running("bank") is None)
    assert "serves" in await carry_out(world, back)
    rows = [row for row in world.rollouts() if row.release == world.digests["a"]]
    assert len(rows) == 2, "one that made it champion first, one that went back"
    assert "for a test: bank: slo is wrong" in read_rollout(rows[0]).document.rollout.why
    (event,) = told(world)
    assert event.startswith("roll_back: from release b back to")
    assert "by policy roll_back:slo: for a test" in event


async def test_carried_out_again_after_another_release_came_it_stays_done(world: World) -> None:
    """A control that dies before it notes what it did must not undo what a person shipped since."""
    await world.first_champion()
    await world.finish(await world.ship("b", plan=DIRECT))
    back = entry(ActionKind.ROLL_BACK, world.digests["a"])
    await carry_out(world, back)
    await world.until(lambda: world.champion() == world.digests["a"])
    await world.until(lambda: world.plane._overview.running("bank") is None)
    await world.finish(await world.ship("c", plan=DIRECT))
    assert "promoted" in await carry_out(world, back)
    assert world.plane._overview.running("bank") is None
    assert world.champion() == world.digests["c"]


async def test_what_cannot_be_gone_back_to_is_an_error_and_no_event(world: World) -> None:
    await world.first_champion()
    await world.finish(await world.ship("b", plan=DIRECT))
    with pytest.raises(NotFound, match="never been its champion"):
        await carry_out(world, entry(ActionKind.ROLL_BACK, world.digests["c"]))
    assert told(world) == []
    gone = entry(ActionKind.ROLL_BACK, world.digests["a"], service="nobody")
    with pytest.raises(NotFound, match="no service"):
        await carry_out(world, gone)


# Pausing


async def test_a_rollout_is_paused_by_the_policy(world: World) -> None:
    await world.first_champion()
    rollout = await world.ship("b")
    await world.turn()
    pause = entry(ActionKind.PAUSE_ROLLOUT, rollout)
    assert "fairlead rollout resume" in await carry_out(world, pause)
    assert await carry_out(world, pause) == f"rollout {rollout} is paused"
    running = world.plane._overview.running("bank")
    assert running is not None
    assert running.rollout.paused
    assert running.rollout.history[-1].why == "paused by policy pause_rollout:slo"
    await world.plane.command(rollout, "abort")
    await world.finish(rollout)
    assert "has ended before" in await carry_out(world, pause)
    assert len(told(world)) == 1


async def test_a_rollout_that_cannot_be_held_any_more_is_not_tried_again(world: World) -> None:
    await world.first_champion()
    rollout = await world.ship("b")
    await world.until(lambda: world.row(rollout).state == "judging")
    for worker in world.workers:
        worker.is_hung = True
    await world.plane.command(rollout, "abort")
    assert world.row(rollout).state == "rolling_back"
    said = await carry_out(world, entry(ActionKind.PAUSE_ROLLOUT, rollout))
    assert said.startswith("not done: ")


# Fallbacks


async def diverted(world: World) -> None:
    await world.first_champion(fallbacks=("small",))
    await small(world)
    said = await carry_out(world, entry(ActionKind.FALLBACK, "small"))
    assert said.startswith("small answers in the place of release a")
    await world.turn()


def answers(world: World) -> bool:
    """Whether the champion of `bank` may be sent to."""
    return bool(world.route().releases[world.route().champion or ""].endpoints)


async def test_the_fallbacks_answer_until_a_person_ends_it_also_after_a_restart(
    world: World,
) -> None:
    await diverted(world)
    assert not answers(world)
    await world.restart()
    await world.until(lambda: world.plane.hub.snapshot is not None)
    assert not answers(world), "it is kept"
    again = entry(ActionKind.FALLBACK, "small")
    assert await carry_out(world, again) == "the fallbacks answer"
    (since,) = acting(world).diversions.all()
    assert (since.release, since.by) == (world.digests["a"], "policy fallback:slo")
    ended = await world.plane.undivert("bank")
    assert ended == since
    await world.turn()
    assert answers(world)
    assert len(told(world, "diverted")) == len(told(world, "undiverted")) == 1
    with pytest.raises(NotFound, match="no fallbacks answer"):
        await world.plane.undivert("bank")


async def test_the_promotion_of_another_release_ends_it(world: World) -> None:
    await diverted(world)
    with pytest.raises(Conflict, match="fallbacks answer"):
        await world.ship("c", plan=PLAN)
    await world.finish(await world.ship("c", plan=DIRECT))
    await world.turn()
    assert acting(world).diversions.all() == []
    assert answers(world)
    assert "release" in told(world, "undiverted")[0]
    await world.finish(await world.ship("a", plan=DIRECT))
    await world.turn()
    assert answers(world), "it was for that time only"


async def test_without_a_fallback_that_is_ready_it_is_tried_again(world: World) -> None:
    await world.first_champion(fallbacks=("small",))
    with pytest.raises(Conflict, match="none of its fallbacks"):
        await carry_out(world, entry(ActionKind.FALLBACK, "small"))
    assert acting(world).diversions.all() == []


# Scaling


async def test_more_replicas_are_declared_and_never_fewer(world: World) -> None:
    await world.first_champion()
    scale = entry(ActionKind.SCALE, "3")
    assert await carry_out(world, scale) == "release a has 3 replicas instead of 1"
    assert await carry_out(world, scale) == "release a has 3 replicas"
    await world.until(lambda: len(world.replicas_of("a")) == 3)
    assert await carry_out(world, entry(ActionKind.SCALE, "2", at=1_001.0)) == (
        "release a has 3 replicas"
    )
    await world.turn()
    assert len(world.replicas_of("a")) == 3
    (changed,) = told(world, "settings_changed")
    assert changed == "settings changed: plan"


async def test_during_a_rollout_it_waits(world: World) -> None:
    await world.first_champion()
    await world.ship("b")
    await world.turn()
    with pytest.raises(Conflict, match="under way"):
        await carry_out(world, entry(ActionKind.SCALE, "2"))


@pytest.mark.parametrize("target", ["0", "-1", "x", "1e3", "1001", "9" * 30, "\u0663"])
async def test_what_is_no_number_of_replicas_is_refused(world: World, target: str) -> None:
    await world.first_champion()
    with pytest.raises(InvalidInput, match="no number of replicas"):
        await carry_out(world, entry(ActionKind.SCALE, target))


# Gates again


@pytest.fixture
async def answering(world: World, replica: Start) -> AnsweringReplica:
    """All replicas of the world are this one, and it is right."""
    made = replica()
    world.target.base_urls = lambda _engine: made.url
    return made


async def run_again(world: World, at: float) -> str:
    said = await carry_out(world, entry(ActionKind.RERUN_GATE, world.digests["a"], at=at))
    runs = acting(world).gate_runs

    def is_over() -> bool:
        last = runs.last("bank")
        return last is not None and last.ended_at is not None

    await world.until_in_real_time(is_over, seconds=0.1)
    return said


async def test_gates_are_asked_again_and_a_failure_is_a_condition_until_they_pass(
    world: World, answering: AnsweringReplica
) -> None:
    gate = world.gate(questions(12), minimum=0.9)
    await serves(world, "a", gates=(gate,))
    assert set(answering.asked.values()) == {1}
    answering.answer = lambda text: "no idea"
    await run_again(world, 1_000.0)
    assert set(answering.asked.values()) == {2}, "nothing that was kept is used"
    runs = acting(world).gate_runs
    (condition,) = runs.conditions()
    assert dict(condition.labels) == {
        "monitor": "gate", "service": "bank", "gate": "quality",
        "release": short(world.digests["a"]),
    }  # fmt: skip
    assert "0 of 12 right" in condition.summary
    assert "quality fail: 0 of 12 right" in told(world, "gates_rerun")[0]
    await world.restart()
    assert acting(world).gate_runs.conditions() == [condition]
    answering.answer = echo
    await run_again(world, 2_000.0)
    assert acting(world).gate_runs.conditions() == []
    assert set(answering.asked.values()) == {3}
    said = await carry_out(world, entry(ActionKind.RERUN_GATE, world.digests["a"], at=2_000.0))
    assert said == "its gates were run again: quality pass"


async def test_a_champion_is_compared_with_what_it_was_accepted_with(
    world: World, answering: AnsweringReplica
) -> None:
    await serves(world, "a", gates=(world.gate(questions(40), margin=0.1),))
    answering.answer = lambda text: "no idea"
    await run_again(world, 1_000.0)
    (condition,) = acting(world).gate_runs.conditions()
    assert "worse by more than" in condition.summary
    await run_again(world, 2_000.0)
    assert acting(world).gate_runs.conditions() == [condition], "the bar has not come down"


async def test_a_control_that_dies_goes_on_where_it_was(world: World, replica: Start) -> None:
    made = replica()
    world.target.base_urls = lambda _engine: made.url
    await serves(world, "a", gates=(world.gate(questions(12), minimum=0.9),))
    slow = replica(echo, 6)
    for one in world.replicas_of("a"):
        world.target._replicas[one.id] = msgspec.structs.replace(one, base_url=slow.url)
    await carry_out(world, entry(ActionKind.RERUN_GATE, world.digests["a"]))
    await world.until_in_real_time(lambda: slow.is_stuck, seconds=0.1)
    await world.restart()
    slow.resume()
    await run_again(world, 1_000.0)
    (event,) = told(world, "gates_rerun")
    assert "12 of 12 right" in event
    assert sum(slow.asked.values()) <= 12 + 4, "only what was under way is asked again"


async def test_another_champion_ends_what_was_said_of_the_one_before(
    world: World, answering: AnsweringReplica
) -> None:
    await serves(world, "a", gates=(world.gate(questions(5), minimum=0.9),))
    answering.answer = lambda text: "no idea"
    await run_again(world, 1_000.0)
    assert acting(world).gate_runs.conditions() != []
    await world.finish(await world.ship("b", plan=DIRECT))
    await world.turn()
    assert acting(world).gate_runs.conditions() == []
    late = entry(ActionKind.RERUN_GATE, world.digests["a"], at=3_000.0)
    assert "does not serve any more" in await carry_out(world, late)


# Proposals


async def test_a_proposal_says_what_there_is_to_learn_from(world: World) -> None:
    await world.first_champion()
    world.users_per_turn = 10
    for _ in range(20):
        await world.turn()
    sample = SampleRow("s1", "bank", "k", "u", world.now, world.now + 1e6, "[]", "x", False)
    world.store.ingest("another", [], [], SpoolCursor(), samples=[sample])
    propose = entry(ActionKind.PROPOSE_RETRAINING, world.digests["a"])
    said = await carry_out(world, propose)
    assert await carry_out(world, propose) == said
    (made,) = await acting(world).proposals.all()
    assert (made.release, made.samples, made.alert) == (world.digests["a"], 1, "a1e57")
    assert made.requests == made.feedback["success"] == 200
    assert 0.5 < made.means["success"] < 1.0
    assert "fairlead samples list --service bank --limit 1000 --json" in made.commands
    assert "200 values of success on 200 requests" in said
    assert len(told(world)) == 1
    assert await acting(world).proposals.all("small") == []


async def test_the_last_proposals_are_kept(world: World) -> None:
    await world.first_champion()
    for number in range(PROPOSALS_MAX + 3):
        world.now += 1.0
        await carry_out(
            world, entry(ActionKind.PROPOSE_RETRAINING, world.digests["a"], at=float(number))
        )
    kept = await acting(world).proposals.all()
    assert len(kept) == PROPOSALS_MAX
    assert kept[0].at == world.now


async def test_what_cannot_be_read_is_left_out(world: World) -> None:
    await world.first_champion(fallbacks=("small",))
    for kind in ("diverted", "gate_run", "proposal"):
        world.store.commit_documents({(kind, "bank"): b'{"service": 7}'})
    await world.restart()
    await world.until(lambda: world.plane.hub.snapshot is not None)
    assert answers(world)
    assert await acting(world).proposals.all() == []


async def test_people_see_diversions_and_proposals_by_the_api(world: World) -> None:
    await diverted(world)
    await carry_out(world, entry(ActionKind.PROPOSE_RETRAINING, world.digests["a"]))
    transport = httpx.ASGITransport(create_app(world.plane, "t"))
    headers = {"authorization": "Bearer t"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://c/api/v1", headers=headers
    ) as client:
        (shown,) = (await client.get("/diversions")).json()
        assert (shown["service"], shown["fallbacks"]) == ("bank", ["small"])
        (proposal,) = (await client.get("/proposals", params={"service": "bank"})).json()
        assert proposal["id"].startswith("pr-")
        ended = await client.post("/services/bank/undivert")
        assert ended.json()["release"] == world.digests["a"]
        assert (await client.post("/services/bank/undivert")).status_code == 404
        assert (await client.get("/diversions")).json() == []


async def test_a_champion_that_a_replica_lacks_is_no_hindrance(world: World) -> None:
    """An outage is what a fallback is for: it is carried out while the champion is down."""
    await world.first_champion(fallbacks=("small",))
    await small(world)
    for one in world.replicas_of("a"):
        world.target.set_state(one.id, ReplicaState.FAILED, "it broke")
    assert "small answers" in await carry_out(world, entry(ActionKind.FALLBACK, "small"))
