"""Suites that are run again during a rollout: pairs, each case once, and nothing passes unasked."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.rollout import suites
from fairlead.rollout.endings import Ending
from fairlead.rollout.machine import Rollout
from fairlead.rollout.plan import Plan, ShadowRule, Step
from fairlead.rollout.standing import lines
from fairlead.rollout.states import State
from fairlead.rollout.suite_standing import (
    lacking_of_suites,
    lacking_of_suites_for_promotion,
    suite_threshold,
    suites_due,
)
from fairlead.rollout.suites import (
    RETRY_S,
    SuiteMetric,
    SuiteReading,
    SuiteState,
    is_due,
    log_e_promote,
    log_e_worse,
    new_suite,
    take_in_suites,
)
from fairlead.stats.intervals import clopper_pearson
from rollout.stepping import PLAN, judging, seen, step

METRIC = SuiteMetric("answers", "answers", cases=40, margin=0.1)
GOOD, BAD = (0.0, 0.0), (0.0, 1.0)


def with_suite(**changes: Any) -> Plan:
    return msgspec.structs.replace(PLAN, suites=(msgspec.structs.replace(METRIC, **changes),))


def reading(rollout: Rollout, *pairs: tuple[float, float], **changes: Any) -> SuiteReading:
    state = rollout.suites.get("answers") or new_suite(METRIC)
    made = SuiteReading("answers", state.pairs, rollout.phase, pairs, 200, 3.0, 3.0)
    return msgspec.structs.replace(made, **changes)


def told(rollout: Rollout, *pairs: tuple[float, float], at: float = 3.0, **changes: Any) -> Rollout:
    given = reading(rollout, *pairs, **{"began": at, "at": at, **changes})
    return step(rollout, now=at, candidate_ready=2, workers_phase=rollout.phase, suites=(given,))


def test_a_step_waits_for_its_run_and_the_next_one_asks_further_cases() -> None:
    rollout = judging(plan=with_suite())
    assert [metric.name for metric in suites_due(rollout, 2.0)] == ["answers"]
    enough = seen(2, 1, 3.0, 0.1)
    waits = step(rollout, now=12.0, candidate_ready=2, workers_phase=1, **enough)
    assert (waits.state, waits.step) == (State.JUDGING, 0)
    assert lacking_of_suites(waits) == "suite answers: its run at this step goes on (no case yet)"
    asked = told(rollout, *[GOOD] * 40)
    assert suites_due(asked, 4.0) == [], "one run at each step"
    gone_on = step(asked, now=12.0, candidate_ready=2, workers_phase=1, **enough)
    assert (gone_on.step, gone_on.state) == (1, State.SHIFTING)
    again = step(gone_on, now=13.0, candidate_ready=2, workers_phase=2)
    assert [metric.name for metric in suites_due(again, 13.0)] == ["answers"]


def test_worse_answers_roll_back() -> None:
    rollout = told(judging(plan=with_suite()), *[BAD] * 20, *[GOOD] * 20)
    assert (rollout.state, rollout.ending) == (State.ROLLING_BACK, Ending.WORSE)
    assert rollout.reason.startswith(
        "suite answers: score 50.0% against 100.0% of the champion in 40 of 200 cases; evidence "
    )


def test_a_promotion_needs_evidence_by_the_suite_and_runs_go_on_for_it() -> None:
    plan = msgspec.structs.replace(with_suite(), steps=(Step(0.5, 3, 5.0),))
    rollout = judging(plan=plan)
    some = told(rollout, *[GOOD] * 10, at=14.0)
    lacks = lacking_of_suites_for_promotion(some)
    assert lacks is not None
    assert lacks.startswith("suite answers: evidence ")
    assert "of 20 that its answers are not worse by 10.0% (10 of 200 cases)" in lacks
    assert suites_due(some, 15.0), "one after the other at the last step"
    more = told(some, *[GOOD] * 100, at=16.0)
    assert lacking_of_suites_for_promotion(more) is None
    assert suites_due(more, 17.0) == []
    watching = msgspec.structs.replace(plan.suites[0], promotes=False)
    only = msgspec.structs.replace(some, plan=msgspec.structs.replace(plan, suites=(watching,)))
    assert lacking_of_suites_for_promotion(only) is None


def test_a_suite_with_too_few_cases_promotes_nothing_and_says_so() -> None:
    plan = msgspec.structs.replace(with_suite(), steps=(Step(0.5, 3, 5.0),))
    rollout = judging(plan=plan)
    done = told(rollout, *[GOOD] * 10, at=14.0, total=10)
    assert suites_due(done, 1_000.0) == [], "a case that was asked is no new evidence"
    lacks = lacking_of_suites_for_promotion(done)
    assert lacks is not None
    assert lacks.endswith("; all its cases were asked: it has too few")
    late = step(done, now=1_100.0, candidate_ready=2, workers_phase=1)
    assert (late.state, late.ending) == (State.ROLLING_BACK, Ending.NO_TRAFFIC)


def test_replicas_that_answer_nothing_end_it_in_time() -> None:
    """Nothing is counted meanwhile, and it is tried again before."""
    rollout = told(judging(plan=with_suite()), problem="the canary answered none of 40 cases: 503")
    assert rollout.suites["answers"].pairs == 0
    assert lacking_of_suites(rollout) == (
        "suite answers: the canary answered none of 40 cases: 503"
    )
    assert lines(rollout)[0].is_bad
    assert suites_due(rollout, 4.0) == []
    assert suites_due(rollout, 3.0 + RETRY_S)
    still = failing(rollout, 602.0)
    assert still.state is State.JUDGING
    ended = failing(still, 603.0)
    assert (ended.state, ended.ending) == (State.ROLLING_BACK, Ending.SUITE_UNANSWERED)
    better = told(still, *[GOOD] * 40, at=603.0)
    assert (better.suites["answers"].failing_since, better.state) == (None, State.JUDGING)


def failing(rollout: Rollout, until: float) -> Rollout:
    """Tried again and again, each run with the time in which nobody answers it."""
    at = rollout.suites["answers"].at
    while at < until:
        began, at = at + RETRY_S, min(until, at + RETRY_S + 150.0)
        rollout = told(rollout, began=began, at=at, problem="the canary answered none of 40: 503")
    return rollout


def test_time_in_which_nobody_has_tried_is_none_without_an_answer() -> None:
    """Control was down, or it was held: it is tried again, for as long as ever, before it ends."""
    plan = msgspec.structs.replace(with_suite(), deadline_s=20_000.0)
    rollout = failing(told(judging(plan=plan), problem="503"), 300.0)
    later = step(rollout, now=9_000.0, candidate_ready=2, workers_phase=1)
    assert later.state is State.JUDGING
    assert suites_due(later, 9_000.0)
    again = told(later, at=9_001.0, problem="503")
    assert again.state is State.JUDGING
    assert failing(again, 9_600.0).state is State.JUDGING
    assert failing(again, 9_601.0).ending is Ending.SUITE_UNANSWERED


def test_a_run_counts_once_whoever_tells_of_it_again() -> None:
    rollout = judging(plan=with_suite())
    given = reading(rollout, GOOD, BAD)
    once = take_in_suites({}, (given,), rollout.plan.suites)
    assert once["answers"].pairs == 2
    assert take_in_suites(once, (given,), rollout.plan.suites) is once
    assert take_in_suites(once, (msgspec.structs.replace(given, name="x"),), ()) is once


def test_a_clock_that_is_set_back_stops_no_suite() -> None:
    """Runs count in the order of what was counted when they began; none waits for the clock."""
    metrics = with_suite(every_s=120.0).suites
    given = SuiteReading("answers", 0, 1, (GOOD,) * 40, 200, 5_000.0, 5_000.0)
    state = take_in_suites({}, (given,), metrics)
    back = msgspec.structs.replace(given, after=40, began=1_000.0, at=1_000.0)
    after = take_in_suites(state, (back,), metrics)
    assert after["answers"].pairs == 80
    assert take_in_suites(after, (given, back), metrics) is after
    assert is_due(metrics[0], state["answers"], 1, 1_000.0, more=False)
    failed = msgspec.structs.replace(given, pairs=(), problem="503")
    silent = take_in_suites({}, (failed,), metrics)
    assert is_due(metrics[0], silent["answers"], 1, 1_000.0, more=False)
    later = take_in_suites(
        silent, (msgspec.structs.replace(failed, began=1_000.0, at=1_000.0),), metrics
    )
    assert later["answers"].failing_since == 1_000.0


def test_runs_by_the_clock_and_none_while_it_is_held() -> None:
    rollout = judging(plan=with_suite(every_s=120.0))
    asked = told(rollout, *[GOOD] * 40)
    assert suites_due(asked, 100.0) == []
    assert suites_due(asked, 123.0)
    assert suites_due(msgspec.structs.replace(asked, paused_at=100.0), 123.0) == []
    assert suites_due(msgspec.structs.replace(asked, champion=None), 123.0) == []


def test_alpha_is_shared_with_whatever_else_can_roll_back() -> None:
    assert with_suite().judge_alpha == pytest.approx(0.005)
    shadowed = msgspec.structs.replace(with_suite(), shadow=ShadowRule(0.1))
    assert shadowed.judge_alpha == pytest.approx(0.01 / 3)
    two = msgspec.structs.replace(
        PLAN, suites=(METRIC, msgspec.structs.replace(METRIC, name="more"))
    )
    assert suite_threshold(judging(plan=two)) == pytest.approx(400.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cases": 0}, {"margin": 0.0}, {"tolerance": 0.1}, {"every_s": 1.0}, {"name": ""},
        {"unanswered_s": 0.0}, {"name": "failed"},
    ],
)  # fmt: skip
def test_a_suite_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        with_suite(**wrong)


def rollouts(count: int, champion: float, canary: float) -> tuple[int, int]:
    """How many of so many rollouts go back, and are shown not to be worse, by 400 cases."""
    back = passed = 0
    for seed in range(count):
        dice = random.Random(seed)
        # What makes a case hard is hard for both.
        cases = [dice.random() for _ in range(400)]
        pairs = tuple(
            (float(hard < champion or dice.random() < 0.02),
             float(hard < canary or dice.random() < 0.02))
            for hard in cases
        )  # fmt: skip
        given = SuiteReading("answers", 0, 1, pairs, 400, 1.0, 1.0)
        state = take_in_suites({}, (given,), (METRIC,))["answers"]
        back += log_e_worse(state) >= 5.298  # 1/200
        passed += log_e_promote(METRIC, state) >= 2.996  # 1/20
    return back, passed


def test_equal_releases_go_back_and_worse_ones_pass_no_more_often_than_declared() -> None:
    """And a release that is worse goes back, an equal one passes, mostly."""
    back, passed = rollouts(300, 0.2, 0.2)
    assert clopper_pearson(back, 300, 0.98)[0] <= 0.005
    assert passed > 270
    back, passed = rollouts(300, 0.2, 0.31)
    assert clopper_pearson(passed, 300, 0.98)[0] <= 0.05
    assert back > 270


def test_what_each_pair_was_is_kept_as_it_was() -> None:
    """Answers that are good or bad, and graded ones; through JSON, in the order in which they
    counted."""
    pairs = [(0.0, 1.0), (1.0, 0.0), (0.25, 1.0), (1.0, 1.0), (0.0, 0.0), (0.1, 1 / 3)]
    rollout = judging(plan=with_suite())
    first = told(rollout, *pairs[:3])
    state = told(first, *pairs[3:], at=4.0).suites["answers"]
    again = msgspec.json.decode(msgspec.json.encode(state), type=SuiteState)
    assert again.outcomes == pairs
    assert len(state.told) == 4 + 2 * 17, "a byte for most"
    cut = msgspec.structs.replace(state, told=state.told[:-3])
    assert cut.outcomes == pairs[:-1], "what is damaged is missing"
    assert failing(first, 5.0).suites["answers"].outcomes == pairs[:3]


def test_pairs_of_a_suite_with_very_many_cases_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would be written anew at each commit. The evidence is what it is with all of them."""
    monkeypatch.setattr(suites, "KEPT_MAX", 6)
    rollout = told(judging(plan=with_suite()), *[BAD] * 6)
    assert rollout.suites["answers"].outcomes == [BAD] * 6
    for at in (4.0, 5.0):
        rollout = told(rollout, BAD, at=at)
        state = rollout.suites["answers"]
        assert state.told == b""
    assert state.pairs == 8
    monkeypatch.undo()
    whole = told(judging(plan=with_suite()), *[BAD] * 8, at=5.0).suites["answers"]
    assert state.worse == whole.worse
    assert len(whole.outcomes) == 8
