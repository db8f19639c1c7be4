"""A monitor that cannot see is an alert, and never silence."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.monitoring.alerts import Condition, observe
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.watchers import Report, Watch, blind

WATCH = Watch("drift", "bank", every_s=60.0)
GOOD: dict[str, Any] = {
    "at": 10_000.0, "requests": 50, "looked_at": 50, "data_until": 9_990.0,
    "self_tested_at": 9_000.0,
}  # fmt: skip


def faults(now: float = 10_030.0, **fields: Any) -> list[str]:
    report = Report("drift", "bank", **{**GOOD, **fields})
    return [dict(one.labels)["fault"] for one in blind([WATCH], [report], 5_000.0, now)]


def test_one_that_sees_is_no_alert() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"looked_at": 0}, "no_data"),
        ({"data_until": 9_800.0}, "lag"),
        ({"error": "the embedding model does not load"}, "failed"),
        ({"self_test_error": "a shift of 50 % was not found"}, "self_test"),
        ({"now": 10_200.0}, "silent"),
        ({"self_tested_at": -170_000.0}, "untested"),
    ],
)
def test_each_way_not_to_see_has_its_name(fields: dict[str, Any], fault: str) -> None:
    assert faults(**fields) == [fault]


def test_one_that_never_reported_is_silent_after_a_grace() -> None:
    assert blind([WATCH], [], 5_000.0, 5_100.0) == ()
    (found,) = blind([WATCH], [], 5_000.0, 5_180.0)
    assert found.summary == "bank: monitor drift has not reported"
    assert found.evidence[0].words == "silent for: 180 s"


def test_no_traffic_is_nothing_to_see_and_no_blindness() -> None:
    assert faults(requests=0, looked_at=0, data_until=None) == []


def test_a_report_of_another_service_is_none() -> None:
    other = Report("drift", "shop", **GOOD)
    assert len(blind([WATCH], [other], 5_000.0, 10_030.0)) == 1


def test_it_is_an_alert_as_any_other() -> None:
    found: tuple[Condition, ...] = blind([WATCH], [], 5_000.0, 9_000.0)
    (alert,) = observe({}, found, {(BLIND, "bank")}, 9_000.0).values()
    assert alert.is_firing
    assert (alert.of["monitor"], alert.of["watched"]) == (BLIND, "drift")
