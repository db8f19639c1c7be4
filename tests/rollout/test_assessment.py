"""Verdicts have names, reasons and numbers, and are right about canaries of every kind."""

import math
import random
from typing import Any

import msgspec
import pytest

from fairlead.domain.verdicts import RolloutOutcome, RolloutVerdict
from fairlead.rollout.assessment import assess, numbers_of
from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.judge import Instruments, Judge, Observation, new_judge, observe
from fairlead.rollout.plan import FeedbackRule, Plan, Step
from fairlead.rollout.telling import is_stratified, leading_of, led_by, shows_most

PLAN = Plan(steps=(Step(0.5, 1),), settle_s=1.0, expected_failure_rate=0.1)


def judged(
    p_b: float,
    p_c: float,
    n: int,
    *,
    plan: Plan = PLAN,
    rho: float = 0.5,
    real: float | None = None,
    feedback: bool = False,
) -> Judge:
    """The judge after n units; their failures are errors, or bad feedback."""
    source = random.Random(17)
    world = []
    for i in range(n):
        canary = source.random() < (rho if real is None else real)
        failed = source.random() < (p_c if canary else p_b)
        said = (("good", float(not failed), i + 0.5),) if feedback else ()
        world.append(
            Observation(
                f"r{i:06}", f"u{i}", canary, rho, 1, failed and not feedback, float(i), said
            )
        )
    return observe(new_judge(plan), plan, world, n + 10.0)


def test_worse_is_rolled_back_with_the_numbers_in_the_reason() -> None:
    """The reason can be read without knowing the method."""
    verdict = assess(judged(0.1, 0.3, 500), PLAN)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    numbers = verdict.numbers
    assert numbers["e_rollback"] >= numbers["threshold_rollback"] == 100
    canary, champion = numbers["canary"], numbers["champion"]
    assert verdict.reason.startswith(
        f"canary fails {100 * canary['rate']:.1f} % of {canary['units']} units, champion "
        f"{100 * champion['rate']:.1f} % of {champion['units']}; evidence "
    )
    assert verdict.reason.endswith("would show this in fewer than 1 of 100 rollouts")
    assert numbers["ci_low"] <= numbers["difference"] <= numbers["ci_high"]
    assert numbers["difference"] == pytest.approx(canary["rate"] - champion["rate"])


def test_not_worse_can_be_promoted() -> None:
    """Enough evidence of not being worse by the margin."""
    verdict = assess(judged(0.1, 0.05, 1_500), PLAN)
    assert verdict.outcome is RolloutOutcome.PROMOTE
    assert "5 percentage points" in verdict.reason
    assert verdict.numbers["e_promote"] >= 20


def test_few_units_wait_and_say_about_how_many_more() -> None:
    """Between the thresholds there is no verdict, but a forecast."""
    verdict = assess(judged(0.1, 0.1, 60), PLAN)
    assert verdict.outcome is RolloutOutcome.WAIT
    assert "more units to a verdict" in verdict.reason
    assert verdict.numbers["expected_more_units"] > 0


def test_a_wrongly_logged_share_is_invalid_and_not_a_verdict_on_the_release() -> None:
    """Logged 50 %, happened 35 %: the comparison is off, whatever it says."""
    verdict = assess(judged(0.1, 0.6, 1_500, real=0.35), PLAN)
    assert verdict.outcome is RolloutOutcome.INVALID
    assert "not the one that was logged" in verdict.reason


@pytest.mark.parametrize("real", [0.0, 1.0])
def test_an_arm_without_traffic_is_never_a_pass(real: float) -> None:
    """Not even for the few units before the guard is sure."""
    for n in (0, 1, 10, 40):
        verdict = assess(judged(0.9, 0.0, n, rho=0.1, real=real), PLAN)
        assert verdict.outcome is not RolloutOutcome.PROMOTE
    plan = msgspec.structs.replace(PLAN, beta=0.5, margin=0.5)
    assert assess(judged(0.9, 0.0, 10, rho=0.1, real=real, plan=plan), plan).outcome not in (
        RolloutOutcome.PROMOTE,
    )
    assert assess(new_judge(PLAN), PLAN).reason == "no canary unit has settled yet"


def test_required_feedback_that_never_comes_is_never_a_pass() -> None:
    """Silence is not approval when the plan requires feedback."""
    rule = FeedbackRule("good", required=True)
    plan = msgspec.structs.replace(PLAN, feedback=rule)
    silent = assess(judged(0.05, 0.0, 2_000, plan=plan), plan)
    assert silent.outcome is RolloutOutcome.WAIT
    assert "no feedback 'good'" in silent.reason
    assert silent.numbers["e_promote"] > 20
    spoken = assess(judged(0.05, 0.0, 2_000, plan=plan, feedback=True), plan)
    assert spoken.outcome is RolloutOutcome.PROMOTE


@pytest.mark.parametrize("canary", [True, False])
def test_one_unit_with_all_requests_is_told_what_to_send(canary: bool) -> None:
    """A single key without sessions or users cannot be compared with anything, and is told so."""
    world = [Observation(f"r{i:06}", "key", canary, 0.5, 1, False, float(i)) for i in range(1_200)]
    verdict = assess(observe(new_judge(PLAN), PLAN, world, 2_000.0), PLAN)
    assert verdict.outcome is RolloutOutcome.WAIT
    other = "champion" if canary else "canary"
    assert verdict.reason.startswith(
        f"no {other} unit has settled yet; 1,200 requests came from 1 unit (a unit is a session, "
    )
    assert "send `x-session-id` or the `user` field" in verdict.reason


def test_few_units_are_counted_once_over_the_phases() -> None:
    """The same three users in two phases are three, and in the reason beside the evidence."""
    world = [
        Observation(f"r{i:06}", f"u{i % 3}", i % 3 == 0, 0.5, 1 + i // 200, False, float(i))
        for i in range(400)
    ]
    reason = assess(observe(new_judge(PLAN), PLAN, world, 2_000.0), PLAN).reason
    assert reason.startswith("canary fails 0.0 % of 2 units, champion 0.0 % of 4; ")
    assert "; 400 requests came from 3 units" in reason


def test_few_units_with_few_requests_are_no_reason_to_change_the_client() -> None:
    """At the beginning of a rollout there is just little traffic."""
    assert "x-session-id" not in assess(judged(0.1, 0.1, 60), PLAN).reason
    many = [
        Observation(f"r{i:06}", f"u{i % 150}", i % 2 == 0, 0.5, 1, False, float(i))
        for i in range(6_000)
    ]
    judge = observe(new_judge(PLAN), PLAN, many, 1e5)
    assert judge.requests == 6_000
    assert "x-session-id" not in assess(judge, PLAN).reason


def test_bad_feedback_rolls_back_like_errors() -> None:
    """A release that answers, but wrongly, is found from what clients say."""
    plan = msgspec.structs.replace(PLAN, feedback=FeedbackRule("good"))
    verdict = assess(judged(0.1, 0.35, 500, plan=plan, feedback=True), plan)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert verdict.numbers["canary"]["errors"] == 0
    assert verdict.numbers["canary"]["feedback"] == verdict.numbers["canary"]["requests"]


def test_numbers_are_json_and_finite_at_overwhelming_evidence() -> None:
    """E beyond any float is still a number, and a verdict survives JSON unchanged."""
    verdict = assess(judged(0.0, 1.0, 3_000), PLAN)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert math.isfinite(verdict.numbers["e_rollback"])
    stored = msgspec.json.encode(verdict)
    assert msgspec.json.decode(stored, type=RolloutVerdict) == verdict


def test_a_ramp_in_a_drift_is_no_difference() -> None:
    """Simpson's paradox: pooled rates differ by a lot, the weighted difference does not."""
    source, world = random.Random(3), []
    for i in range(6_000):
        rho, rate = (0.05, 0.05) if i < 3_000 else (0.6, 0.4)
        canary, failed = source.random() < rho, source.random() < rate
        world.append(Observation(f"r{i:06}", f"u{i}", canary, rho, 1, failed, float(i)))
    judge = observe(new_judge(PLAN), PLAN, world, 1e5)
    numbers = assess(judge, PLAN).numbers
    assert numbers["canary"]["rate"] - numbers["champion"]["rate"] > 0.15
    assert abs(numbers["difference"]) < 0.05
    assert assess(judge, PLAN).outcome is not RolloutOutcome.ROLL_BACK


def test_what_decided_is_told_by_the_weight_that_its_evidence_has() -> None:
    """Some metrics weigh a tenth: ten times the evidence is then as much of the average."""
    slow: dict[str, Any] = {"e_rollback": 500.0, "weight": 0.1}
    numbers = {"by_outcome": {"failed": {"e_rollback": 90.0, "weight": 1.0}, "slow": slow}}
    assert leading_of(numbers) == "failed"
    assert led_by(numbers) == ""
    del slow["weight"]
    assert leading_of(numbers) == "slow", "of an older build"
    assert (leading_of({}), led_by({}), is_stratified({}), shows_most({})) == ("", "", False, "")
    judge = new_judge(PLAN)
    assert numbers_of(judge, PLAN)["by_outcome"]["failed"]["weight"] == 1.0


def test_what_would_take_for_ever_is_not_foretold() -> None:
    """Evidence that has grown by the dust of a sum alone: no number of units says anything."""
    plan = msgspec.structs.replace(PLAN, metrics=(DeclaredMetric("took", "duration_ms", 0.2),))
    world = [
        Observation(f"r{i:03}", f"u{i}", i % 2 == 0, 0.5, 1, False, float(i), duration_ms=100.0)
        for i in range(40)
    ]
    judge = observe(new_judge(plan), plan, world, 1e9)
    values = judge.rollback["values"][0]
    values["logs"] = [log + 1e-11 for log in values["logs"]]
    tests = Instruments(plan)
    tests.restore(judge)
    assert 0.0 < tests.rollback.parts[1].log_e < 1e-10
    assert numbers_of(judge, plan)["expected_more_units"] is None
    assert "more units" not in assess(judge, plan).reason
