"""Error budgets: what burns, over which windows, and what is left."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.burning import Bucket, Severity, assess, pairs_of
from fairlead.monitoring.objectives import Objective, ObjectiveKind, check_objective

UP = Objective(ObjectiveKind.AVAILABILITY, 0.995)
DAY_S = 86_400


def minutes(count: int, total: float, bad: Callable[[int], float]) -> list[Bucket]:
    """A bucket for each minute."""
    return [Bucket(60.0 * (i + 1), total, bad(i)) for i in range(count)]


def test_an_outage_pages_within_minutes_and_the_page_ends_with_it() -> None:
    """100 % of 10 requests a minute fail from minute 400 to 420."""
    buckets = minutes(500, 10, lambda i: 10 if 400 <= i < 420 else 0)
    paging = [
        minute
        for minute in range(1, 501)
        if assess(UP, buckets, 60.0 * minute).severity is Severity.PAGE
    ]
    # 7.2 % of an hour's 600 requests are 43.2: reached by the fifth minute.
    assert paging[0] == 405
    # The 5-minute window is clean at minute 425, the 30-minute one of the slower pair at 450.
    assert paging[-1] == 449
    assert paging == list(range(405, 450))


def test_a_slow_burn_is_a_ticket_and_never_a_page() -> None:
    """2 % fail for two days: four times as fast as allowed."""
    buckets = minutes(2 * 1440, 50, lambda _: 1)
    found = assess(UP, buckets, 2.0 * DAY_S)
    assert found.severity is Severity.TICKET
    worst = next(burn for burn in found.burns if burn.is_burning)
    assert (worst.pair.factor, round(worst.long or 0.0, 6)) == (3.0, 4.0)
    # What it has burnt of what two days allow is 4; 30 days allow more, and are not over.
    assert (found.budget_left, found.gone_in_s) == (None, None)


@pytest.mark.parametrize(("days", "is_known"), [(30.0, True), (28.6, True), (28.4, False)])
def test_the_budget_left_is_known_once_the_period_is_covered(days: float, is_known: bool) -> None:
    hours = [Bucket(3_600.0 * (i + 1), 100, 1) for i in range(round(days * 24))]
    found = assess(UP, hours, hours[-1].end + 3_600.0)
    assert (found.budget_left is not None) is is_known
    assert (found.gone_in_s is not None) is is_known
    if is_known:
        assert found.budget_left == pytest.approx(1 - 2)
        assert found.gone_in_s == 0.0


def test_the_budget_left_says_how_long_it_lasts_at_this_rate() -> None:
    clean = minutes(29 * 1440, 10, lambda _: 0)
    burning = [Bucket(29.0 * DAY_S + 60 * (i + 1), 10, 1) for i in range(120)]
    found = assess(UP, [*clean, *burning], 29.0 * DAY_S + 7200)
    assert found.severity is Severity.PAGE
    used = 120 / ((29 * 1440 + 120) * 10 * 0.005)
    assert found.budget_left == pytest.approx(1 - used)
    assert found.gone_in_s == pytest.approx((1 - used) * 30 * DAY_S / 20, rel=1e-6)


@pytest.mark.parametrize(("total", "bad", "pages"), [(9, 9, False), (10, 2, False), (10, 3, True)])
def test_few_requests_are_no_rate_but_three_bad_of_ten_are(
    total: float, bad: float, pages: bool
) -> None:
    found = assess(UP, [Bucket(60.0, total, bad)], 120.0)
    assert (found.severity is Severity.PAGE) is pages


def test_a_target_that_allows_much_can_still_be_broken() -> None:
    """14.4 times 20 % would be 288 % of the requests."""
    loose = Objective(ObjectiveKind.TTFT, 0.8, 500.0)
    found = assess(loose, minutes(60, 10, lambda _: 9), 3600.0)
    assert found.severity is Severity.PAGE
    assert max(pair.factor for pair in pairs_of(loose)) == pytest.approx(4.0)


def test_windows_are_in_proportion_to_the_period() -> None:
    week = [
        (pair.long_s // 60, pair.short_s // 60)
        for pair in pairs_of(Objective(ObjectiveKind.AVAILABILITY, 0.99, period_days=7))
    ]
    assert week == [(14, 2), (84, 7), (336, 28), (1008, 84)]
    quarter = pairs_of(Objective(ObjectiveKind.AVAILABILITY, 0.99, period_days=90))
    assert [pair.long_s for pair in quarter] == [3 * pair.long_s for pair in pairs_of(UP)]


def test_money_burns_by_what_a_request_may_cost() -> None:
    cost = Objective(ObjectiveKind.COST, threshold=0.01)
    assert assess(cost, minutes(60, 10, lambda _: 0.1), 3600.0).severity is None
    spent = assess(cost, minutes(60, 10, lambda _: 0.5), 3600.0)
    assert spent.severity is Severity.PAGE
    assert spent.burns[0].long == pytest.approx(5.0)


def test_no_requests_are_no_verdict() -> None:
    found = assess(UP, [], 1e9)
    assert (found.severity, found.budget_left, found.gone_in_s) == (None, None, None)


@pytest.mark.parametrize(
    "buckets",
    [
        [Bucket(1.0, 1, 2)],
        [Bucket(1.0, math.nan, 0)],
        [Bucket(1.0, -1, 0)],
        [Bucket(math.inf, 1, 0)],
        [Bucket(2.0, 1, 0), Bucket(1.0, 1, 0)],
    ],
)
def test_counts_that_cannot_be_are_refused(buckets: list[Bucket]) -> None:
    with pytest.raises(InvalidInput, match=r"slos\.availability"):
        assess(UP, buckets, 10.0)


@pytest.mark.parametrize(
    "objective",
    [
        Objective(ObjectiveKind.AVAILABILITY, 1.0),
        Objective(ObjectiveKind.AVAILABILITY, math.nan),
        Objective(ObjectiveKind.TTFT, 0.95),
        Objective(ObjectiveKind.COST, threshold=math.inf),
        Objective(ObjectiveKind.AVAILABILITY, 0.99, period_days=1),
        Objective(ObjectiveKind.AVAILABILITY, 0.99, bad_min=0),
    ],
)
def test_a_promise_that_makes_no_sense_is_refused(objective: Objective) -> None:
    with pytest.raises(InvalidInput, match=r"slos\."):
        check_objective(objective)


counts = st.lists(
    st.integers(0, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=80
)


@given(counts, st.integers(0, 100))
def test_windows_count_what_ended_in_them(counted: list[tuple[int, int]], minute: int) -> None:
    """The sums are those of a plain loop, and one more bad request never makes it better."""
    buckets = [Bucket(60.0 * (i + 1), n, bad) for i, (n, bad) in enumerate(counted)]
    now = 60.0 * minute
    found = assess(UP, buckets, now)
    for burn in found.burns:
        inside = [b for b in buckets if now - burn.pair.long_s < b.end <= now]
        assert (burn.total, burn.bad) == (sum(b.total for b in inside), sum(b.bad for b in inside))
    worse = [Bucket(b.end, b.total, b.total) for b in buckets]
    after = assess(UP, worse, now)
    for burn, other in zip(found.burns, after.burns, strict=True):
        assert other.is_burning or not burn.is_burning
