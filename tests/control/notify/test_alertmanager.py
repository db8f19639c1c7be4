"""From an alert of ours through a real Alertmanager to its webhook."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.notify.receiving import HttpReceiver
from control.notify.telling import condition
from fairlead.control.notify.courier import Courier
from fairlead.control.notify.sending import Sender
from fairlead.domain.receivers import Alertmanager
from fairlead.gateway.records.metrics import TOKEN_BUCKETS_S
from fairlead.gateway.records.tallies import DURATION_BUCKETS_S
from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.prometheus_rules import Bounds, Promises, rules_yaml
from fairlead.monitoring.telling import Message, Route, Told, messages
from support.alertmanager import MISSING, PROGRAM, RealAlertmanager
from support.metrics import PROMTOOL
from support.prometheus import MISSING as NO_PROMETHEUS
from support.prometheus import PROGRAM as PROMETHEUS
from support.prometheus import Exporter, RealPrometheus, scaled

UP = Objective(ObjectiveKind.AVAILABILITY, 0.995)
ROUTE = Route("am", wait_s=0.0, interval_s=0.0, repeat_s=60.0)


@pytest.mark.skipif(not os.environ.get("FAIRLEAD_REQUIRE_PROXIES"), reason="they need not be here")
def test_where_prometheus_and_alertmanager_have_to_be_here_they_are() -> None:
    """So that no test with them is skipped there."""
    assert None not in (PROGRAM, PROMETHEUS, PROMTOOL)


@pytest.fixture
def alertmanager(tmp_path: Path, http: HttpReceiver) -> Iterator[RealAlertmanager]:
    if PROGRAM is None:
        pytest.skip(MISSING)
    made = RealAlertmanager(tmp_path / "alertmanager", f"{http.url}/hook")
    yield made
    made.stop()


async def told(courier: Courier, message: Message) -> dict[str, Told]:
    assert courier.start(message)
    for _ in range(6_000):
        found = courier.arrived()
        if found:
            return found
        assert courier.conditions() == ()
        await asyncio.sleep(0.01)
    raise AssertionError("it does not arrive")


def hooked(http: HttpReceiver, status: str) -> dict[str, Any]:
    """The first call of the hook with this status, once it has come."""
    count = 0
    while True:
        count += 1
        call = http.wait_for(count)[count - 1]
        if call.json["status"] == status:
            body: dict[str, Any] = call.json
            return body


async def test_an_alert_and_its_end_go_through_a_real_alertmanager(
    alertmanager: RealAlertmanager, http: HttpReceiver
) -> None:
    receivers = {"am": Alertmanager(alertmanager.url)}
    courier = Courier(receivers, Sender({}))
    now = time.time()
    alerts: dict[str, Alert] = observe({}, [condition(keep_s=0.001)], {("slo", "bank")}, now)
    (begin,) = messages([ROUTE], alerts.values(), {}, now)
    known = await told(courier, begin)
    body = await asyncio.to_thread(hooked, http, "firing")
    (alert,) = body["alerts"]
    assert alert["labels"] == {
        "alertname": "FairleadSlo", "severity": "page", "monitor": "slo", "service": "bank",
        "slo": "availability",
    }  # fmt: skip
    assert alert["annotations"]["description"] == "burn rate over 1 h: 20 (limit 14.4)"
    assert body["groupLabels"] == {"alertname": "FairleadSlo", "service": "bank"}

    for later in (now + 0.001, now + 0.002):
        alerts = observe(alerts, [], {("slo", "bank")}, later)
    (end,) = messages([ROUTE], alerts.values(), known, now + 0.003)
    await told(courier, end)
    body = await asyncio.to_thread(hooked, http, "resolved")
    assert body["alerts"][0]["status"] == "resolved"
    await courier.close()


def test_the_generated_rules_fire_in_a_real_prometheus_and_reach_the_webhook(
    alertmanager: RealAlertmanager, http: HttpReceiver, tmp_path: Path
) -> None:
    """Prometheus scrapes no gateway: the alert on the watchers, an hour being a minute."""
    if PROMETHEUS is None:
        pytest.skip(NO_PROMETHEUS)
    text = rules_yaml([Promises("bank", (UP,))], Bounds(DURATION_BUCKETS_S, TOKEN_BUCKETS_S))
    exporter = Exporter()
    real = RealPrometheus(
        tmp_path / "prometheus",
        exporter,
        {"fairlead": scaled(text)},
        alertmanager.url.removeprefix("http://"),
    )
    try:
        body = hooked(http, "firing")
    finally:
        real.stop()
        exporter.close()
    (alert,) = body["alerts"]
    assert alert["labels"]["alertname"] == "FairleadGatewayBlind"
    assert alert["labels"]["severity"] == "page"
    assert alert["annotations"]["summary"] == "no gateway worker is scraped: no promise is watched"
