"""Feedback on a sample: what is not in it is not bad, and what has no verdict is."""

from __future__ import annotations

import random

import msgspec
import pytest

from fairlead.domain.capture import is_in_share
from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.assessment import assess
from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.early import assess_both
from fairlead.rollout.gauges import gauges_of
from fairlead.rollout.judge import Judge, Observation, new_judge, observe
from fairlead.rollout.model import new_rollout
from fairlead.rollout.plan import FeedbackRule, Plan, Step
from fairlead.rollout.ramp import _difference

PLAN = Plan(
    steps=(Step(0.5, 10),),
    settle_s=1.0,
    feedback=FeedbackRule(JUDGED, 4.0, required=True, sampled=True),
    margin=0.15,
    expected_failure_rate=0.1,
)


def request(
    number: int,
    *,
    canary: bool,
    said: tuple[str, float] | None,
    unit: str = "",
    error: bool = False,
) -> Observation:
    at = float(number)
    feedback = () if said is None else ((said[0], said[1], at),)
    return Observation(
        f"q{number:06}", unit or f"u{number:06}", canary, 0.5, 1, error, at, feedback
    )


def judged(requests: list[Observation], plan: Plan = PLAN) -> Judge:
    return observe(new_judge(plan), plan, requests, 1e9)


def world(
    *, bad: tuple[float, float], sampled: float = 0.2, units: int = 3_000, seed: int = 1,
    unjudged: tuple[float, float] = (0.0, 0.0), errors: tuple[float, float] = (0.0, 0.0),
) -> list[Observation]:  # fmt: skip
    """Units with one request each; rates are (champion, canary)."""
    dice = random.Random(seed)
    made = []
    for number in range(units):
        canary = dice.random() < 0.5
        score = 1.0 if dice.random() < bad[canary] else 5.0
        none = dice.random() < unjudged[canary]
        said = None
        if is_in_share(f"test{seed}", f"u{number:06}", sampled):
            said = (UNJUDGED, 0.0) if none else (JUDGED, score)
        error = dice.random() < errors[canary]
        made.append(request(number, canary=canary, said=said, error=error))
    return made


def test_units_outside_the_sample_are_neither_good_nor_bad() -> None:
    """They count for errors, and for the split; not for what the judge says."""
    judge = judged(
        [
            request(1, canary=True, said=(JUDGED, 5.0)),
            request(2, canary=True, said=None),
            request(3, canary=True, said=(JUDGED, 1.0)),
            request(4, canary=True, said=(UNJUDGED, 0.0)),
            request(5, canary=False, said=None, error=True),
        ]
    )
    assert (judge.canary.units, judge.canary.judged, judge.canary.rate) == (4, 3, 2 / 3)
    assert (judge.champion.units, judge.champion.judged, judge.champion.rate) == (1, 0, None)
    assert judge.champion.failed == 1
    assert (judge.canary.silent, judge.canary.silence) == (1, 1 / 3)
    verdict = assess(judge, PLAN)
    assert verdict.outcome is RolloutOutcome.WAIT
    assert "no sampled answer of one side has been judged yet" in verdict.reason


def test_a_unit_is_in_the_sample_if_its_first_request_is() -> None:
    """Later ones may be kept or not: how many there are may be the release's doing."""
    first_in = [
        request(1, canary=True, said=(JUDGED, 5.0), unit="a"),
        msgspec.structs.replace(request(1, canary=True, said=None, unit="a"), id="q2"),
        msgspec.structs.replace(request(1, canary=True, said=(JUDGED, 1.0), unit="a"), id="q3"),
    ]
    first_out = [msgspec.structs.replace(r, id=f"z{r.id}", unit="b") for r in first_in[1:]]
    judge = judged(first_in + first_out)
    assert (judge.canary.units, judge.canary.judged) == (2, 1)
    assert (judge.canary.failures, judge.canary.sampled_requests) == (0.5, 2)


@pytest.mark.parametrize("seed", range(3))
def test_a_worse_release_is_rolled_back_by_its_sample_alone(seed: int) -> None:
    verdict = assess(judged(world(bad=(0.1, 0.5), seed=seed)), PLAN)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert "sampled units" in verdict.reason


def test_an_equal_release_is_promoted_by_a_small_sample() -> None:
    verdict = assess(judged(world(bad=(0.1, 0.1), units=6_000)), PLAN)
    assert verdict.outcome is RolloutOutcome.PROMOTE


def test_errors_outside_the_sample_count_at_once() -> None:
    observed = world(bad=(0.1, 0.1), errors=(0.0, 0.3), sampled=0.001, units=600)
    assert assess(judged(observed), PLAN).outcome is RolloutOutcome.ROLL_BACK


def test_a_judge_that_fails_as_often_on_both_sides_decides_nothing_wrong() -> None:
    outcomes = [
        assess(judged(world(bad=(0.1, 0.1), unjudged=(0.3, 0.3), seed=seed)), PLAN).outcome
        for seed in range(40)
    ]
    assert RolloutOutcome.ROLL_BACK not in outcomes


def test_answers_that_the_judge_cannot_grade_count_against_their_release() -> None:
    observed = world(bad=(0.1, 0.1), unjudged=(0.0, 0.4))
    assert assess(judged(observed), PLAN).outcome is RolloutOutcome.ROLL_BACK


def test_nothing_is_promoted_while_most_samples_have_no_verdict() -> None:
    observed = world(bad=(0.0, 0.0), unjudged=(0.7, 0.7), units=6_000)
    verdict = assess(judged(observed), PLAN)
    assert verdict.outcome is RolloutOutcome.WAIT
    assert "no verdict of the judge model on" in verdict.reason


def test_equal_releases_are_rolled_back_no_more_often_than_alpha_says() -> None:
    """With a quarter sampled, some verdicts missing, and a rate that drifts on both sides."""
    plan = msgspec.structs.replace(PLAN, alpha=0.05)
    rolled_back = 0
    for seed in range(150):
        dice = random.Random(1_000 + seed)
        observed = []
        for number in range(600):
            canary = dice.random() < 0.5
            rate = 0.05 + 0.3 * number / 600
            said = None
            if dice.random() < 0.25:
                missing = dice.random() < 0.1
                bad = dice.random() < rate
                said = (UNJUDGED, 0.0) if missing else (JUDGED, 1.0 if bad else 5.0)
            observed.append(request(number, canary=canary, said=said))
        verdict = assess(judged(observed, plan), plan)
        rolled_back += verdict.outcome is RolloutOutcome.ROLL_BACK
    assert rolled_back <= 14  # 7.5 are expected at the most; 15 or more have probability 0.01


def test_any_division_into_batches_gives_the_same() -> None:
    observed = world(bad=(0.1, 0.3), units=300)
    judge = new_judge(PLAN)
    for watermark in range(0, 320, 7):
        judge = observe(judge, PLAN, [r for r in observed if r.started_at < watermark], watermark)
    judge = observe(judge, PLAN, observed, 1e9)
    assert msgspec.json.encode(judge) == msgspec.json.encode(judged(observed))


def judged_early(requests: list[Observation], plan: Plan = PLAN) -> Judge:
    ahead = plan.early
    assert ahead is not None
    return observe(new_judge(ahead), ahead, requests, 1e9)


def test_plain_errors_roll_back_though_the_judge_model_is_away() -> None:
    """The judge has seen nothing, since the first sample has no verdict."""
    observed = world(bad=(0.1, 0.1), errors=(0.0, 0.5), sampled=0.0, units=300)
    verdict = assess_both(new_judge(PLAN), judged_early(observed), PLAN)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert verdict.reason.startswith("before the judge model has spoken: canary fails")
    assert verdict.numbers["decided_early"]
    assert verdict.numbers["threshold_rollback"] == 2 / PLAN.alpha


def test_the_early_judge_promotes_nothing_and_shows_what_it_knows() -> None:
    observed = world(bad=(0.0, 0.0), sampled=0.0, units=3_000)
    early = judged_early(observed)
    assert assess(early, PLAN.early or PLAN).outcome is RolloutOutcome.PROMOTE
    verdict = assess_both(new_judge(PLAN), early, PLAN)
    assert verdict.outcome is RolloutOutcome.WAIT
    assert verdict.numbers["early"]["requests_seen"] == 3_000


def test_the_early_judge_says_that_the_split_is_wrong() -> None:
    observed = [request(n, canary=True, said=None) for n in range(300)]
    verdict = assess_both(new_judge(PLAN), judged_early(observed), PLAN)
    assert verdict.outcome is RolloutOutcome.INVALID


def test_what_a_judge_model_says_is_nothing_to_the_early_judge() -> None:
    observed = world(bad=(0.0, 1.0), sampled=1.0, units=500)
    assert assess(judged(observed), PLAN).outcome is RolloutOutcome.ROLL_BACK
    early = judged_early(observed)
    assert early.canary.failed == 0
    metric = DeclaredMetric("graded", "feedback", 0.1, feedback=PLAN.feedback)
    plan = msgspec.structs.replace(PLAN, feedback=None, metrics=(metric,))
    assert plan.early is not None
    assert (plan.early.feedback, plan.early.metrics) == (None, ())


def test_alpha_is_divided_among_all_that_can_roll_back() -> None:
    assert PLAN.judge_alpha == PLAN.alpha / 2
    assert PLAN.early is not None
    assert PLAN.early.judge_alpha == PLAN.alpha / 2
    plain = msgspec.structs.replace(PLAN, feedback=None)
    assert (plain.judge_alpha, plain.early) == (plain.alpha, None)
    assert PLAN.unsampled.alpha == PLAN.alpha


def test_equal_releases_are_rolled_back_by_neither_more_often_than_alpha_says() -> None:
    plan = msgspec.structs.replace(PLAN, alpha=0.1)
    ends = [
        assess_both(judged(observed, plan), judged_early(observed, plan), plan).outcome
        for observed in (
            world(bad=(0.2, 0.2), errors=(0.1, 0.1), units=400, seed=seed) for seed in range(100)
        )
    ]
    assert ends.count(RolloutOutcome.ROLL_BACK) <= 18  # 10 at the most; 19 have probability 0.005


def test_the_early_judge_is_the_same_after_any_division() -> None:
    observed, plan = world(bad=(0.1, 0.3), errors=(0.1, 0.2), units=200), PLAN.early
    assert plan is not None
    judge = new_judge(plan)
    for watermark in range(0, 220, 7):
        judge = observe(judge, plan, [r for r in observed if r.started_at < watermark], watermark)
    judge = observe(judge, plan, observed, 1e9)
    assert msgspec.json.encode(judge) == msgspec.json.encode(judged_early(observed))


@pytest.mark.parametrize(("first", "readings"), [(None, (None, None)), ((JUDGED, 5.0), (0.5, 0.5))])
def test_a_declared_metric_of_the_judge_goes_by_the_first_request_as_well(
    first: tuple[str, float] | None, readings: tuple[float | None, ...]
) -> None:
    """A unit that comes in with a later request came in by how many there were."""
    assert PLAN.feedback is not None
    (gauge,) = gauges_of((DeclaredMetric("graded", "feedback", 0.1, feedback=PLAN.feedback),))
    gauge.add(request(1, canary=True, said=first, unit="u"), 1e9)
    gauge.add(request(2, canary=True, said=None, unit="u"), 1e9)
    gauge.add(request(3, canary=True, said=(JUDGED, 1.0), unit="u"), 1e9)
    assert tuple(r and r.value for r in gauge.readings()) == readings


def test_the_standard_error_of_a_ramps_harm_is_that_of_the_sample() -> None:
    judge = judged(world(bad=(0.3, 0.3), sampled=0.1, units=2_000))
    rollout = new_rollout(
        id="r", service="s", release="d", name="d", champion="c", plan=PLAN, gates=0, now=0.0
    )
    rollout = msgspec.structs.replace(rollout, judge=judge, verdict=assess(judge, PLAN))
    difference = assess(judge, PLAN).numbers["difference"]
    error = _difference(rollout) - difference
    least = (0.3 * 0.7 * (1 / judge.canary.judged + 1 / judge.champion.judged)) ** 0.5
    assert error == pytest.approx(least, rel=0.25)
