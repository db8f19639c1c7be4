"""Gates within a rollout: what is asked, what is kept, and what becomes of a release that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from control.answering_replica import AnsweringReplica, echo
from control.simulated_world import DIRECT, World, questions
from fairlead.domain.replica import ReplicaState
from fairlead.domain.verdicts import GateOutcome

Start = Callable[..., AnsweringReplica]


def wrong(text: str) -> str:
    return "no idea"


@pytest.fixture
async def answering(world: World, replica: Start) -> AnsweringReplica:
    """All replicas of the world are this one, and it is right."""
    made = replica()
    world.target.base_urls = lambda _engine: made.url
    return made


async def test_a_release_that_passes_its_gate_goes_on_to_traffic(
    world: World, answering: AnsweringReplica
) -> None:
    gate = world.gate(questions(12), minimum=0.9)
    view = await world.finish(await world.ship("a", plan=DIRECT, gates=(gate,)), turns=1_000)
    assert view.outcome == "promoted"
    (verdict,) = view.gate_verdicts
    assert verdict.outcome is GateOutcome.PASS
    assert set(answering.asked.values()) == {1}
    assert answering.bodies[0]["messages"][-1]["content"].startswith("a: say ")
    assert answering.bodies[0]["temperature"] == 0.0
    kept = world.store.gate_results(rollout=view.id)
    assert [row.outcome for row in kept] == [GateOutcome.PASS]


async def test_a_release_that_fails_its_gate_has_no_route_in_any_snapshot(
    world: World, answering: AnsweringReplica
) -> None:
    await world.first_champion()
    world.users_per_turn = 5
    answering.answer = wrong
    gate = world.gate(questions(8), minimum=0.5)
    view = await world.finish(await world.ship("d", gates=(gate,)), turns=1_000)
    assert view.outcome == "gate_failed"
    assert "below the minimum" in view.reason
    await world.until(lambda: world.replicas_of("d") == [])
    digest = world.digests["d"]
    assert not any(digest in s.services["bank"].releases for s in world.published)
    assert "d" not in world.served
    assert world.champion() == world.digests["a"]


async def test_a_gate_compares_with_the_champion_on_the_same_cases(
    world: World, replica: Start
) -> None:
    """Both are asked each case once; a candidate that is worse than the margin fails."""
    good = replica()
    bad = replica(lambda text: echo(text) if echo(text) < "5" else "")
    world.target.base_urls = lambda engine: good.url if engine == world.engine_of("a") else bad.url
    await world.first_champion()
    gate = world.gate(questions(100), margin=0.05)
    view = await world.finish(await world.ship("b", gates=(gate,)), turns=2_000)
    assert view.outcome == "gate_failed"
    assert "worse by more than 5 points" in view.reason
    assert sum(good.asked.values()) == sum(bad.asked.values()) == 100


async def test_an_interrupted_evaluation_goes_on_with_the_cases_that_are_left(
    world: World, answering: AnsweringReplica, replica: Start
) -> None:
    """Control ends half-way; the next one asks only what has no result, and comes to the same."""
    stuck = replica(echo, 30)
    world.target.base_urls = lambda _engine: stuck.url
    gate = world.gate(questions(60), minimum=0.9)
    rollout = await world.ship("a", plan=DIRECT, gates=(gate,))
    await world.until(lambda: stuck.is_stuck, turns=2_000)
    progress = (await world.plane.reports.rollout(rollout)).gates[0]
    assert (progress.total, progress.reused) == (60, 0)
    await world.stop()
    stuck.resume()
    for key in [r.id for r in world.target.replicas()]:
        world.target.lose(key)
    world.target.base_urls = lambda _engine: answering.url
    await world.start()
    view = await world.finish(rollout, turns=2_000)
    assert view.outcome == "promoted"
    kept = len(world.store.case_results(world.digests["a"], _scorer_of(world, gate)))
    assert kept == 60
    again = sum(answering.asked.values())
    assert 60 - 30 <= again <= 60 - 30 + gate.concurrency
    assert set(answering.asked.values()) == {1}


async def test_answers_are_used_again_by_a_later_rollout_of_the_same_release(
    world: World, answering: AnsweringReplica
) -> None:
    gate = world.gate(questions(10), minimum=0.9)
    first = await world.plane.ship(world.spec("a", gates=(gate,)), gates_only=True)
    assert (await world.finish(first.id, turns=1_000)).outcome == "gates_passed"
    assert world.champion() is None
    assert len(world.published) > 0
    assert all(s.services["bank"].releases == {} for s in world.published)
    second = await world.ship("a", plan=DIRECT, gates=(gate,))
    assert (await world.finish(second, turns=1_000)).outcome == "promoted"
    assert sum(answering.asked.values()) == 10


async def test_a_suite_that_cannot_be_read_ends_the_rollout_with_the_reason(
    world: World, answering: AnsweringReplica
) -> None:
    """However many gates there are: an evaluation that breaks is an error for all of them."""
    gate = world.gate(questions(3))
    lost = msgspec.structs.replace(gate, suite="sha256:" + "1" * 64)
    other = msgspec.structs.replace(gate, rule=msgspec.structs.replace(gate.rule, name="other"))
    view = await world.finish(await world.ship("a", gates=(lost, other)), turns=300)
    assert view.outcome == "gate_failed"
    assert "no blob" in view.reason
    assert {v.outcome for v in view.gate_verdicts} == {GateOutcome.ERROR}


async def test_aborting_stops_the_questions(world: World, replica: Start) -> None:
    stuck = replica(echo, 5)
    world.target.base_urls = lambda _engine: stuck.url
    gate = world.gate(questions(40))
    rollout = await world.ship("a", gates=(gate,))
    await world.until(lambda: stuck.is_stuck, turns=1_000)
    view = await world.plane.command(rollout, "abort")
    assert view.outcome == "aborted"
    stuck.resume()
    await asyncio.sleep(0.05)
    asked = len(stuck.bodies)
    for _ in range(5):
        await world.turn()
        await asyncio.sleep(0.005)
    assert len(stuck.bodies) == asked < 40
    assert world.replicas_of("a") == []


async def test_replicas_that_do_not_answer_do_not_hold_up_control(
    world: World, replica: Start
) -> None:
    """More questions wait for an answer than a small machine has threads to spare."""
    stuck = replica(echo, 0)
    world.target.base_urls = lambda _engine: stuck.url
    gate = msgspec.structs.replace(world.gate(questions(80)), concurrency=40)
    rollout = await world.ship("a", gates=(gate,))
    await world.until(lambda: len(stuck.bodies) == 40, turns=1_000)
    async with asyncio.timeout(30):
        await world.turn()
        assert (await world.plane.reports.status()).services[0].rollout == rollout
        assert (await world.plane.command(rollout, "abort")).outcome == "aborted"
    stuck.resume()


async def test_evaluating_the_champion_takes_none_of_its_replicas(
    world: World, replica: Start
) -> None:
    """`fairlead eval` of the release that serves must not shrink what serves."""
    stuck = replica(echo, 2)
    world.target.base_urls = lambda _engine: stuck.url
    await world.first_champion(plan=msgspec.structs.replace(DIRECT, champion_replicas=3))
    gate = world.gate(questions(5))
    await world.plane.ship(world.spec("a", gates=(gate,)), gates_only=True)
    await world.until(lambda: stuck.is_stuck, turns=1_000)
    for _ in range(3):
        await world.turn()
        states = [each.state for each in world.replicas_of("a")]
        assert states == [ReplicaState.READY] * 3
    stuck.resume()


def _scorer_of(world: World, gate: object) -> str:
    from fairlead.evaluation.scorers import scorer_digest

    return scorer_digest(gate.scorer)  # type: ignore[attr-defined]
