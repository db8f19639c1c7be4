"""Suites that are run again: on both releases' own replicas, each case once, through any kill."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from control.answering_replica import AnsweringReplica
from control.simulated_world import PLAN, World, ended, questions
from fairlead.control.shipping.spec import check_spec
from fairlead.control.shipping.suite_runs import batch_of
from fairlead.domain.errors import InvalidInput
from fairlead.evaluation.cases import Suite, make_case, order_of_runs
from fairlead.evaluation.scorers import Exact, scorer_digest
from fairlead.rollout.plan import Plan
from fairlead.rollout.suites import SuiteMetric

Replica = Callable[..., AnsweringReplica]
SUITE = SuiteMetric("answers", "quality", cases=20, margin=0.2)
SUITED: Plan = msgspec.structs.replace(PLAN, suites=(SUITE,))


async def test_worse_answers_to_a_suite_roll_back_though_users_say_nothing(
    world: World, replica: Replica
) -> None:
    server = replica()
    right = server.answer
    world.target.base_urls = lambda _engine: server.url
    await world.first_champion()
    server.answer = lambda text: "wrong" if text.startswith("d: ") else right(text)
    world.users_per_turn, world.fails["d"] = 6, 0.2
    gate = world.gate(questions(60), minimum=0.0)
    rollout = await world.ship("d", plan=SUITED, gates=(gate,))
    view = await ended(world, rollout)
    assert (view.outcome, view.ending) == ("rolled_back", "worse")
    assert view.reason.startswith("suite answers: score 0.0% against 100.0% of the champion in 20")
    (line,) = view.queries
    assert (line.name, line.kind) == ("answers", "suite")
    assert line.state.endswith("; 40 questions")


async def test_each_case_is_asked_once_of_each_release_though_control_is_killed(
    world: World, replica: Replica
) -> None:
    """Beside what the gate has asked; and a promotion has waited for it."""
    server = replica()
    world.target.base_urls = lambda _engine: server.url
    await world.first_champion()
    world.users_per_turn, world.fails["a"] = 6, 0.0
    gate = world.gate(questions(90), minimum=0.0)
    gate = msgspec.structs.replace(gate, cases=10)
    rollout = await world.ship("b", plan=SUITED, gates=(gate,))
    view = await ended(world, rollout, kill_every=4)
    assert view.ending == "promoted", view.reason
    (line,) = view.queries
    assert not line.is_bad
    assert int(line.state.partition(" in ")[2].split()[0]) >= 40
    counted = int(line.state.partition(" in ")[2].split()[0])
    asked = [text for text in server.asked if text.startswith("a: ")]
    assert counted == len(asked), "each case is a pair once, and none was asked for nothing"
    # What was under way when control was killed is asked again, and counts once.
    assert max(server.asked[text] for text in asked) <= 3
    assert kept(world, rollout, "a") == kept(world, rollout, "b") == 0, "they were for this rollout"


def kept(world: World, rollout: str, release: str, suite: str = "answers") -> int:
    """Answers of a release that are kept for a suite of a rollout."""
    name = f"suite {rollout} {suite} {scorer_digest(Exact())}"
    return len(world.store.case_results(world.digests[release], name))


async def test_each_suite_on_a_gate_asks_for_itself(world: World, replica: Replica) -> None:
    """One that is asked later is asked of the replicas as they are then."""
    server = replica()
    world.target.base_urls = lambda _engine: server.url
    await world.first_champion()
    world.users_per_turn, world.fails["a"] = 6, 0.0
    again = msgspec.structs.replace(SUITE, name="again", promotes=False)
    gate = msgspec.structs.replace(world.gate(questions(60), minimum=0.0), cases=2)
    plan = msgspec.structs.replace(SUITED, suites=(SUITE, again))
    rollout = await world.ship("b", plan=plan, gates=(gate,))
    await world.until(lambda: kept(world, rollout, "a", "again") > 0)
    assert kept(world, rollout, "a") == kept(world, rollout, "a", "again") == 20
    asked = [text for text in server.asked if text.startswith("a: ")]
    assert [server.asked[text] for text in asked] == [2] * 20


async def test_cases_that_cannot_be_scored_are_not_taken_for_no_answer(
    world: World, replica: Replica
) -> None:
    """Both releases are as bad at them, however many come together."""
    server = replica()
    world.target.base_urls = lambda _engine: server.url
    await world.first_champion()
    world.users_per_turn, world.fails["a"] = 6, 0.0
    pool = tuple(make_case(f"say {number}", None) for number in range(200))
    first = order_of_runs(Suite(pool))[:4]
    rest = [case for case in questions(90) if order_of_runs(Suite((case, first[3])))[0] != case]
    gate = msgspec.structs.replace(world.gate([*first, *rest], minimum=0.0), cases=2)
    plan = msgspec.structs.replace(SUITED, suites=(msgspec.structs.replace(SUITE, cases=4),))
    view = await ended(world, await world.ship("b", plan=plan, gates=(gate,)))
    assert view.ending == "promoted", view.reason


def test_no_run_asks_fewer_cases_than_it_should_for_a_rest() -> None:
    """One case that nobody can answer is not taken for replicas that answer nothing."""
    cases = questions(41)
    assert [len(batch_of(cases, asked, 20)) for asked in (0, 20, 41)] == [20, 21, 0]
    assert [len(batch_of(cases[:40], asked, 20)) for asked in (0, 20)] == [20, 20]
    assert batch_of(cases[:3], 0, 20) == cases[:3], "there are no more"


async def test_replicas_that_answer_no_case_hold_it_and_end_it(
    world: World, replica: Replica
) -> None:
    server = replica()
    world.target.base_urls = lambda _engine: server.url
    await world.first_champion()
    world.users_per_turn = 6
    plan = msgspec.structs.replace(
        SUITED, suites=(msgspec.structs.replace(SUITE, cases=4, unanswered_s=60.0),)
    )
    gate = world.gate(questions(60), minimum=0.0, errors_at_most=1.0)
    gate = msgspec.structs.replace(gate, cases=2)
    rollout = await world.ship("b", plan=plan, gates=(gate,))
    await world.until(lambda: world.row(rollout).state in ("shifting", "judging"))
    server.status, server.raw = 503, b"busy"
    view = await ended(world, rollout, turns=150)
    assert (view.outcome, view.ending) == ("rolled_back", "suite_unanswered")
    assert "no case was answered for 60 s: the champion answered none of 4 cases" in view.reason


def test_a_suite_without_its_gate_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match="there is no gate 'quality'"):
        check_spec(world.spec("b", plan=SUITED))


def test_a_suite_that_is_never_run_is_no_condition_of_a_promotion(world: World) -> None:
    gates = (world.gate(questions(3), minimum=0.5),)
    check_spec(world.spec("b", plan=SUITED, gates=gates))
    at_once = msgspec.structs.replace(SUITED, steps=())
    with pytest.raises(InvalidInput, match="answers: is needed to promote, and there is no step"):
        check_spec(world.spec("b", plan=at_once, gates=gates))
    watching = msgspec.structs.replace(SUITE, promotes=False)
    at_once = msgspec.structs.replace(at_once, suites=(watching,))
    check_spec(world.spec("b", plan=at_once, gates=gates))
