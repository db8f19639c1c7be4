"""A judge model over live traffic: always, blind, within its caps, and told when it is away."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from control.answering_replica import AnsweringReplica
from control.judged_world import JudgedWorld, grade, judge_at
from control.simulated_world import DIRECT
from fairlead.control.judging.budget import DAY_S, live_stop_of
from fairlead.control.judging.live import FRESH_S
from fairlead.control.judging.live_views import LiveJudgingView
from fairlead.domain.errors import InvalidInput
from fairlead.domain.judging import JUDGED
from fairlead.domain.quota import Price
from fairlead.evaluation.judge_model import Agreement, Budget
from fairlead.monitoring.declared import Declared, check_declared
from fairlead.monitoring.live_judging import JudgeSample
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.store.rows import JudgementRow, JudgeSpend, SampleFilter

Replica = Callable[..., AnsweringReplica]
ALL = JudgeSample(per_day=None)


@pytest.fixture
def world(judged_world: JudgedWorld) -> JudgedWorld:
    return judged_world


async def champion(
    world: JudgedWorld, sample: JudgeSample | None = ALL, settings: MonitorSettings | None = None
) -> None:
    declared = Declared(judge=sample, monitors=settings or MonitorSettings(learn=500))
    spec = world.judged_spec("a", plan=DIRECT, monitoring=declared)
    await world.finish((await world.plane.ship(spec)).id)
    world.users_per_turn = 8
    await world.turn()


def view(world: JudgedWorld) -> LiveJudgingView:
    found = world.plane.live_judging.view("bank")
    assert found is not None
    return found


def is_judged(world: JudgedWorld, request: str) -> bool:
    record = world.store.record(request)
    return record is not None and any(given.name == JUDGED for given in record[1])


async def turns(world: JudgedWorld, count: int, *, seconds: float = 1.0) -> None:
    for _ in range(count):
        await world.turn(seconds=seconds)


async def test_a_champions_answers_are_judged_though_there_is_no_rollout(
    world: JudgedWorld, replica: Replica
) -> None:
    """Each once, and the judge is told nothing of who answered."""
    server = replica(grade)
    world.use(judge_at(server))
    await champion(world)
    await turns(world, 20)
    samples = world.store.samples(SampleFilter(service="bank"), limit=10_000)
    asked = [json.loads(text)["conversation"][0]["text"] for text in server.asked]
    assert len(asked) == len(set(asked)) > 50
    assert len(samples) - len(asked) <= 12 * 3  # only what the watermark has not passed yet
    words = json.dumps(server.bodies)
    assert not [word for word in (world.digests["a"], "champion", samples[0].unit) if word in words]
    said = view(world)
    assert (said.share, said.said) == (1.0, "")
    assert said.judged_today >= len(asked)
    status = await world.plane.reports.status()
    (service,) = status.services
    assert service.live_judging is not None
    assert service.live_judging.asked_today >= len(asked)  # it goes on meanwhile


async def test_without_a_declaration_nothing_is_asked(world: JudgedWorld, replica: Replica) -> None:
    server = replica(grade)
    world.use(judge_at(server))
    await champion(world, None)
    await turns(world, 10)
    assert server.asked == {}
    assert world.plane.live_judging.view("bank") is None


async def test_only_the_declared_share_of_units_is_judged(
    world: JudgedWorld, replica: Replica
) -> None:
    world.use(judge_at(replica(grade)))
    await champion(world, JudgeSample(share=0.3, per_day=None))
    await turns(world, 25)
    kept = len(world.store.samples(SampleFilter(service="bank"), limit=10_000))
    assert 0.15 * kept < view(world).judged_today < 0.45 * kept


async def test_a_rollouts_samples_are_asked_about_once(
    world: JudgedWorld, replica: Replica
) -> None:
    """What was assigned at random is the rollout's queue's, be it the champion's or not."""
    server = replica(grade)
    world.use(judge_at(server))
    await champion(world)
    await turns(world, 5)
    before = view(world).asked_today
    declared = Declared(judge=ALL)
    rollout = await world.ship_judged("d", monitoring=declared)
    ended = await world.finish(rollout)
    assert ended.outcome == "rolled_back"
    assert ended.judging is not None
    await turns(world, 5)
    # What was on its way when the rollout ended is asked about once more.
    assert sum(server.asked.values()) - len(server.asked) <= world.judge.concurrency
    assert view(world).asked_today > before


async def test_the_release_that_is_promoted_is_judged_from_then_on(
    world: JudgedWorld, replica: Replica
) -> None:
    world.use(judge_at(replica(grade)))
    await champion(world)
    spec = world.judged_spec("b", plan=DIRECT, monitoring=Declared(judge=ALL))
    assert (await world.finish((await world.plane.ship(spec)).id)).outcome == "promoted"
    await turns(world, 2)
    before = view(world)
    await turns(world, 10)
    assert before.release == world.digests["b"]
    assert view(world).judged_today > before.judged_today


async def test_a_cap_is_spread_over_the_day(world: JudgedWorld, replica: Replica) -> None:
    server = replica(grade)
    world.use(judge_at(server))
    world.now = 3 * DAY_S
    await champion(world, JudgeSample(per_day=240))
    await turns(world, 10)
    assert sum(server.asked.values()) in (10, 11)
    assert "240 questions a day are spread over the day" in view(world).said
    assert world.plane.live_judging.blindness("bank") == ""
    world.now += 3_600.0
    await turns(world, 10)
    assert sum(server.asked.values()) in (20, 21)


async def test_a_judge_that_is_away_makes_quality_blind_and_is_an_alert(
    world: JudgedWorld, replica: Replica
) -> None:
    """It goes on by itself, with what is fresh."""
    server = replica(grade)
    world.use(judge_at(server))
    await champion(world)
    await turns(world, 5)
    assert world.plane.live_judging.blindness("bank") == ""
    server.status, server.raw = 503, b""
    await turns(world, 16, seconds=5.0)
    assert "does not answer: the judge answered 503" in world.plane.live_judging.blindness("bank")
    await world.plane.watching.look()
    firing = {tuple(sorted(one.of.items())) for one in world.plane.watching.desk.alerts.values()}
    blind = {dict(of).get("watched") for of in firing if dict(of)["monitor"] == "monitor_blind"}
    assert "quality" in blind
    told = [one for one in world.plane.platform.conditions(world.now)
            if dict(one.labels)["monitor"] == "judge_down"]  # fmt: skip
    assert (
        "the judge model of live traffic gives no verdict: the judge answered 503"
        in told[0].summary
    )
    asked = {json.loads(text)["conversation"][0]["text"] for text in server.asked}
    await turns(world, 10, seconds=FRESH_S / 5)
    server.status, server.raw = 200, None
    await turns(world, 15, seconds=5.0)
    assert world.plane.live_judging.blindness("bank") == ""
    # What waited for longer than is fresh is not asked about any more.
    first = min(s.at for s in world.store.samples(SampleFilter(service="bank"), limit=10_000)
                if f"question {s.id}" not in asked and is_judged(world, s.id))  # fmt: skip
    assert first > world.now - 75.0 - FRESH_S


async def test_a_model_that_gives_no_scores_is_no_judge(
    world: JudgedWorld, replica: Replica
) -> None:
    world.use(judge_at(replica(lambda text: "no idea"), attempts=1))
    await champion(world)
    await turns(world, 16, seconds=5.0)
    assert "gives no verdicts: the judge's answer holds no score" in (
        world.plane.live_judging.blindness("bank")
    )


async def test_a_days_budget_that_rollouts_used_up_makes_quality_blind(
    world: JudgedWorld, replica: Replica
) -> None:
    world.use(judge_at(replica(grade), budget=Budget(per_day=5)))
    await champion(world)
    spent = [JudgementRow("r", "bank", "ro", "asked", attempts=5, at=world.now)]
    world.store.begin_judgements(spent)
    await turns(world, 10)
    assert "judge's budget used up: 5 of 5 questions" in world.plane.live_judging.blindness("bank")


async def test_answers_that_come_to_be_bad_are_an_alert_by_the_judges_word(
    world: JudgedWorld, replica: Replica
) -> None:
    """Scores from 1 to 5, by what the judge calls good; with what its errors leave open."""
    world.use(judge_at(replica(grade), budget=Budget(per_day=None)))
    world.fails["a"] = 0.05
    identity = world.judge.identity
    world.plane.judging.keep_agreement("bank", Agreement(identity, 400, 400, 8, 8, at=world.now))
    await champion(world)
    world.users_per_turn = 30
    await turns(world, 25)
    await world.plane.watching.look()
    (standing,) = [s for s in world.plane.watching.monitors("bank") if s.monitor == "quality"]
    assert standing.standing.startswith("judge: watching, ")
    assert "of answers were bad at first" in standing.standing
    world.fails["a"] = 0.6
    await turns(world, 20)
    await world.plane.watching.look()
    found = [one for one in world.plane.watching.desk.alerts.values()
             if one.of["monitor"] == "quality"]  # fmt: skip
    assert [one.of["feedback"] for one in found] == ["judge"]
    figures = {one.name: one.value for one in found[0].evidence}
    assert figures["bad answers since the change, at least"] > 25.0
    assert figures["bad answers at first, at most"] < 30.0


async def test_control_that_is_killed_asks_nothing_twice(
    world: JudgedWorld, replica: Replica
) -> None:
    server = replica(grade)
    world.use(judge_at(server, price=Price(1.0, 1.0)))
    await champion(world)
    for _ in range(15):
        await world.turn()
        await world.restart()
    await turns(world, 3)
    assert max(server.asked.values()) == 1
    assert len(server.asked) > 50


def test_of_a_days_cap_so_much_is_open_as_has_passed_of_the_day_and_an_hour_more() -> None:
    sample, none = JudgeSample(per_day=None, usd_per_day=24.0), JudgeSpend()
    noon = 5 * DAY_S + DAY_S / 2
    for usd, is_stopped in ((12.9, False), (13.1, True)):
        for dear in (0.1, 5.0):  # What one question costs has no part in it.
            stop = live_stop_of(Budget(), sample, (JudgeSpend(usd=usd), none), dear, noon)
            assert (stop is not None) == is_stopped
    last = 6 * DAY_S - 1
    assert live_stop_of(Budget(), sample, (JudgeSpend(usd=23.5), none), 0.4, last) is None
    over = live_stop_of(Budget(), sample, (JudgeSpend(usd=23.5), none), 0.6, last)
    assert over is not None
    assert over.is_paced
    used = live_stop_of(Budget(usd_per_day=1.0), sample, (none, JudgeSpend(usd=1.0)), 0.1, noon)
    assert used is not None
    assert not used.is_paced


def test_of_a_judges_budget_of_the_day_live_traffic_takes_half_at_the_most() -> None:
    sample, last = JudgeSample(per_day=None), 6 * DAY_S - 1
    for budget, mine in (
        (Budget(per_day=100), JudgeSpend(asked=50)),
        (Budget(usd_per_day=8.0), JudgeSpend(usd=4.0)),
    ):
        stop = live_stop_of(budget, sample, (mine, mine), 0.1, last)
        assert stop is not None
        assert stop.is_paced
        assert (
            live_stop_of(budget, sample, (JudgeSpend(usd=3.8, asked=49), mine), 0.1, last) is None
        )


@pytest.mark.parametrize(
    "sample",
    [JudgeSample(share=0.0), JudgeSample(per_day=0), JudgeSample(usd_per_day=float("nan"))],
)
def test_what_a_manifest_could_not_say_is_refused(sample: JudgeSample) -> None:
    with pytest.raises(InvalidInput, match=r"monitoring\.judge\."):
        check_declared(Declared(judge=sample), "bank")
