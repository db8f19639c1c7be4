"""The monitors of bias are tested once a day, and find what they are to find."""

from __future__ import annotations

import threading

import pytest

from fairlead.control.bias import self_test
from fairlead.control.bias.self_test import DailySelfTest, pairs_self_test, tracking_self_test


async def test_a_monitor_is_tested_at_once_and_then_daily_also_after_a_clock_was_set_back() -> None:
    now, errors, threads = 5_000.0, ["blind", "", ""], set()

    def tested() -> str:
        threads.add(threading.current_thread())
        return errors.pop(0)

    daily = DailySelfTest(tested, lambda: now)
    assert (daily.tested_at, daily.error) == (None, "")
    await daily.run_if_due()
    assert (daily.tested_at, daily.error) == (5_000.0, "blind")
    now += 86_399.0
    await daily.run_if_due()
    assert (daily.tested_at, daily.error) == (5_000.0, "blind")
    now += 1.0
    await daily.run_if_due()
    assert (daily.tested_at, daily.error) == (91_400.0, "")
    now -= 1.0
    await daily.run_if_due()
    assert (daily.tested_at, errors) == (91_399.0, [])
    assert threading.current_thread() not in threads, "the loop goes on meanwhile"


def test_the_self_tests_pass_and_would_not_if_nothing_or_everything_were_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (pairs_self_test(), tracking_self_test()) == ("", "")
    monkeypatch.setattr(self_test, "LEVEL", 1e9)
    assert "not found" in pairs_self_test()
    assert "not found" in tracking_self_test()
    monkeypatch.setattr(self_test, "LEVEL", -1e9)
    assert "without one" in pairs_self_test()
    assert "and is not" in tracking_self_test()
