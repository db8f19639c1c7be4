"""Errors, format, refusals, length and quality: what is found, what is said, and when it ends."""

import random
from collections.abc import Sequence

import pytest

from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition
from fairlead.monitoring.monitors.answers import FormatMonitor, LengthMonitor, RefusalsMonitor
from fairlead.monitoring.monitors.errors import ErrorsMonitor
from fairlead.monitoring.monitors.exercise import Made, see
from fairlead.monitoring.monitors.interface import Monitor, SeenFeedback
from fairlead.monitoring.monitors.quality import FEEDBACK_NAMES_MAX, QualityMonitor
from fairlead.monitoring.monitors.settings import MonitorSettings

SMALL = MonitorSettings(learn=500)


class Clock:
    """A request each second, and an outcome drawn for each."""

    def __init__(self, seed: int = 1) -> None:
        self.now, self.dice = 1_000.0, random.Random(seed)

    def errors(
        self, monitor: Monitor, rates: Sequence[float], n: int, weights: Sequence[int] = ()
    ) -> None:
        """Requests of as many replicas as there are rates of failure."""
        for _ in range(n):
            self.now += 1.0
            k = self.dice.choices(range(len(rates)), weights or None)[0]
            failed = self.dice.random() < rates[k]
            see(monitor, Made(replica=f"r{k}", started_at=self.now), failed=failed)

    def answers(self, monitor: Monitor, field: str, rate: float, n: int) -> None:
        """Answers of which so many are refused, or malformed."""
        for _ in range(n):
            self.now += 1.0
            bad = int(self.dice.random() < rate)
            see(monitor, Made(started_at=self.now)._replace(**{field: bad}))

    def lengths(self, monitor: Monitor, factor: float, n: int) -> None:
        """Answers of 50 to 150 tokens times this."""
        for _ in range(n):
            self.now += 1.0
            tokens = int(factor * self.dice.randint(50, 150))
            see(monitor, Made(started_at=self.now, completion_tokens=tokens))

    def feedback(self, monitor: Monitor, name: str, bad: float, n: int) -> None:
        """Thumbs, so many of them down."""
        for _ in range(n):
            self.now += 1.0
            value = float(self.dice.random() >= bad)
            monitor.see_feedback(SeenFeedback(Made(), name, value, self.now))

    def said(self, monitor: Monitor) -> Condition:
        """The one thing that it says."""
        (found,) = monitor.conditions(self.now)
        return found


def figures(found: Condition) -> dict[str, float]:
    return {figure.name: figure.value for figure in found.evidence}


def test_failures_since_when_and_how_many() -> None:
    clock, monitor = Clock(), ErrorsMonitor("bank", "sha256:ab", SMALL)
    clock.errors(monitor, (0.01,), 2_000)
    assert monitor.conditions(clock.now) == []
    began = clock.now
    clock.errors(monitor, (0.3,), 300)
    found = clock.said(monitor)
    shown = figures(found)
    assert shown["at least (95%)"] <= 30.0 <= shown["at most (95%)"]
    assert shown["rate of the first requests"] < 3.0 < shown["rate since the change"]
    assert shown["it began about"] == pytest.approx((clock.now - began) / 60.0, abs=1.0)
    assert "of requests failed since about" in found.summary
    assert "replica" not in dict(found.labels)
    assert found.severity is Severity.PAGE


def test_a_small_rise_is_a_ticket_and_ends_when_it_is_over() -> None:
    clock, monitor = Clock(), ErrorsMonitor("bank", "sha256:ab", MonitorSettings(learn=5_000))
    clock.errors(monitor, (0.01,), 6_000)
    clock.errors(monitor, (0.06,), 2_000)
    assert clock.said(monitor).severity is Severity.TICKET
    clock.errors(monitor, (0.06,), 3_000)
    assert clock.said(monitor)
    clock.errors(monitor, (0.01,), 3_000)
    assert monitor.conditions(clock.now) == []


def test_the_replica_that_fails_is_named_until_the_end() -> None:
    clock, monitor = Clock(), ErrorsMonitor("bank", "sha256:ab", SMALL)
    clock.errors(monitor, (0.01, 0.01, 0.01), 1_500)
    clock.errors(monitor, (0.01, 0.9, 0.01), 300)
    found = clock.said(monitor)
    assert dict(found.labels)["replica"] == "r1"
    assert figures(found)["of the failures on replica r1"] > 60.0
    assert found.summary.endswith("% of the failures are on replica r1")
    clock.errors(monitor, (0.9, 0.9, 0.9), 300)
    assert clock.said(monitor).fingerprint == found.fingerprint


def test_a_replica_with_most_of_the_traffic_is_not_to_blame_for_its_share() -> None:
    clock, monitor = Clock(), ErrorsMonitor("bank", "sha256:ab", SMALL)
    clock.errors(monitor, (0.01, 0.01), 1_500, (7, 3))
    clock.errors(monitor, (0.5, 0.5), 300, (7, 3))
    assert "replica" not in dict(clock.said(monitor).labels)


def test_a_release_that_failed_from_the_start_has_nothing_to_get_worse() -> None:
    clock, monitor = Clock(), ErrorsMonitor("bank", "sha256:ab", SMALL)
    clock.errors(monitor, (1.0,), 1_000)
    assert "nothing to watch" in monitor.standing()
    assert monitor.conditions(clock.now) == []


def test_a_short_hiccup_is_no_alarm() -> None:
    """Ten requests fail in a row, once in a thousand."""
    clock, monitor = Clock(), ErrorsMonitor("bank", "sha256:ab", MonitorSettings())
    for _ in range(8):
        clock.errors(monitor, (0.003,), 1_000)
        clock.errors(monitor, (1.0,), 10)
        assert monitor.conditions(clock.now) == []


def test_broken_json_counts_where_json_was_asked_for() -> None:
    clock, monitor = Clock(), FormatMonitor("bank", "sha256:ab", SMALL)
    clock.answers(monitor, "malformed", 0.01, 1_000)
    for _ in range(5_000):
        see(monitor, Made())
    clock.answers(monitor, "malformed", 0.6, 150)
    found = clock.said(monitor)
    assert found.severity is Severity.PAGE
    assert "should be JSON are not" in found.summary
    clock.answers(monitor, "malformed", 0.01, 1_000)
    assert monitor.conditions(clock.now) == []


@pytest.mark.parametrize(
    ("before", "then", "direction", "severity"),
    [(0.05, 0.3, "more", Severity.TICKET), (0.3, 0.02, "fewer", Severity.INFO)],
)
def test_more_refusals_and_fewer_are_told_apart(
    before: float, then: float, direction: str, severity: Severity
) -> None:
    clock, monitor = Clock(), RefusalsMonitor("bank", "sha256:ab", SMALL)
    clock.answers(monitor, "refused", before, 1_500)
    assert monitor.conditions(clock.now) == []
    clock.answers(monitor, "refused", then, 600)
    found = clock.said(monitor)
    assert (dict(found.labels)["direction"], found.severity) == (direction, severity)
    clock.answers(monitor, "refused", before, 2_500)
    assert monitor.conditions(clock.now) == []


@pytest.mark.parametrize(("factor", "direction"), [(2.0, "longer"), (0.4, "shorter")])
def test_answers_that_become_long_or_short(factor: float, direction: str) -> None:
    clock, monitor = Clock(), LengthMonitor("bank", "sha256:ab", SMALL)
    clock.lengths(monitor, 1.0, 1_500)
    assert monitor.conditions(clock.now) == []
    clock.lengths(monitor, factor, 600)
    found = clock.said(monitor)
    assert (dict(found.labels)["direction"], found.severity) == (direction, Severity.TICKET)
    clock.lengths(monitor, 1.0, 2_500)
    assert monitor.conditions(clock.now) == []


def test_answers_as_long_as_may_be_can_only_become_shorter() -> None:
    """All are cut at the limit of tokens."""
    clock, monitor = Clock(), LengthMonitor("bank", "sha256:ab", SMALL)
    for _ in range(1_500):
        see(monitor, Made(completion_tokens=64))
    assert monitor.conditions(clock.now) == []
    clock.lengths(monitor, 0.3, 300)
    assert dict(clock.said(monitor).labels)["direction"] == "shorter"


def test_each_name_of_feedback_is_a_rate_of_its_own() -> None:
    clock, monitor = Clock(), QualityMonitor("bank", "sha256:ab", MonitorSettings())
    for name in ("thumbs", "judge"):
        clock.feedback(monitor, name, 0.1, 500)
    clock.feedback(monitor, "judge", 0.6, 200)
    found = clock.said(monitor)
    assert dict(found.labels)["feedback"] == "judge"
    assert found.severity is Severity.PAGE
    clock.feedback(monitor, "thumbs", 0.1, 500)
    clock.feedback(monitor, "judge", 0.1, 1_000)
    assert monitor.conditions(clock.now) == []


def test_values_that_are_no_grades_and_too_many_names_are_left_out() -> None:
    clock, monitor = Clock(), QualityMonitor("bank", "sha256:ab", SMALL)
    for value in (5.0, -1.0, float("nan"), float("inf")):
        monitor.see_feedback(SeenFeedback(Made(), "stars", value, 1.0))
    clock.feedback(monitor, "judge_none", 0.5, 10)
    assert monitor.standing() == "no feedback so far"
    for k in range(2 * FEEDBACK_NAMES_MAX):
        clock.feedback(monitor, f"name {k}", 0.1, 1)
    assert monitor.standing().count("learning") == FEEDBACK_NAMES_MAX
