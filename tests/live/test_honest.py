"""Honest traffic comes as it is said to, and its report fails by one alert."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from fairlead.control.watching.watch_views import AlertView, MonitorView
from support.honest_traffic import Shape, arrivals, bursts, steady, wave

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.honest_report import Honest, markdown


def counted(shape: Shape, seconds: float, every_s: float) -> list[int]:
    """Arrivals in each stretch of time."""
    after, at, found = arrivals(shape, random.Random(1)), 0.0, Counter[int]()
    while (at := after(at)) < seconds:
        found[int(at // every_s)] += 1
    return [found[place] for place in range(int(seconds / every_s))]


def test_a_steady_stream_has_its_rate() -> None:
    assert sum(counted(steady(5.0), 2_000.0, 100.0)) == pytest.approx(10_000, rel=0.03)


def test_a_wave_rises_and_falls_with_its_period() -> None:
    quarters = counted(wave(1.0, 9.0, 4_000.0), 4_000.0, 1_000.0)
    assert quarters[0] == pytest.approx(quarters[1], rel=0.1)
    assert min(quarters[:2]) > 2 * max(quarters[2:])


def test_bursts_come_and_go_and_the_rate_of_a_time_is_the_same_again() -> None:
    shape = bursts(1.0, 20.0, 60.0, 15.0, seed=3)
    rates = [shape.rate(float(at)) for at in range(2_000)]
    assert set(rates) == {1.0, 20.0}
    assert 0.1 < rates.count(20.0) / len(rates) < 0.35
    assert shape.rate(1_990.0) == rates[1_990]
    assert max(counted(bursts(1.0, 20.0, 60.0, 15.0, seed=3), 2_000.0, 5.0)) > 50


SEEN = MonitorView("bank", "sha256:a", "errors", "watching 900 requests", 900, 0.0, 0.0, "", 0)


def report(**changes: object) -> Honest:
    made = Honest(600.0, {"bank": "waves"}, {"bank": 900}, {"bank": 0}, monitors=[SEEN])
    vars(made).update(changes)
    return made


def alert(summary: str) -> AlertView:
    return AlertView(
        "f1", "bank", "errors", {}, "ticket", "firing", summary, [], [], [], [], 0.0, 0.0, 0.0,
        0.0, None, 300.0, 0, None, None, "",
    )  # fmt: skip


def test_without_an_alert_the_report_says_what_was_looked_at() -> None:
    page = markdown(report(), "make soak-honest", 0.1)
    assert report().problems() == []
    assert "**Passed.**" in page
    assert "| bank | errors | 900 | watching 900 requests |" in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alerts": {"f1": (90.0, alert("30% failed"))}}, "an alert: 30% failed"),
        ({"failed": {"bank": 2}}, "bank: 2 requests without a whole answer"),
        ({"asked": {"bank": 0}}, "bank: nobody has asked it"),
        ({"monitors": ()}, "no monitor has looked"),
        ({"monitors": [MonitorView("bank", "a", "drift", "", 9, 0.0, 0.0, "broken", 0)]}, "broken"),
    ],
)
def test_whatever_is_wrong_fails_the_check(changes: dict[str, object], said: str) -> None:
    (problem,) = report(**changes).problems()
    assert said in problem
    page = markdown(report(**changes), "make soak-honest", 0.1)
    assert "**Not passed:**" in page
    if "alerts" in changes:
        assert "| 1.5 min | bank | errors | ticket | 30% failed |  |" in page
