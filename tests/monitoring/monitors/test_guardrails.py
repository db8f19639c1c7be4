"""How often guardrails are hit: more and fewer are told apart; what is not guarded has no rate."""

from __future__ import annotations

import random

import pytest

from fairlead.monitoring.burning import Severity
from fairlead.monitoring.monitors.exercise import Made, see
from fairlead.monitoring.monitors.guardrails import GuardrailsMonitor
from fairlead.monitoring.monitors.settings import MonitorSettings

SMALL = MonitorSettings(learn=500)


class Traffic:
    """A request each second, of which a share hits a guardrail."""

    def __init__(self) -> None:
        self.monitor = GuardrailsMonitor("bank", "sha256:ab", SMALL)
        self.now, self.dice = 1_000.0, random.Random(2)

    def requests(self, rate: float, n: int) -> None:
        for _ in range(n):
            self.now += 1.0
            hits = int(self.dice.random() < rate)
            see(self.monitor, Made(started_at=self.now, guardrail_hits=hits))


@pytest.mark.parametrize(
    ("before", "then", "direction", "severity"),
    [
        (0.02, 0.2, "more", Severity.TICKET),
        (0.02, 0.9, "more", Severity.PAGE),
        (0.3, 0.02, "fewer", Severity.INFO),
    ],
)
def test_more_hits_and_fewer_are_told_apart_until_they_are_over(
    before: float, then: float, direction: str, severity: Severity
) -> None:
    traffic = Traffic()
    traffic.requests(before, 2_000)
    assert traffic.monitor.conditions(traffic.now) == []
    traffic.requests(then, 600)
    [found] = traffic.monitor.conditions(traffic.now)
    assert (dict(found.labels)["direction"], found.severity) == (direction, severity)
    assert "of requests hit a guardrail" in found.summary
    traffic.requests(before, 2_500)
    assert traffic.monitor.conditions(traffic.now) == []


def test_requests_without_guardrails_are_no_rate() -> None:
    """It goes on learning, and says nothing."""
    traffic = Traffic()
    for number in range(5_000):
        see(traffic.monitor, Made(started_at=float(number)))
    assert traffic.monitor.conditions(5_000.0) == []
    assert "0 of 500" in traffic.monitor.standing()


def test_the_first_hits_ever_are_seen() -> None:
    """A release that hit none in its first requests."""
    traffic = Traffic()
    traffic.requests(0.0, 2_000)
    traffic.requests(0.1, 400)
    [found] = traffic.monitor.conditions(traffic.now)
    assert dict(found.labels)["direction"] == "more"


def test_it_finds_a_fault_of_its_own_making() -> None:
    assert Traffic().monitor.self_test() == ""
