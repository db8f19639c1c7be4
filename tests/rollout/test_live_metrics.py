"""Several metrics at once: exact, resumable, never deciding on what is not there."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.domain.outcomes import GIVEN_UP
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.assessment import assess
from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.gauges import gauges_of
from fairlead.rollout.judge import Judge, new_judge, observe
from fairlead.rollout.metrics import WORST
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import FeedbackRule, Plan, Step
from fairlead.rollout.sources import VALUE_MAX

FIVE = (
    DeclaredMetric("ttft_ms", "ttft_ms", margin=0.25, tolerance=0.1),
    DeclaredMetric("cost", "cost", margin=0.25, tolerance=0.1),
    DeclaredMetric("refusal", "refusal", margin=0.05, budget=0.3),
    DeclaredMetric("format", "format", margin=0.05),
    DeclaredMetric("solved", "feedback", margin=0.1, feedback=FeedbackRule("solved", 0.5)),
)
PLAN = Plan(steps=(Step(0.5, 1),), settle_s=3.0, margin=0.1, metrics=FIVE)


class Traffic:
    """Requests of units that come one after the other, one arm unlike the other as told."""

    def __init__(self, seed: int, rho: float = 0.5) -> None:
        self.source = random.Random(seed)
        self.rho = rho
        self.count = 0

    def request(self, change: Callable[[dict[str, Any]], None] | None = None) -> Observation:
        """A request; `change` is done to those of the canary."""
        source = self.source
        self.count += 1
        facts: dict[str, Any] = {
            "failed_by_error": source.random() < 0.02,
            "ttft_ms": source.lognormvariate(5.0, 0.5),
            "duration_ms": source.lognormvariate(6.0, 0.5),
            "cost_usd": source.lognormvariate(-7.0, 0.4),
            "completion_tokens": 100 + source.randrange(100),
            "refused": int(source.random() < 0.05),
            "malformed": int(source.random() < 0.03),
            "feedback": (("solved", float(source.random() < 0.8), 0.0),),
        }
        canary = source.random() < self.rho
        if canary and change is not None:
            change(facts)
        number = self.count
        at = number / 10
        return Observation(
            id=f"r{number:06}", unit=f"u{number}", canary=canary, rho=self.rho, phase=1,
            started_at=at, **facts,
        )  # fmt: skip

    def judged(
        self, plan: Plan, units: int, change: Callable[[dict[str, Any]], None] | None = None
    ) -> Judge:
        """What a judge knows after so many units."""
        world = [self.request(change) for _ in range(units)]
        return observe(new_judge(plan), plan, world, 1e9)


def slower(facts: dict[str, Any]) -> None:
    facts["ttft_ms"] *= 3


def dearer(facts: dict[str, Any]) -> None:
    facts["cost_usd"] *= 2


def refusing(facts: dict[str, Any]) -> None:
    facts["refused"] = 1


def broken(facts: dict[str, Any]) -> None:
    facts["malformed"] = 1


def guarded(facts: dict[str, Any]) -> None:
    """Its prompt is blocked: there is no answer, and no failure either."""
    if not facts["failed_by_error"]:
        facts.update(guardrail_hits=1, status=400)


def disliked(facts: dict[str, Any]) -> None:
    facts["feedback"] = (("solved", 0.0, 0.0),)


@pytest.mark.parametrize(
    ("metric", "change", "said"),
    [
        ("ttft_ms", slower, "ms against"),
        ("cost", dearer, "USD against"),
        ("refusal", refusing, "canary 100.0 %"),
        ("format", broken, "canary 100.0 %"),
        ("solved", disliked, "canary 100.0 %"),
    ],
)
def test_a_canary_worse_in_one_metric_is_rolled_back_naming_it(
    metric: str, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    """With its figures, though it is as good in all the others."""
    verdict = assess(Traffic(1).judged(PLAN, 1_500, change), PLAN)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert verdict.reason.startswith(f"{metric}: canary")
    assert said in verdict.reason


def test_an_equal_canary_is_promoted_by_all_metrics() -> None:
    """Each has to show it."""
    verdict = assess(Traffic(2).judged(PLAN, 6_000), PLAN)
    assert verdict.outcome is RolloutOutcome.PROMOTE


GUARDED = msgspec.structs.replace(
    PLAN, metrics=(DeclaredMetric("guardrail_hits", "guardrail_hits", margin=0.1),)
)


def test_a_canary_whose_prompts_hit_guardrails_more_often_is_rolled_back() -> None:
    """Those that were blocked count, though they have no answer."""

    def hits(rate: float) -> Callable[[dict[str, Any]], None]:
        dice = random.Random(7)

        def change(facts: dict[str, Any]) -> None:
            facts["guardrail_hits"] = 0
            if dice.random() < rate:
                guarded(facts)

        return change

    class Guarded(Traffic):
        def request(self, change: Callable[[dict[str, Any]], None] | None = None) -> Observation:
            made = super().request(change)
            return msgspec.structs.replace(made, guardrail_hits=max(0, made.guardrail_hits))

    verdict = assess(Guarded(3).judged(GUARDED, 1_500, hits(0.4)), GUARDED)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert verdict.reason.startswith("guardrail_hits: canary")
    verdict = assess(Guarded(3).judged(GUARDED, 6_000, hits(0.0)), GUARDED)
    assert verdict.outcome is RolloutOutcome.PROMOTE


def test_nothing_is_promoted_by_hits_that_nobody_looked_for() -> None:
    """Neither release has guardrails: the metric is missing, which is said."""
    verdict = assess(Traffic(3).judged(GUARDED, 3_000), GUARDED)
    assert verdict.outcome is not RolloutOutcome.PROMOTE


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 45), max_size=8), st.integers(0, 5))
def test_any_batches_and_restarts_give_the_same_state_with_several_metrics(
    moments: list[float], seed: int
) -> None:
    """Bit for bit, through JSON in between."""
    traffic, shuffle = Traffic(seed), random.Random(seed)
    world = [traffic.request(slower) for _ in range(400)]
    plan = msgspec.structs.replace(PLAN, warm_up_s=5.0)
    whole = observe(new_judge(plan), plan, world, 60.0)
    judge = new_judge(plan)
    for moment in [*sorted(moments), 60.0, 60.0]:
        batch = [r for r in world if r.started_at < moment] * 2
        shuffle.shuffle(batch)
        judge = observe(judge, plan, batch, moment)
        judge = msgspec.json.decode(msgspec.json.encode(judge), type=Judge)
    assert judge == whole


def test_a_judge_of_before_loads_and_goes_on() -> None:
    """What it kept has no figures and no times of phases."""
    plan = Plan(steps=(Step(0.5, 1),), settle_s=3.0)
    traffic = Traffic(3)
    world = [traffic.request() for _ in range(300)]
    half = observe(new_judge(plan), plan, world[:150], 12.0)
    old = msgspec.to_builtins(half)
    del old["figures"]
    for phase in old["phases"]:
        del phase["begun_at"]
    again = observe(msgspec.convert(old, Judge), plan, world, 1e9)
    whole = observe(half, plan, world, 1e9)
    assert (again.rollback, again.promote, again.canary) == (
        whole.rollback,
        whole.promote,
        whole.canary,
    )


@pytest.mark.parametrize("arm", ["canary", "both"])
def test_a_metric_that_most_units_lack_never_promotes(arm: str) -> None:
    """It is named as missing, and alone rolls nothing back."""

    def without_cost(facts: dict[str, Any]) -> None:
        facts["cost_usd"] = -1.0

    plan = msgspec.structs.replace(PLAN, metrics=FIVE[1:2])
    traffic = Traffic(4)
    world = [traffic.request(without_cost) for _ in range(3_000)]
    if arm == "both":
        world = [msgspec.structs.replace(r, cost_usd=-1.0) for r in world]
    verdict = assess(observe(new_judge(plan), plan, world, 1e9), plan)
    assert verdict.outcome is RolloutOutcome.WAIT
    assert "metric 'cost' is missing: of the canary's units 0 have it" in verdict.reason


def test_a_metric_that_only_watches_is_not_needed_to_promote() -> None:
    """Though nothing is known by it."""
    watching = msgspec.structs.replace(FIVE[1], promotes=False)
    plan = msgspec.structs.replace(PLAN, metrics=(watching,))
    traffic = Traffic(5)
    world = [msgspec.structs.replace(traffic.request(), cost_usd=-1.0) for _ in range(3_000)]
    verdict = assess(observe(new_judge(plan), plan, world, 1e9), plan)
    assert verdict.outcome is RolloutOutcome.PROMOTE


def test_cold_caches_do_not_count_while_the_replicas_warm_up() -> None:
    """The same traffic without a time to warm up is rolled back; failures count all along."""
    traffic = Traffic(6)
    world = [traffic.request(slower) for _ in range(1_000)]
    world += [traffic.request() for _ in range(500)]
    metrics = FIVE[:1]
    cold = msgspec.structs.replace(PLAN, metrics=metrics)
    warm = msgspec.structs.replace(cold, warm_up_s=100.0)
    judged = observe(new_judge(cold), cold, world, 1e9)
    assert assess(judged, cold).outcome is RolloutOutcome.ROLL_BACK
    judged = observe(new_judge(warm), warm, world, 1e9)
    assert assess(judged, warm).outcome is not RolloutOutcome.ROLL_BACK
    assert judged.units == 1_500
    assert 450 < judged.figures[1].canary.units + judged.figures[1].champion.units < 500


@pytest.mark.parametrize("who_fails", ["champion", "canary"])
def test_failures_do_not_count_again_as_slowness(who_fails: str) -> None:
    """A champion whose slow requests time out looks fast by those it answers, a canary that fails
    quickly looks fast by the time that it took: neither decides by its latency."""
    plan = Plan(steps=(Step(0.5, 1),), settle_s=3.0, tolerance=0.4, margin=0.45, metrics=FIVE[:1])
    traffic = Traffic(7)
    world = []
    for _ in range(4_000):
        request = traffic.request()
        if request.canary == (who_fails == "canary") and request.ttft_ms > 200.0:
            request = msgspec.structs.replace(
                request, failed_by_error=True, ttft_ms=-1.0, duration_ms=200.0
            )
        world.append(request)
    verdict = assess(observe(new_judge(plan), plan, world, 1e9), plan)
    assert verdict.numbers["by_outcome"]["ttft_ms"]["e_rollback"] < 2.0


def amounts(*requests: Observation) -> tuple[float | None, float | None]:
    """(value, worst) of a unit by its time to first token."""
    (gauge,) = gauges_of(FIVE[:1])
    for request in requests:
        gauge.add(request, 1e9)
    (reading,) = gauge.readings()
    assert reading is not None
    return reading.value, reading.worst


def test_a_unit_has_one_value_by_each_metric() -> None:
    """The mean of what was answered; what failed took as long as the longest, or for ever."""
    base = Traffic(8).request()
    good = msgspec.structs.replace(base, failed_by_error=False, duration_ms=500.0)
    fast, slow = (msgspec.structs.replace(good, ttft_ms=t) for t in (100.0, 300.0))
    failed = msgspec.structs.replace(base, failed_by_error=True, ttft_ms=-1.0, duration_ms=5.0)
    left = msgspec.structs.replace(good, status=499, ttft_ms=-1.0, duration_ms=800.0)
    assert amounts(fast, slow) == (200.0, 200.0)
    assert amounts(fast, slow, failed) == (200.0, (100.0 + 300.0 + 300.0) / 3)
    assert amounts(failed) == (None, WORST)
    assert amounts(fast, left) == (450.0, 450.0)


def test_less_of_an_amount_can_be_the_worse() -> None:
    """Answers that have become shorter."""
    metric = DeclaredMetric("length", "completion_tokens", margin=0.3, worse="lower")
    plan = msgspec.structs.replace(PLAN, metrics=(metric,))

    def shorter(facts: dict[str, Any]) -> None:
        facts["completion_tokens"] //= 2

    def longer(facts: dict[str, Any]) -> None:
        facts["completion_tokens"] *= 2

    verdict = assess(Traffic(9).judged(plan, 1_500, shorter), plan)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert verdict.reason.startswith("length: canary shorter, median")
    verdict = assess(Traffic(9).judged(plan, 1_500, longer), plan)
    assert verdict.outcome is RolloutOutcome.PROMOTE


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"source": "speed"}, "is not one of"),
        ({"margin": 0.05, "tolerance": 0.1}, "tolerance"),
        ({"worse": "lower"}, "makes no sense"),
        ({"budget": 0.1}, "budget"),
        ({"name": "a unconfirmed"}, "a name"),
        ({"source": "feedback"}, "feedback"),
        ({"weight": float("nan")}, "weight"),
    ],
)
def test_a_metric_that_makes_no_sense_is_refused(wrong: dict[str, Any], said: str) -> None:
    """With its name, and what is wrong."""
    right: dict[str, Any] = {"name": "a", "source": "ttft_ms", "margin": 0.2}
    with pytest.raises(InvalidInput, match=said):
        DeclaredMetric(**(right | wrong))


def test_two_metrics_of_one_name_are_refused() -> None:
    """Nor may one be called as the failures are."""
    for metrics in ((FIVE[0], FIVE[0]), (msgspec.structs.replace(FIVE[0], name="failed"),)):
        with pytest.raises(InvalidInput, match="there twice"):
            Plan(metrics=metrics)


def test_five_metrics_at_once_rarely_roll_an_equal_canary_back() -> None:
    """At alpha = 10 %, so that few rollouts tell: if it holds, 9 of 25 come in 1 of 1,000 runs."""
    plan = msgspec.structs.replace(PLAN, alpha=0.1)
    backs = 0
    for seed in range(25):
        judge = Traffic(1_000 + seed, rho=0.3).judged(plan, 600)
        backs += assess(judge, plan).outcome is RolloutOutcome.ROLL_BACK
    assert backs < 9


def test_a_time_beyond_all_measure_is_a_long_one_and_can_be_stored() -> None:
    """JSON has no infinity, which two such requests of a unit would have as their mean."""
    (gauge,) = gauges_of((DeclaredMetric("took", "duration_ms", margin=0.2),))
    for number in range(2):
        request = Traffic(number).request()
        gauge.add(
            msgspec.structs.replace(
                request, failed_by_error=False, status=GIVEN_UP, duration_ms=1.7e308
            ),
            1e9,
        )
    (reading,) = gauge.readings()
    assert reading is not None
    assert (reading.value, reading.worst) == (VALUE_MAX, WORST)
