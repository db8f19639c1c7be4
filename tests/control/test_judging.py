"""A judge model decides a rollout: end to end on simulated time, with a real HTTP judge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from control.answering_replica import AnsweringReplica
from control.judged_world import JUDGED_PLAN, JudgedWorld, grade, judge_at
from fairlead.control.judging.asking import Asker, Seat
from fairlead.control.judging.budget import stop_of
from fairlead.domain.errors import Unavailable
from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.domain.quota import Price
from fairlead.evaluation.judge_model import Budget, Exchange
from fairlead.registry import Registry
from fairlead.rollout.plan import Ramp
from fairlead.store import open_store
from fairlead.store.rows import JudgeSpend, RecordFilter, SampleFilter

Replica = Callable[..., AnsweringReplica]


@pytest.fixture
def world(judged_world: JudgedWorld) -> JudgedWorld:
    return judged_world


def given(world: JudgedWorld, rollout: str) -> dict[str, list[tuple[str, float]]]:
    """Feedback by request."""
    found = {}
    for row in world.store.records(RecordFilter(rollout=rollout), limit=10_000):
        record = world.store.record(row.id)
        assert record is not None
        found[row.id] = [(f.name, f.value) for f in record[1]]
    return found


async def test_wrong_answers_are_rolled_back_without_any_feedback_of_clients(
    world: JudgedWorld, replica: Replica
) -> None:
    server = replica(grade)
    world.use(judge_at(server))
    await world.first_champion()
    rollout = await world.ship_judged("d")
    view = await world.finish(rollout)
    assert (view.outcome, view.ending) == ("rolled_back", "worse")
    assert "sampled units" in view.reason
    assert view.judging is not None
    assert view.judging.judged > 0
    feedback = given(world, rollout)
    sampled = {s.id for s in world.store.samples(SampleFilter(rollout=rollout), limit=10_000)}
    assert all(len(said) <= 1 for said in feedback.values())
    assert {request for request, said in feedback.items() if said} <= sampled
    assert world.champion() == world.digests["a"]


async def test_an_equal_release_is_promoted_by_the_judge(
    world: JudgedWorld, replica: Replica
) -> None:
    world.use(judge_at(replica(grade)))
    world.fails["b"] = world.fails["a"] = 0.02
    await world.first_champion()
    view = await world.finish(await world.ship_judged("b"), turns=400)
    assert (view.outcome, view.judging is not None) == ("promoted", True)
    assert view.verdict is not None
    numbers = view.verdict.numbers
    assert numbers["canary"]["judged_units"] < 0.7 * numbers["canary"]["units"]


async def test_the_judge_is_blind(world: JudgedWorld, replica: Replica) -> None:
    """What it is told names no release, arm, rollout, unit or request."""
    server = replica(grade)
    world.use(judge_at(server))
    await world.first_champion()
    rollout = await world.ship_judged("d")
    await world.finish(rollout)
    asked = json.dumps(server.bodies)
    row = world.store.records(RecordFilter(rollout=rollout), limit=1)[0]
    secrets = [rollout, world.digests["a"], world.digests["d"], "canary", "champion", row.unit]
    assert not [word for word in secrets if word in asked]
    body = server.bodies[0]
    assert (body["temperature"], body["model"]) == (0, "grader")
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["reason", "score"]


async def test_a_slow_judge_changes_when_the_verdict_falls_and_not_which(
    tmp_path: Path,
    world: JudgedWorld,
    replica: Replica,
    own_registry: Registry,
    built: tuple[Path, dict[str, str]],
    empty_database: Path,
) -> None:
    """The same users; a judge that answers at once, and one that is away for a while, with control
    killed meanwhile: the same evidence, number by number."""
    # Ids salt the split, and each world counts its own: the same users meet the same releases.
    ends = []
    for number in range(2):
        shutil.copy(empty_database, tmp_path / f"{number}.db")
        store = open_store(f"sqlite:///{tmp_path}/{number}.db")
        other = JudgedWorld(store, own_registry, built[1])
        await other.start()
        server = replica(grade)
        other.use(judge_at(server))
        await other.first_champion()
        other.users_per_turn = 0
        plan = msgspec.structs.replace(
            JUDGED_PLAN, steps=(msgspec.structs.replace(JUDGED_PLAN.steps[0], units=10**6),)
        )
        other.fails["b"] = 0.3
        rollout = await other.ship_judged("b", plan=plan)
        await other.until(lambda w=other, r=rollout: w.row(r).state == "judging")  # type: ignore[misc]
        other._requests = 10_000
        other.users_per_turn = 12
        if number:
            server.status, server.raw = 503, b""
        for turn in range(30):
            await other.turn()
            if number and turn == 10:
                await other.restart()
        other.users_per_turn = 0
        server.status, server.raw = 200, None
        for _ in range(40):
            await other.turn()
        view = await other.plane.reports.rollout(rollout)
        assert view.verdict is not None
        assert view.judging is not None
        assert (view.judging.pending, view.judging.unjudged) == (0, 0)
        ends.append(view.verdict.numbers)
        await other.stop()
        store.close()
    assert ends[0]["canary"]["judged_units"] > 20
    varying = {"expected_more_seconds"}
    assert {k: v for k, v in ends[0].items() if k not in varying} == {
        k: v for k, v in ends[1].items() if k not in varying
    }


async def test_nothing_is_asked_or_counted_twice_though_control_is_killed(
    world: JudgedWorld, replica: Replica
) -> None:
    server = replica(grade)
    world.use(judge_at(server, price=Price(1.0, 1.0)))
    await world.first_champion()
    rollout = await world.ship_judged("b")
    for _ in range(25):
        await world.turn()
        await world.restart()
    asked = [json.loads(text)["conversation"][0]["text"] for text in server.asked]
    assert len(asked) == len(set(asked))
    assert max(server.asked.values()) == 1
    spent = world.store.judge_spend(rollout=rollout)
    assert spent.asked == spent.judged == len(asked) > 20
    assert all(len(said) <= 1 for said in given(world, rollout).values())


async def test_errors_roll_back_though_the_judge_model_is_away_and_control_is_killed(
    world: JudgedWorld, replica: Replica
) -> None:
    server = replica(grade)
    server.status, server.raw = 503, b""
    world.use(judge_at(server))
    world.broken = frozenset({"d"})
    await world.first_champion()
    rollout = await world.ship_judged("d")
    for turn in range(200):
        if not world.row(rollout).active:
            break
        await world.turn()
        if turn % 3 == 0:
            await world.restart()
    view = await world.plane.reports.rollout(rollout)
    assert (view.outcome, view.ending) == ("rolled_back", "worse")
    assert view.reason.startswith("before the judge model has spoken: canary fails 100.0 % of")
    assert view.verdict is not None
    numbers = view.verdict.numbers
    assert numbers["decided_early"]
    assert world.champion() == world.digests["a"]
    # Replayed, it is the early judge's evidence as well.
    exported = await world.plane.reports.observations(rollout)
    assert ({metric.name for metric in exported.metrics}, exported.alpha) == (
        {"failed"}, JUDGED_PLAN.alpha / 2)  # fmt: skip
    assert exported.judged_at == numbers["canary"]["units"] + numbers["champion"]["units"]


async def test_a_judge_model_that_is_away_is_what_a_rollout_ends_for(
    world: JudgedWorld, replica: Replica
) -> None:
    """There was traffic; it is the judge that was missing."""
    server = replica(grade)
    server.status, server.raw = 503, b""
    world.use(judge_at(server))
    await world.first_champion()
    plan = msgspec.structs.replace(JUDGED_PLAN, deadline_s=45.0)
    rollout = await world.ship_judged("b", plan=plan)
    await world.until(lambda: world.row(rollout).state == "judging")
    for _ in range(15):
        await world.turn()
    missing = (await world.plane.reports.rollout(rollout)).missing
    assert missing.startswith("waits for the judge model: the judge answered 503")
    assert "oldest sample" in missing
    view = await world.finish(rollout, turns=100)
    assert (view.outcome, view.ending) == ("rolled_back", "judge_unreachable")
    assert "waits for the judge model: the judge answered 503" in view.reason
    assert "make the judge model answer" in view.advice


async def test_a_queue_that_rests_reads_no_samples(
    world: JudgedWorld, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = replica(grade)
    server.status, server.raw = 503, b""
    world.use(judge_at(server))
    await world.first_champion()
    rollout = await world.ship_judged("b")
    await world.until(lambda: world.plane.judging.awaited(rollout) != "")
    looks: list[str] = []
    monkeypatch.setattr(
        type(world.store), "samples_of_rollout", lambda *_, **__: looks.append("look")
    )
    assert not await world.plane.judging.turn()
    assert looks == []


async def test_a_used_up_budget_is_no_silent_pass(world: JudgedWorld, replica: Replica) -> None:
    server = replica(grade)
    world.use(judge_at(server, budget=Budget(per_rollout=20)))
    world.fails["b"] = world.fails["a"] = 0.02
    await world.first_champion()
    view = await world.finish(await world.ship_judged("b"), turns=400)
    assert (view.outcome, view.ending) == ("rolled_back", "judge_budget")
    said = "inconclusive: judge's budget used up: 20 of 20 questions for this rollout"
    assert view.reason == said
    assert view.verdict is not None
    assert (view.verdict.outcome, view.verdict.reason) == ("inconclusive", said)
    assert sum(server.asked.values()) == 20


async def test_evidence_that_is_enough_decides_though_the_budget_is_used_up(
    world: JudgedWorld, replica: Replica
) -> None:
    world.use(judge_at(replica(grade), budget=Budget(per_rollout=90)))
    await world.first_champion()
    view = await world.finish(await world.ship_judged("d"), turns=400)
    assert view.ending == "worse"


async def test_a_days_budget_holds_the_queue_until_midnight(
    world: JudgedWorld, replica: Replica
) -> None:
    server = replica(grade)
    world.use(judge_at(server, budget=Budget(per_day=10)))
    world.now = 86_400.0 * 3 - 60
    await world.first_champion()
    rollout = await world.ship_judged("b")
    for _ in range(30):
        await world.turn()
    view = await world.plane.reports.rollout(rollout)
    assert view.judging is not None
    assert view.judging.said == (
        "judge's budget used up: 10 of 10 questions for today; it goes on at midnight UTC"
    )
    assert view.judging.pending > 0
    assert view.judging.oldest_s is not None
    assert view.judging.oldest_s > 10
    assert view.outcome == "running"
    for _ in range(60):
        await world.turn()
    assert sum(server.asked.values()) == 20


async def test_a_judge_without_verdicts_decides_nothing(
    world: JudgedWorld, replica: Replica
) -> None:
    """What cannot be read is asked again, a few times; then it is an outcome of its own."""
    server = replica(lambda text: "no idea")
    world.use(judge_at(server, attempts=2))
    await world.first_champion()
    plan = msgspec.structs.replace(JUDGED_PLAN, deadline_s=45.0)
    world.users_per_turn = 5
    rollout = await world.ship_judged("b", plan=plan)
    view = await world.finish(rollout, turns=400)
    assert (view.outcome, view.ending) == ("rolled_back", "no_feedback")
    assert "no verdict of the judge model on 100.0 % of the canary's sampled" in view.reason
    said = {name for each in given(world, rollout).values() for name, _ in each}
    assert said == {UNJUDGED}
    assert set(server.asked.values()) <= {1, 2}
    assert view.judging is not None
    assert view.judging.judged == 0
    assert view.judging.unjudged > 5


async def test_the_service_of_a_judge_may_be_one_of_the_installation(
    world: JudgedWorld, replica: Replica
) -> None:
    server = replica(grade)
    world.use(judge_at(server))
    world.target.base_urls = lambda _engine: server.url
    grader = msgspec.structs.replace(
        world.spec("c"), service="grader", plan=msgspec.structs.replace(JUDGED_PLAN, steps=(),
        feedback=None), capture=None, judge=None)  # fmt: skip
    begun = await world.plane.ship(grader)
    await world.finish(begun.id)
    world.use(msgspec.structs.replace(judge_at(server), provider=None, service="grader"))
    server.answer = lambda text: grade(text.removeprefix("c: "))
    await world.first_champion()
    view = await world.finish(await world.ship_judged("d"))
    assert (view.ending, view.judging and view.judging.judge) == ("worse", "grader")


async def test_an_engine_that_knows_no_schema_is_asked_without(replica: Replica) -> None:
    server = replica(grade)
    take = server.take

    def refuses_schemas(path, headers, body):  # type: ignore[no-untyped-def]
        return (400, b"{}") if "response_format" in body else take(path, headers, body)

    server.take = refuses_schemas  # type: ignore[method-assign]
    asker = Asker(judge_at(server), lambda: Seat((server.url,), "m"))
    for _ in range(2):
        reply = await asker(Exchange((("user", "q"),), "right"))
        assert reply.verdict is not None
        assert reply.verdict.score == 5
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("status", "raw", "is_outage", "why"),
    [
        (503, b"", True, "the judge answered 503"),
        (429, b"", True, "the judge answered 429"),
        (413, b"", False, "the judge answered 413"),
        (200, b"nothing", False, "no chat completion"),
        (200, b'{"choices":[]}', False, "holds no score"),
    ],
)
async def test_each_failure_of_a_judge_has_a_name(
    replica: Replica, status: int, raw: bytes, is_outage: bool, why: str
) -> None:
    server = replica(grade)
    server.status, server.raw = status, raw
    asker = Asker(judge_at(server), lambda: Seat((server.url,), "m"))
    reply = await asker(Exchange((("user", "q"),), "right"))
    assert (reply.verdict, reply.is_outage) == (None, is_outage)
    assert why in reply.why


async def test_a_judge_that_is_nowhere_is_an_outage() -> None:
    def nowhere() -> Seat:
        raise Unavailable("the judge's service grader has no champion")

    reply = await Asker(JudgeLike, nowhere)(Exchange((), ""))
    assert (reply.is_outage, reply.why) == (True, "the judge's service grader has no champion")


async def test_too_late_is_the_samples_own_failure_and_may_have_cost(replica: Replica) -> None:
    server = replica(grade, 0)
    judge = judge_at(server, timeout_s=0.2, price=Price(1.0, 1.0))
    reply = await Asker(judge, lambda: Seat((server.url,), "m"))(Exchange((), ""))
    assert (reply.verdict, reply.is_outage) == (None, False)
    assert reply.usd > 0


def test_a_budget_counts_a_question_before_it_is_asked() -> None:
    budget = Budget(usd_per_day=1.0, usd_per_rollout=0.5, per_day=None, per_rollout=None)
    some = JudgeSpend(0.4, 3, 2, 0)
    assert stop_of(budget, some, some, 0.1, 1) is None
    stop = stop_of(budget, some, some, 0.11, 1)
    assert stop is not None
    assert (stop.why, stop.is_final) == (
        "judge's budget used up: 0.4 of 0.5 USD for this rollout", True)  # fmt: skip
    stop = stop_of(budget, JudgeSpend(0.95, 9), JudgeSpend(), 0.1, 1)
    assert stop is not None
    assert not stop.is_final


async def test_a_ramp_knows_no_more_than_the_judge_model_has_judged(
    world: JudgedWorld, replica: Replica
) -> None:
    """What it has not judged has not settled, and counts at its worst: in what is shown as well."""
    server = replica(grade)
    world.use(judge_at(server))
    await world.first_champion()
    steps = (msgspec.structs.replace(JUDGED_PLAN.steps[0], units=10**6),)
    plan = msgspec.structs.replace(JUDGED_PLAN, steps=steps, ramp=Ramp(requests=1e6))
    rollout = await world.ship_judged("b", plan=plan)
    running = world.plane._overview.running("bank")
    assert running is not None
    await world.until(lambda: running.rollout.judge.units > 40)
    finder = world.plane._rollouts._facts
    server.status, server.raw = 503, b""
    before = (await world.plane.reports.rollout(rollout)).harm
    for _ in range(20):
        await world.turn()
    facts = await finder.of(running, None)
    assert facts.observed_until is not None
    assert facts.observed_until == world.plane.judging.judged_until(rollout)
    assert facts.now - facts.observed_until > 15
    after = (await world.plane.reports.rollout(rollout)).harm
    assert before is not None
    assert after is not None
    assert after.at_worst > before.at_worst


JudgeLike = judge_at(type("Nowhere", (), {"url": "http://127.0.0.1:9"})())  # type: ignore[arg-type]
assert JUDGED
