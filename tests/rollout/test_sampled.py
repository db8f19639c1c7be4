"""Feedback on a sample: what is not in it is not bad, and what has no verdict is."""

from __future__ import annotations

import random

import msgspec
import pytest

from fairlead.domain.capture import is_in_share
from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.assessment import assess
from fairlead.rollout.judge import Judge, Observation, new_judge, observe
from fairlead.rollout.plan import FeedbackRule, Plan, Step

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
