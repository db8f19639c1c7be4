"""A monitor that cannot see is an alert, and never silence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.watchers import Report, Watch, blind, graver

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


def test_one_that_could_not_look_names_the_service_that_it_needs() -> None:
    watch = msgspec.structs.replace(WATCH, needs="vectors")
    for one, is_unserved, needs in (
        (watch, True, "vectors"), (WATCH, True, None), (watch, False, None),
    ):  # fmt: skip
        given = {**GOOD, "error": "no vectors", "is_unserved": is_unserved}
        (found,) = blind([one], [Report("drift", "bank", **given)], 5_000.0, 10_030.0)
        assert dict(found.labels).get("needs") == needs


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


def test_blindness_to_what_could_be_a_page_is_one_after_a_while() -> None:
    """In whatever ways it does not see meanwhile; that it was not tested is a ticket for ever."""
    watch = Watch("slo", "bank", every_s=60.0, page_after_s=900.0)
    alerts, said = dict[str, Alert](), list[list[Severity]]()
    for minute in range(20):
        now = 10_000.0 + 60.0 * minute
        fault: dict[str, Any] = {"error": "no"} if minute % 2 else {"data_until": now - 500.0}
        reports = [
            Report("slo", "bank", now, 50, 50, self_tested_at=9_000.0, **fault),
            Report("drift", "bank", now, 50, 50, self_tested_at=9_000.0, error="no"),
        ]
        found = blind([watch, WATCH], reports, 5_000.0, now, alerts.values())
        alerts = observe(alerts, found, {(BLIND, "bank")}, now)
        said.append([one.severity for one in found])
    page, ticket = Severity.PAGE, Severity.TICKET
    assert said == [[ticket, ticket]] * 15 + [[page, ticket]] * 5
    late = Report("slo", "bank", now, error="no", self_tested_at=-170_000.0)
    found = blind([watch], [late], 5_000.0, now, alerts.values())
    told = {dict(one.labels)["fault"]: one.severity for one in found}
    assert told == {"failed": page, "untested": ticket}


@pytest.mark.parametrize(("service", "begins"), [("bank", "bank: monitor"), ("", "monitor ")])
def test_what_is_said_begins_with_whom_it_is_about(service: str, begins: str) -> None:
    watch = Watch("records", service, every_s=60.0)
    (found,) = blind([watch], [], 5_000.0, 10_000.0)
    assert found.summary.startswith(begins)


def test_of_others_that_are_blind_those_are_pages_after_a_while_that_could_page() -> None:
    def of(watched: str, fault: str = "failed") -> Condition:
        labels = labels_of(monitor=BLIND, watched=watched, fault=fault)
        return Condition(labels, Severity.TICKET, f"monitor {watched} could not look")

    page, ticket = Severity.PAGE, Severity.TICKET
    other = Condition(labels_of(monitor="gateway_down"), ticket, "fewer workers")
    given = (of("gateway_down"), of("gateway_down", "untested"), of("drill_failed"), other)
    alerts, said = dict[str, Alert](), list[list[Severity]]()
    for minute in (0, 14, 15, 16):
        now = 10_000.0 + 60.0 * minute
        found = list(graver(given, ("gateway_down",), 900.0, alerts.values(), now))
        alerts = observe(alerts, found, {(BLIND, ""), ("gateway_down", "")}, now)
        said.append([one.severity for one in found])
    assert said == [[ticket] * 4] * 2 + [[page, ticket, ticket, ticket]] * 2
    assert found[0].summary.endswith("what it would page for goes unseen")
