"""Windows begin and end where the calendar says, and money is counted exactly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.domain.quota import (
    NO_QUOTA,
    PICO,
    Measure,
    Period,
    Price,
    Quota,
    changed,
    check_price,
    check_quota,
    limits_of,
    share_of,
    window_of,
)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        (Period.MINUTE, "2026-11-25T18:00:59.999", "2026-11-25T18:00", "2026-11-25T18:01"),
        (Period.MINUTE, "2026-11-25T18:01:00", "2026-11-25T18:01", "2026-11-25T18:02"),
        (Period.DAY, "2026-11-25T23:59:59.999", "2026-11-25", "2026-11-26"),
        (Period.DAY, "2026-11-26T00:00", "2026-11-26", "2026-11-27"),
        (Period.MONTH, "2026-11-30T23:59:59.999", "2026-11-01", "2026-12-01"),
        (Period.MONTH, "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        (Period.MONTH, "2028-02-29T12:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_a_window_is_the_calendars(period: Period, moment: str, start: str, end: str) -> None:
    assert window_of(period, at(moment)) == (at(start), at(end))


@given(st.sampled_from(Period), st.floats(0, 4e9))
def test_every_moment_is_in_its_window_and_the_next_one_begins_where_it_ends(
    period: Period, moment: float
) -> None:
    start, end = window_of(period, moment)
    assert start <= moment < end
    assert window_of(period, float(end))[0] == end
    assert window_of(period, float(start)) == (start, end)


@given(st.integers(0, 10**18), st.integers(1, 64))
def test_the_fair_shares_add_up_to_the_limit(amount: int, workers: int) -> None:
    shares = [share_of(amount, workers, number) for number in range(workers)]
    assert sum(shares) == amount
    assert max(shares) - min(shares) <= 1
    assert share_of(amount, workers, workers) == 0


def test_money_is_exact_in_picodollars() -> None:
    price = Price(0.15, 0.6)
    assert price.cost(1_000_000, 1_000_000) == 750_000_000_000
    assert sum(price.cost(1, 0) for _ in range(1000)) == price.cost(1000, 0)
    (limit,) = limits_of(Quota(usd_per_month=0.1), "key", "k")
    assert (limit.amount, limit.measure) == (PICO // 10, Measure.USD)


def test_each_measure_has_a_limit_for_each_period() -> None:
    quota = Quota(**dict.fromkeys(Quota.__struct_fields__, 5))
    kinds = [(limit.measure, limit.period) for limit in limits_of(quota, "key", "k")]
    assert kinds == [(measure, period) for measure in Measure for period in Period]
    assert Quota(usd_per_minute=1.0).has_budget
    assert not Quota(requests_per_month=1, tokens_per_month=1).has_budget


def test_limits_are_named_by_whose_they_are() -> None:
    quota = Quota(**dict.fromkeys(Quota.__struct_fields__, 5))
    assert [limit.id for limit in limits_of(quota, "tenant", "acme")] == [
        f"tenant:acme:{name}" for name in Quota.__struct_fields__
    ]
    assert limits_of(NO_QUOTA, "key", "k") == ()


def test_a_change_leaves_what_it_does_not_name_and_0_takes_a_limit_away() -> None:
    before = Quota(requests_per_minute=5, usd_per_day=1.0)
    assert changed(before, Quota(tokens_per_day=7)) == Quota(
        requests_per_minute=5, tokens_per_day=7, usd_per_day=1.0
    )
    assert changed(before, Quota(requests_per_minute=0)) == Quota(usd_per_day=1.0)


@pytest.mark.parametrize(
    "quota",
    [
        Quota(requests_per_minute=-1),
        Quota(requests_per_minute=0),
        Quota(usd_per_day=1e7),
        Quota(requests_per_month=10**16),
    ],
)
def test_what_cannot_be_a_limit_is_refused_with_its_place(quota: Quota) -> None:
    with pytest.raises(InvalidInput, match=r"limits\.\w+_per_"):
        check_quota("limits.", quota)


def test_a_price_below_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"price\.output_per_million"):
        check_price("price.", Price(1.0, -1.0))
