"""The slow watch: quiet for ever within its limit, whatever the rate does, and loud beyond it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.rollout.judge import Observation
from fairlead.rollout.plan import FeedbackRule, Plan
from fairlead.rollout.slow import DAY_S, Day, Kept, Limit, accepted_with, limit_of, new_kept
from fairlead.rollout.units import ArmCounts, Unit

PLAN = Plan(settle_s=10.0)
LIMIT = Limit(0.1, "declared")
NOON = 100 * DAY_S + DAY_S / 2


def request(number: int, at: float, *, failed: bool = False, unit: str = "") -> Observation:
    return Observation(f"q{number:08}", unit or f"u{number}", False, 0.0, 0, failed, at)


def day(limit: Limit = LIMIT, plan: Plan = PLAN, since: float = NOON) -> Day:
    return Day(new_kept(limit, plan, since), limit, plan)


def units_until_alarm(seed: int, rates: list[float], limit: Limit = LIMIT) -> int | None:
    """Units until the alarm, when each fails with the rate that is its turn; None without one."""
    dice, watch = random.Random(seed), day(limit)
    for number, rate in enumerate(rates):
        watch.add([request(number, NOON + number, failed=dice.random() < rate)])
        if number % 50 == 49 and watch.is_exceeded:
            return watch.units
    return watch.units if watch.is_exceeded else None


def test_false_alarms_stay_below_alpha_over_any_horizon() -> None:
    """100 champions exactly at their limit, each for 8,000 units; at alpha = 1 % one is likely.

    Looked at each 50 units, a z-test at the same alpha alarms for ten.
    """
    alarms = [units_until_alarm(seed, [LIMIT.rate] * 8_000) for seed in range(100)]
    assert sum(a is not None for a in alarms) <= 3


def test_a_base_rate_that_drifts_within_the_limit_is_no_alarm() -> None:
    """From 1 % to 9 %: what a comparison with the time before takes for a regression each time."""
    rates = [0.01 + 0.08 * n / 20_000 for n in range(20_000)]
    assert all(units_until_alarm(seed, rates) is None for seed in range(10))


def test_a_late_regression_is_seen_soon_after_it_came() -> None:
    """After 20,000 good units; restarts keep the good time from outweighing the bad one."""
    took = [units_until_alarm(seed, [0.04] * 20_000 + [0.25] * 4_000) for seed in range(10)]
    assert all(t is not None and 20_000 < t < 21_000 for t in took), took


def test_a_unit_counts_once_a_day() -> None:
    watch = day(since=NOON)
    watch.add([request(n, NOON + n, unit="same", failed=True) for n in range(100)])
    watch.settle(NOON + 200)
    assert (watch.units, watch.rate) == (1, 1.0)
    watch.add([request(1_000, NOON + DAY_S, unit="same")])
    watch.settle(NOON + DAY_S + 11)
    assert (watch.units, watch.rate) == (2, 0.5)


def test_read_again_from_what_was_kept_it_knows_the_same() -> None:
    """However the requests come in pages, and wherever it was begun again."""
    dice = random.Random(1)
    given = [
        request(n, NOON + 40.0 * n, failed=dice.random() < 0.08, unit=f"u{dice.randrange(2_000)}")
        for n in range(6_000)
    ]
    until = given[-1].started_at + 100
    whole = day()
    whole.add(given)
    whole.settle(until)
    assert whole.kept.since == (until - 100) // DAY_S * DAY_S
    parts = day()
    for begin in range(0, 6_000, 700):
        page = given[begin : begin + 700]
        parts.add(page)
        if begin == 2_800:
            parts.settle(page[-1].started_at)
            kept = msgspec.json.decode(msgspec.json.encode(parts.kept), type=Kept)
            parts = Day(kept, LIMIT, PLAN)
            parts.add(g for g in given[: begin + 700] if g.started_at >= kept.since)
    parts.settle(until)
    assert (parts.units, parts.rate) == (whole.units, whole.rate)
    assert parts.kept == whole.kept
    assert parts.evidence == pytest.approx(whole.evidence)


def test_feedback_counts_as_in_a_rollout() -> None:
    plan = Plan(settle_s=10.0, feedback=FeedbackRule("good", required=True))
    watch = day(plan=plan)
    said = msgspec.structs.replace(request(1, NOON), feedback=(("good", 1.0, NOON + 5),))
    late = msgspec.structs.replace(request(2, NOON + 1), feedback=(("good", 1.0, NOON + 50),))
    watch.add([said, late])
    watch.settle(NOON + 100)
    assert (watch.units, watch.rate) == (2, 0.5)


def test_the_limit_is_declared_or_comes_from_what_the_release_was_accepted_with() -> None:
    declared = msgspec.structs.replace(PLAN, failures_at_most=0.03)
    assert limit_of(declared, 0, 0.0) == Limit(0.03, "declared")
    assert limit_of(PLAN, 0, 0.0) is None
    derived = limit_of(PLAN, 1_000, 50.0)
    assert derived is not None
    assert 0.05 + PLAN.margin < derived.rate < 0.08 + PLAN.margin
    assert "1,000 units" in derived.source
    assert limit_of(PLAN, 3, 3.0) is None, "no limit can be tested there"
    fewer = limit_of(PLAN, 100, 5.0)
    assert fewer is not None
    assert fewer.rate > derived.rate


def test_a_limit_that_cannot_be_tested_is_refused() -> None:
    for rate in (0.0, 0.6, float("nan"), float("inf"), -1.0):
        with pytest.raises(InvalidInput, match="failures_at_most"):
            Plan(failures_at_most=rate)


SAMPLED = msgspec.structs.replace(
    PLAN, feedback=FeedbackRule("judge", 4.0, required=True, sampled=True)
)


def test_errors_are_an_alarm_where_a_judge_model_has_judged_the_rollout() -> None:
    """Outside a rollout it judges nothing; what fails has an outcome all the same."""
    limit = limit_of(SAMPLED, *accepted_with(ArmCounts(units=1_000, failed=12.0), None, SAMPLED))
    assert limit is not None
    watch = day(limit, SAMPLED)
    watch.add([request(n, NOON + n, failed=True) for n in range(500)])
    assert (watch.is_exceeded, watch.rate) == (True, 1.0)


def test_what_a_judge_model_said_in_the_next_rollout_is_no_alarm() -> None:
    limit = Limit(0.05, "declared")
    watch = day(limit, SAMPLED)
    watch.add(
        msgspec.structs.replace(
            request(n, NOON + n), feedback=(("judge", 1.0, NOON + n),) if n % 10 == 0 else ()
        )
        for n in range(3_000)
    )
    assert (watch.rate, watch.is_exceeded) == (0.0, False)
    assert watch.units > 2_900


def test_a_limit_is_derived_from_errors_where_a_judge_model_judged() -> None:
    """Failures of the sampled units are no rate of all units."""
    canary = ArmCounts(units=1_000, failures=30.0, failed=33.0, errors=5, unsampled=900)
    early = ArmCounts(units=1_200, failures=4.5, failed=4.5, errors=6)
    assert accepted_with(canary, None, SAMPLED) == (1_000, 5.0)
    assert accepted_with(canary, early, SAMPLED) == (1_200, 4.5)
    assert accepted_with(canary, None, PLAN) == (1_000, 30.0)


def test_a_request_costs_the_same_however_many_units_are_open() -> None:
    watch = day(plan=msgspec.structs.replace(PLAN, settle_s=1_800.0))
    looked_at = 0

    class Counted(dict[int, Unit]):
        def values(self) -> Any:
            nonlocal looked_at
            for unit in super().values():
                looked_at += 1
                yield unit

    watch._open = Counted()
    watch.add(request(n, NOON + n / 100) for n in range(2_000))
    assert looked_at <= 2_000
