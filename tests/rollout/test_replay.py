"""A replay judges recorded observations as live traffic is judged, in spite of every trap."""

import math
import random
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.judge import Instruments, Observation, new_judge, observe
from fairlead.rollout.metrics import Metric, MetricKind, MetricTests, Missing, Reading
from fairlead.rollout.plan import FeedbackRule, Plan, Step
from fairlead.rollout.recording import Recording, ReplayedObservation
from fairlead.rollout.replay import ReplayResult, replay

FAILED = Metric("failed", margin=0.1)
TTFT = Metric("ttft", kind=MetricKind.LATENCY, margin=0.2)


def seen(
    n: int,
    champion: float,
    canary: float,
    *,
    seed: int = 1,
    rho: float = 0.5,
    happens: float | None = None,
    delay: float = 0.0,
) -> Iterator[ReplayedObservation]:
    """n units a second apart; a failing canary is known `delay` seconds sooner than the rest."""
    dice = random.Random(seed)
    for number in range(n):
        arm = dice.random() < (rho if happens is None else happens)
        bad = dice.random() < (canary if arm else champion)
        at = float(number)
        settled = at + (0.0 if arm and bad else delay)
        yield ReplayedObservation(
            f"u{number:06}", "canary" if arm else "champion", rho, "failed", float(bad), at, settled
        )


def judged(
    observations: Sequence[ReplayedObservation] | Iterator[ReplayedObservation],
    metrics: Sequence[Metric] = (FAILED,),
    settle_s: float = math.inf,
    alpha: float = 0.01,
) -> ReplayResult:
    recording = Recording(metrics, settle_s)
    for observation in observations:
        recording.add(observation)
    return replay(recording, alpha=alpha)


def test_worse_is_rolled_back_and_equal_promoted_with_the_path_to_it() -> None:
    worse, equal = judged(seen(2_000, 0.1, 0.3)), judged(seen(3_000, 0.1, 0.1))
    assert worse.verdict is RolloutOutcome.ROLL_BACK
    assert worse.path[-1].units == worse.at < 400
    assert worse.path[-1].e_rollback >= 100 > worse.path[-2].e_rollback
    assert [point.units for point in worse.path[:-1]] == list(range(50, worse.at, 50))
    assert "'failed'" in worse.reason
    assert equal.verdict is RolloutOutcome.PROMOTE
    assert equal.path[-1].e_promote >= 20
    assert equal.canary_units + equal.champion_units == equal.at


def test_it_is_the_code_that_judges_live_traffic() -> None:
    """The same requests through the judge of a live rollout: the same evidence, to the last bit."""
    plan = Plan(steps=(Step(0.5, 1),), settle_s=1.0, feedback=FeedbackRule("good"), margin=0.1)
    taken = list(seen(430, 0.1, 0.12))
    live = [
        Observation(o.unit, o.unit, o.arm == "canary", o.rho, 1, False, o.enrolled_at + 1,
                    (("good", 1.0 - float(o.value or 0), o.enrolled_at + 1.5),))
        for o in taken
    ]  # fmt: skip
    judge = observe(new_judge(plan), plan, live, 1_000.0)
    tests = Instruments(plan)
    tests.restore(judge)
    names = [Metric("failed", margin=0.1), Metric("unconfirmed", margin=0.1, expected_units=20.0)]
    both = [msgspec.structs.replace(o, metric=name.name) for o in taken for name in names]
    result = judged(both, names)
    assert result.at == 430
    last = result.path[-1]
    assert last.e_rollback == math.exp(tests.rollback.log_e)
    assert last.e_promote == math.exp(tests.promote.log_e)
    assert last.e_sample_ratio == math.exp(tests.guard.log_e_max)


def test_order_of_arrival_duplicates_and_batches_change_nothing() -> None:
    """Shuffled, each told twice, the second time otherwise and later: the same verdict and path."""
    taken = list(seen(900, 0.1, 0.25))
    shuffled = taken + [
        msgspec.structs.replace(o, value=1.0 - float(o.value or 0), settled_at=o.enrolled_at + 900)
        for o in taken
    ]
    random.Random(2).shuffle(shuffled)
    once, twice = judged(taken), judged(shuffled)
    assert once.path == twice.path
    assert (once.verdict, once.at) == (twice.verdict, twice.at)
    assert (once.duplicates, twice.duplicates) == (0, 900)


def test_failures_that_are_known_sooner_change_nothing() -> None:
    """Order is by enrolment. In order of arrival an equal canary looks worse: the trap."""
    by_enrolment = sum(
        judged(seen(700, 0.2, 0.2, seed=seed, rho=0.2, delay=300.0), alpha=0.05).verdict
        is RolloutOutcome.ROLL_BACK
        for seed in range(16)
    )
    by_arrival = 0
    for seed in range(16):
        tests = MetricTests([FAILED], 0.05, 0.05)
        arrived = sorted(
            seen(700, 0.2, 0.2, seed=seed, rho=0.2, delay=300.0), key=lambda o: o.settled_at or 0
        )
        for o in arrived:
            bad = float(o.value or 0)
            tests.update(o.arm == "canary", o.rho, [Reading(bad, bad)])
        by_arrival += tests.rollback.log_e_max >= math.log(20)
    assert by_enrolment <= 4
    assert by_arrival >= 8


def test_a_late_outcome_is_a_missing_one_and_a_missing_one_is_bad() -> None:
    """A canary that answers late, or not at all, is worse."""
    taken = list(seen(600, 0.05, 0.05))
    late = [
        msgspec.structs.replace(
            o, settled_at=o.enrolled_at + (60 if o.arm == "canary" and i % 2 else 1)
        )
        for i, o in enumerate(taken)
    ]
    assert judged(late).verdict is not RolloutOutcome.ROLL_BACK
    result = judged(late, settle_s=30.0)
    assert result.verdict is RolloutOutcome.ROLL_BACK
    assert result.late > 10
    silent = [
        msgspec.structs.replace(o, value=None) if o.arm == "canary" and i % 2 else o
        for i, o in enumerate(taken)
    ]
    result = judged(silent)
    assert result.verdict is RolloutOutcome.ROLL_BACK
    assert result.metrics[0].canary_missing > 10


def test_a_tenth_missing_on_both_arms_is_no_reason_to_roll_back() -> None:
    taken = [
        msgspec.structs.replace(o, value=None) if i % 10 == 0 else o
        for i, o in enumerate(seen(1_500, 0.1, 0.1))
    ]
    assert judged(taken).verdict is not RolloutOutcome.ROLL_BACK


def test_what_is_not_recorded_is_no_verdict() -> None:
    """A metric that most units lack is a fault of recording."""
    result = judged(seen(600, 0.1, 0.1), [FAILED, TTFT])
    assert result.verdict is RolloutOutcome.INVALID
    assert "'ttft' is missing on 312 of 312 champion units" in result.reason


def test_one_arm_without_its_outcomes_is_never_promoted() -> None:
    """The champion's recorder is dead, which makes it look worse than any canary."""
    for rho in (0.4, 0.5, 0.6):
        dead = [
            msgspec.structs.replace(o, value=None) if o.arm == "champion" else o
            for o in seen(600, 0.1, 0.4, rho=rho)
        ]
        result = judged(dead)
        assert result.verdict is RolloutOutcome.INVALID
        assert "'failed' is missing on" in result.reason
        assert "champion units" in result.reason


def test_no_traffic_is_never_a_pass() -> None:
    """Neither without any unit, nor with a champion alone, nor a canary alone."""
    assert judged([]).missing == "no canary unit"
    only = [o for o in seen(400, 0.1, 0.1, rho=0.001) if o.arm == "champion"]
    result = judged(only)
    assert result.verdict is RolloutOutcome.INCONCLUSIVE
    assert result.missing == "no canary unit"
    mine = [o for o in seen(30, 0.1, 0.0, rho=0.999) if o.arm == "canary"]
    assert judged(mine).missing == "no champion unit"


def test_a_share_that_is_not_the_logged_one_is_invalid() -> None:
    """30 % happen, 20 % are logged."""
    result = judged(seen(4_000, 0.1, 0.12, rho=0.2, happens=0.3), [Metric("failed", margin=0.02)])
    assert result.verdict is RolloutOutcome.INVALID
    assert "do not fit the logged probabilities" in result.reason


def test_too_few_say_about_how_many_more() -> None:
    result = judged(seen(60, 0.3, 0.1), [Metric("failed", margin=0.02)])
    assert result.verdict is RolloutOutcome.INCONCLUSIVE
    assert "more units" in result.missing
    assert result.at == 60


def test_ramp_and_drift_together_make_no_difference() -> None:
    """Simpson: the pooled rates differ by far, the arms in each phase do not."""
    taken = [
        *seen(1_500, 0.4, 0.4, seed=1, rho=0.1),
        *(
            msgspec.structs.replace(o, unit="x" + o.unit, enrolled_at=o.enrolled_at + 2_000)
            for o in seen(1_500, 0.05, 0.05, seed=2, rho=0.8)
        ),
    ]
    result = judged(taken, [Metric("failed", margin=0.01)])
    assert result.verdict is not RolloutOutcome.ROLL_BACK
    mean = result.metrics[0]
    assert (mean.canary_mean or 0) < (mean.champion_mean or 0) - 0.1


def test_latencies_are_judged_with_failures() -> None:
    """As many failures, 50 % slower: rolled back for that; and as fast: promoted."""
    for factor, expected in ((1.5, RolloutOutcome.ROLL_BACK), (1.0, RolloutOutcome.PROMOTE)):
        dice = random.Random(3)
        taken = []
        for o in seen(8_000, 0.1, 0.1):
            slower = factor if o.arm == "canary" else 1.0
            ttft = dice.lognormvariate(0, 0.5) * slower
            taken += [o, msgspec.structs.replace(o, metric="ttft", value=ttft)]
        result = judged(taken, [FAILED, TTFT])
        assert result.verdict is expected, result.reason
        if factor > 1:
            assert "most of it by 'ttft'" in result.reason


def test_good_values_can_be_the_ones_that_are_true() -> None:
    """`bad: false`: a metric that says what passed."""
    passed = [msgspec.structs.replace(o, value=not o.value) for o in seen(2_000, 0.1, 0.3)]
    assert judged(passed, [Metric("failed", bad=False)]).at == judged(seen(2_000, 0.1, 0.3)).at


def test_a_budget_rolls_back_what_the_comparison_cannot_see() -> None:
    """Ten failures of canary units, more than the budget allows."""
    with_budget = [Metric("failed", margin=0.002, budget=0.001, expected=0.0005)]
    taken = list(seen(1_500, 0.012, 0.012))
    assert judged(taken, with_budget).verdict is RolloutOutcome.ROLL_BACK


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": "blue"}, "neither canary nor champion"),
        ({"rho": 1.0}, "rho 1 is not above 0"),
        ({"metric": "latency"}, "is not declared"),
        ({"value": 2.0}, "value 2.0 is none"),
        ({"enrolled_at": math.inf}, "must be finite"),
        ({"unit": "u000000", "rho": 0.3}, "two arms or in two strata, or was assigned"),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    first, second = list(seen(2, 0.5, 0.5))
    with pytest.raises(InvalidInput, match=message):
        judged([first, msgspec.structs.replace(second, **change)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"margin": 0.0}, "margin"),
        ({"tolerance": 0.05}, "tolerance"),
        ({"weight": 0.0}, "weight"),
        ({"budget": 0.9}, "budget"),
        ({"kind": MetricKind.COST, "bad": False}, "binary"),
    ],
)
def test_metrics_that_make_no_sense_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Metric(**{"name": "x", **wrong})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="same name"):
        Recording([FAILED, FAILED])
    with pytest.raises(InvalidInput, match="alpha"):
        replay(Recording([FAILED]), alpha=0.9)


def test_a_metric_that_no_unit_has_is_said_to_be_so() -> None:
    """Also where a unit without it would be no bet. Without a canary there is nothing to say."""
    skipping = msgspec.structs.replace(TTFT, missing=Missing.SKIP)
    result = judged(seen(300, 0.1, 0.1), [FAILED, skipping])
    assert result.verdict is RolloutOutcome.INVALID
    assert result.missing == "no champion unit has the metric 'ttft'"
    alone = [o for o in seen(300, 0.1, 0.1, rho=0.001) if o.arm == "champion"]
    result = judged(alone, [FAILED, skipping])
    assert (result.verdict, result.missing) == (RolloutOutcome.INCONCLUSIVE, "no canary unit")
