"""One Prometheus sees all of a running installation, by the configuration that the docs give.

It can answer every query of the dashboards: also those that only fail on real series, where a join
finds two of a kind.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fairlead.monitoring.dashboards import all_dashboards
from support.installation import Installation
from support.load import Load
from support.prometheus import MISSING, PROGRAM, RealPrometheus, documented_scrapes
from support.told_alerts import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(240),
    pytest.mark.skipif(PROGRAM is None, reason=MISSING),
]
SHOWN = {
    "Requests", "Answers by status", "Availability", "Whole answer", "Tokens", "Share of users",
    "Replicas", "Rollouts by state", "By state", "Missing", "Alerts firing", "Replicas ready",
    "Gateway workers", "Observer", "Store", "Open requests", "Memory", "Requests in work",
    "Written and taken in", "Behind", "A turn of the loop",
}  # fmt: skip
"""Panels that show something in any installation that is used."""


def panels() -> list[tuple[str, str]]:
    """Titles and queries of all panels, as Grafana asks them of this installation."""
    return [
        (panel.title, query.expr.replace("$__rate_interval", "1m").replace("$service", "banking"))
        for dashboard in all_dashboards()
        for row in dashboard.rows
        for panel in row.panels
        for query in panel.queries
    ]


async def test_a_prometheus_sees_gateway_control_observer_and_replicas(
    installation: Installation, questions: list[tuple[str, str]], tmp_path: Path
) -> None:
    shipped = installation.ship(installation.spec("a"))
    await asyncio.to_thread(installation.finish, shipped.id)
    server = RealPrometheus(tmp_path / "prometheus", documented_scrapes(installation))
    stop = asyncio.Event()
    load = Load(installation.gateway, installation.key, questions, 3.0, streamed=0.5)
    coming = asyncio.create_task(load.run(stop))
    try:
        for query in (
            'up{job="fairlead-gateway"} == 1',
            'up{job="fairlead-control"} == 1',
            'up{job="fairlead-replicas"} == 1',
            "fairlead_gateway_snapshot_version > 0",
            'fairlead_replicas{state="ready"} > 0',
            "fairlead_observer_up == 1",
            "fairlead_observer_archive_lag_seconds < 120",
            'fairlead_control_turns_total{outcome="done"} > 0',
            'fairlead_replica_requests_running{engine="llama.cpp",service="banking"} >= 0',
        ):
            await until(lambda query=query: bool(server.ask(query)), lambda query=query: query, 60)
        silent = set(SHOWN)

        def is_shown() -> bool:
            silent.difference_update(title for title, query in panels() if server.ask(query))
            return not silent

        assert {title for title, _ in panels()} >= SHOWN
        await until(is_shown, lambda: silent, 60)
    finally:
        stop.set()
        await coming
        server.stop()
