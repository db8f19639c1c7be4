"""How many retries there are, and how long one waits. Pure, on simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.limits import (
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    RETRIES_QUIET_MIN,
    RETRIES_QUIET_S,
    RETRIES_SAVED_MAX,
    RETRY_SHARE,
)
from fairlead.gateway.replicas.retry_budget import RetryBudget, backoff_s


def spent(budget: RetryBudget, now: float, at_most: int = 10_000) -> int:
    """How many retries can be had now."""
    count = 0
    while count < at_most and budget.spend(now):
        count += 1
    return count


@given(st.integers(0, 3000))
def test_retries_add_a_fifth_of_load_beside_the_few_of_a_quiet_service(requests: int) -> None:
    budget = RetryBudget(0.0)
    failed = 0
    for _ in range(requests):
        budget.earn()
        failed += budget.spend(0.0)
    assert failed <= RETRIES_QUIET_MIN + RETRY_SHARE * requests + 1e-6
    assert failed >= min(requests, RETRIES_QUIET_MIN + int(RETRY_SHARE * requests) - 1)


def test_what_is_kept_for_a_death_is_not_spare() -> None:
    budget = RetryBudget(0.0, slots=8)
    taken = 0
    while budget.has_spare(0.0):
        assert budget.spend(0.0)
        taken += 1
    assert taken == 4
    for _ in range(4):
        assert budget.spend(0.0)
    assert not budget.spend(0.0)
    assert not budget.has_spare(0.1)
    assert budget.has_spare(2.0 * RETRIES_QUIET_S), "it grows back, asked for or not"


def test_what_is_saved_has_a_bound() -> None:
    budget = RetryBudget(0.0)
    for _ in range(100_000):
        budget.earn()
    assert spent(budget, 0.0) == pytest.approx(RETRIES_SAVED_MAX, abs=1)


def test_a_quiet_service_has_its_few_again_after_a_while() -> None:
    budget = RetryBudget(0.0)
    assert spent(budget, 0.0) == RETRIES_QUIET_MIN
    assert spent(budget, RETRIES_QUIET_S / RETRIES_QUIET_MIN + 0.001) == 1
    assert spent(budget, 1000 * RETRIES_QUIET_S) == RETRIES_QUIET_MIN


@pytest.mark.parametrize("slots", [1, 8, 400])
def test_the_death_of_one_full_replica_is_always_made_good(slots: int) -> None:
    budget = RetryBudget(0.0, slots)
    assert spent(budget, 0.0) >= slots
    assert spent(budget, RETRIES_QUIET_S + 1) >= slots


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_a_back_off_is_jittered_and_bounded(retries: int, drawn: float) -> None:
    longest = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** (retries - 1))
    assert longest / 2 <= backoff_s(retries, lambda: drawn) <= longest
