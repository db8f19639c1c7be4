"""Silence is an outcome: who says nothing about bad answers does not get a canary promoted.

Which feedback clients give depends on them: on every answer, on some, on bad ones only, on good
ones only. As long as they treat both arms alike, a canary that is no worse must pass, and a worse
one must not; and where only one arm's users fall silent, that is what has to be found.
"""

import random
from collections.abc import Callable

import msgspec
import pytest

from fairlead.domain.verdicts import RolloutOutcome, RolloutVerdict
from fairlead.rollout.assessment import assess
from fairlead.rollout.judge import Judge, Observation, new_judge, observe
from fairlead.rollout.plan import FeedbackRule, Plan, Step

PLAN = Plan(
    steps=(Step(0.5, 1),),
    settle_s=2.0,
    expected_failure_rate=0.2,
    feedback=FeedbackRule("success", 1.0),
)
REQUIRED = msgspec.structs.replace(PLAN, feedback=FeedbackRule("success", 1.0, required=True))
BOTH = pytest.mark.parametrize("plan", [PLAN, REQUIRED], ids=["optional", "required"])

Speaks = Callable[[bool, bool], float]
"""Probability of feedback on an answer, by (canary, bad)."""

PROMOTE, ROLL_BACK = RolloutOutcome.PROMOTE, RolloutOutcome.ROLL_BACK


def ended(
    plan: Plan, champion: float, canary: float, speaks: Speaks, *, seed: int = 0,
    most: int = 3_000, every: int = 100,
) -> RolloutVerdict:  # fmt: skip
    """The first verdict that is not to wait, with a look every so many units; or the last one."""
    dice, judge = random.Random(seed), new_judge(plan)
    verdict = assess(judge, plan)
    for begin in range(0, most, every):
        made = [_answer(dice, plan, number, champion, canary, speaks)
                for number in range(begin, begin + every)]  # fmt: skip
        judge = observe(judge, plan, made, 10.0 * (begin + every))
        verdict = assess(judge, plan)
        if verdict.outcome is not RolloutOutcome.WAIT:
            break
    return verdict


def _answer(
    dice: random.Random, plan: Plan, number: int, champion: float, canary: float, speaks: Speaks
) -> Observation:
    arm, at = dice.random() < 0.5, 10.0 * number
    bad = dice.random() < (canary if arm else champion)
    said = (("success", float(not bad), at + 0.1),) if dice.random() < speaks(arm, bad) else ()
    return Observation(f"{number:06}", f"u{number}", arm, 0.5, 1, False, at, said)


def everyone(canary: bool, bad: bool) -> float:
    return 1.0


def silent_on_a_bad_canary(canary: bool, bad: bool) -> float:
    return float(not (canary and bad))


@BOTH
def test_a_canary_whose_users_fall_silent_on_bad_answers_is_rolled_back(plan: Plan) -> None:
    """Champion fails 20 %, canary 60 % in silence: it has no bad feedback at all, and is found."""
    for seed in range(10):
        verdict = ended(plan, 0.2, 0.6, silent_on_a_bad_canary, seed=seed)
        assert verdict.outcome is ROLL_BACK, verdict.reason
        assert verdict.numbers["canary"]["silent"] > 0
        assert verdict.numbers["champion"]["silent"] == 0
        assert "of the canary's requests and 0.0 % of the champion's" in verdict.reason


def test_the_reason_names_what_the_evidence_is_about() -> None:
    """Where silence does not count as failed, a rate of 0 % alone would explain nothing."""
    optional = ended(PLAN, 0.2, 0.6, silent_on_a_bad_canary)
    assert optional.reason.startswith("canary fails 0.0 % of ")
    assert "; no feedback 'success' on " in optional.reason
    assert " (without good feedback: canary " in optional.reason
    required = ended(REQUIRED, 0.2, 0.6, silent_on_a_bad_canary)
    assert ", which counts as failed; evidence " in required.reason
    assert "without good feedback" not in required.reason
    canary = required.numbers["canary"]
    assert canary["failures"] == canary["silent"]


@BOTH
def test_feedback_on_every_answer_is_judged_as_before(plan: Plan) -> None:
    """Nobody is silent: both outcomes are the same, and the reason does not speak of silence."""
    worse = ended(plan, 0.2, 0.5, everyone)
    assert worse.outcome is ROLL_BACK
    assert "feedback" not in worse.reason
    better = ended(plan, 0.2, 0.1, everyone)
    assert better.outcome is PROMOTE
    assert "feedback" not in better.reason


@pytest.mark.parametrize(
    "speaks",
    [
        pytest.param(lambda canary, bad: 0.0, id="nobody"),
        pytest.param(lambda canary, bad: float(bad), id="complaints only"),
        pytest.param(lambda canary, bad: float(not bad), id="praise only"),
        pytest.param(lambda canary, bad: 0.1, id="one in ten"),
        pytest.param(lambda canary, bad: 0.8 if bad else 0.3, id="rather complaints"),
    ],
)
def test_a_better_canary_passes_whatever_clients_use_to_say(speaks: Speaks) -> None:
    """Also where a better release means less feedback: fewer complaints are no bad sign."""
    for seed in range(6):
        verdict = ended(PLAN, 0.3, 0.1, speaks, seed=seed)
        assert verdict.outcome is PROMOTE, verdict.reason


@BOTH
@pytest.mark.parametrize(
    "speaks",
    [
        pytest.param(lambda canary, bad: 0.6, id="some"),
        pytest.param(lambda canary, bad: 0.9 if bad else 0.5, id="rather complaints"),
    ],
)
def test_an_equal_canary_is_rarely_rolled_back_at_partial_feedback(
    plan: Plan, speaks: Speaks
) -> None:
    """Silence hits both arms alike: at most 2 of 30 rollouts, as chance allows for 1 %.

    One look is enough: the evidence to roll back counts at its highest so far.
    """
    verdicts = [ended(plan, 0.2, 0.2, speaks, seed=seed, most=800, every=800) for seed in range(30)]
    assert sum(verdict.outcome is ROLL_BACK for verdict in verdicts) <= 2


def test_talkative_users_do_not_hide_bad_answers() -> None:
    """More good feedback than the champion's is no excuse for more bad feedback."""
    verdict = ended(REQUIRED, 0.1, 0.25, lambda canary, bad: 1.0 if canary or bad else 0.6)
    assert verdict.outcome is ROLL_BACK
    assert verdict.numbers["canary"]["rate"] < verdict.numbers["champion"]["rate"]
    assert " (errors and bad feedback: canary " in verdict.reason


def test_required_feedback_on_few_answers_is_never_a_pass() -> None:
    """One good word does not stand for thousands of silent answers, and the reason says so."""
    once = Observation("x", "first", True, 0.5, 1, False, 0.0, (("success", 1.0, 0.5),))
    dice = random.Random(1)
    judge = observe(new_judge(REQUIRED), REQUIRED, [once, *_silent(dice, 3_000)], 1e6)
    verdict = assess(judge, REQUIRED)
    assert verdict.numbers["canary"]["feedback"] == 1
    assert verdict.numbers["e_promote"] > 20
    assert verdict.outcome is RolloutOutcome.WAIT
    assert "no feedback 'success' on 99.9 % of the canary's requests" in verdict.reason
    assert "at most 50.0 % of each side may be without" in verdict.reason


def _silent(dice: random.Random, n: int) -> list[Observation]:
    return [_answer(dice, REQUIRED, i, 0.1, 0.1, lambda canary, bad: 0.0) for i in range(n)]


def test_required_feedback_is_asked_of_the_champion_too() -> None:
    """A champion that nobody vouches for is no measure."""
    verdict = ended(REQUIRED, 0.0, 0.0, lambda canary, bad: 1.0 if canary else 0.3)
    assert verdict.numbers["e_promote"] > 20
    assert verdict.outcome is RolloutOutcome.WAIT
    assert "no feedback 'success' on 0.0 % of the canary's requests and 7" in verdict.reason
    assert "the plan requires it" in verdict.reason


def unit_of_three(plan: Plan) -> Judge:
    """One canary unit: an error, a good answer, and one that nobody said anything about."""
    said = (("success", 1.0, 1.5),)
    world = [
        Observation("a", "u", True, 0.5, 1, True, 1.0),
        Observation("b", "u", True, 0.5, 1, False, 1.1, said),
        Observation("c", "u", True, 0.5, 1, False, 1.2),
    ]
    return observe(new_judge(plan), plan, world, 10.0)


def test_what_counts_as_silent() -> None:
    """An error is a failure and not silence; feedback of another name or too late is none."""
    optional, required = unit_of_three(PLAN).canary, unit_of_three(REQUIRED).canary
    assert (optional.errors, optional.feedback, optional.silent) == (1, 1, 1)
    assert optional.failures == optional.failed == pytest.approx(1 / 3)
    assert required.failures == required.unconfirmed == pytest.approx(2 / 3)
    late = (("success", 1.0, 3.5), ("other", 1.0, 1.5))
    world = [Observation("a", "u", True, 0.5, 1, False, 1.0, late)]
    assert observe(new_judge(PLAN), PLAN, world, 10.0).canary.silent == 1


def test_without_a_rule_there_is_no_silence() -> None:
    """Where no feedback is named, only failures are tested."""
    judge = unit_of_three(msgspec.structs.replace(PLAN, feedback=None))
    assert judge.canary.silent == 0
    assert [len(judge.rollback["parts"]), len(judge.promote["parts"])] == [1, 1]
