"""Dashboards hold what Grafana needs, and ask for nothing that no process says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from fairlead.control.metrics.exposition import Exposition
from fairlead.control.metrics.pulse import Pulse
from fairlead.control.metrics.replica_metrics import ReplicaMetrics
from fairlead.control.notify.courier import Courier
from fairlead.gateway.records.metric_families import FamilyState
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.monitoring.dashboards import Dashboard, all_dashboards, as_json
from fairlead.monitoring.dashboards.building import Panel, Query, Row
from fairlead.monitoring.desk import Desk
from fairlead.monitoring.prometheus_rules import Promises, rules_yaml
from fairlead.wire.observing import ObserverStanding
from monitoring.grafana_schema import problems
from monitoring.test_prometheus_rules import BOUNDS, UP, needs_promtool, promtool

DASHBOARDS = pytest.mark.parametrize("dashboard", all_dashboards(), ids=lambda each: each.uid)
NAME = re.compile(r"(?<![\w:\"$])(fairlead_\w+|gen_ai_\w+)")
RECORDED = re.compile(r'__name__=~"([^"]+)"')
VARIABLES = {"$__rate_interval": "5m", "$service": "bank"}


def series(families: Iterable[FamilyState]) -> dict[str, set[str]]:
    """Names of series, with their labels."""
    found: dict[str, set[str]] = {}
    for family in families:
        labels = {*family.labels, "job", "instance"}
        if family.kind == "histogram":
            found[f"{family.name}_bucket"] = labels | {"le"}
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = labels
        else:
            found[family.name] = labels
    return found


@pytest.fixture(scope="module")
def said() -> dict[str, set[str]]:
    """All that gateway and control say, with everything there is to be said."""
    nothing = SimpleNamespace(
        wants=list, replicas=list, queues=list, workers=list, watermark=lambda: 5.0,
        count_rollouts=dict,
    )  # fmt: skip
    parts = SimpleNamespace(
        store=nothing, overview=nothing, fleet=nothing, judging=nothing, hub=nothing
    )
    exposition = Exposition(cast(Any, parts), Pulse(lambda: 1.0), lambda: 10.0)
    exposition.desk = Desk
    standing = ObserverStanding(10.0, 1.0, archives=True, archived_until=4.0)
    exposition.observer = lambda: standing
    exposition.others.append(Courier({}, cast(Any, None)).states)
    control = asyncio.run(exposition.states())
    replicas = ReplicaMetrics(list, list, lambda: 1.0).states()
    return series([*GatewayMetrics().states(), *control, *replicas])


@DASHBOARDS
def test_every_metric_is_one_that_a_process_says(
    dashboard: Dashboard, said: dict[str, set[str]]
) -> None:
    asked = [name for query in dashboard.queries for name in NAME.findall(query.expr)]
    assert asked
    assert [name for name in asked if name not in said] == []
    for variable in dashboard.variables:
        assert variable.label in said[variable.metric]


@DASHBOARDS
def test_every_label_is_one_that_the_metrics_have(
    dashboard: Dashboard, said: dict[str, set[str]]
) -> None:
    """Of selectors, groupings and legends: a wrong one makes a graph that is empty, or one line."""
    for query in dashboard.queries:
        names = NAME.findall(query.expr)
        known = set().union(*(said[name] for name in names)) | {"__name__"}
        if not names:  # those of the recording rules
            known |= {"service", "slo"}
        used = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", query.legend))
        for group in re.findall(r"(?:by|on|group_left|ignoring) \(([^)]*)\)", query.expr):
            used |= {label.strip() for label in group.split(",")}
        used |= set(re.findall(r"(\w+)(?:=~|!=|=)\"", query.expr))
        assert used <= known, query


def test_a_metric_that_nobody_says_is_found(said: dict[str, set[str]]) -> None:
    assert NAME.findall("sum(rate(fairlead_no_such_total[5m]))") == ["fairlead_no_such_total"]
    assert "fairlead_no_such_total" not in said


def test_recorded_series_are_those_of_the_rules() -> None:
    rules = yaml.safe_load(rules_yaml([Promises("bank", (UP,))], BOUNDS))
    recorded = {rule.get("record", "") for group in rules["groups"] for rule in group["rules"]}
    patterns = [p for d in all_dashboards() for q in d.queries for p in RECORDED.findall(q.expr)]
    assert len(patterns) == 2
    for pattern in patterns:
        assert any(re.fullmatch(pattern, name) for name in recorded), pattern


@needs_promtool
@DASHBOARDS
def test_promtool_can_read_every_expression(dashboard: Dashboard, tmp_path: Path) -> None:
    rules = []
    for number, query in enumerate(dashboard.queries):
        expr = query.expr
        for name, given in VARIABLES.items():
            expr = expr.replace(name, given)
        assert "$" not in expr
        rules.append({"record": f"q{number}", "expr": expr})
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert "SUCCESS" in promtool("check", "rules", str(path))


@DASHBOARDS
def test_grafana_takes_it_as_it_is(dashboard: Dashboard) -> None:
    document = json.loads(as_json(dashboard))
    assert document["uid"] == dashboard.uid
    assert list(problems(document)) == []
    assert as_json(dashboard) == as_json(dashboard)


def changed(**panel: Any) -> dict[str, Any]:
    """A dashboard of one graph and one number, of which the graph has this in place of its own."""
    row = Row("one", (Panel("graph", (Query("up"),)), Panel("number", (Query("up"),), kind="stat")))
    document: dict[str, Any] = json.loads(as_json(Dashboard("u", "t", "w", (row,))))
    document["panels"][1] |= panel
    return document


def target(**given: Any) -> list[dict[str, Any]]:
    return [changed()["panels"][1]["targets"][0] | given]


@pytest.mark.parametrize(
    "panel",
    [
        {"id": 3},
        {"title": ""},
        {"titel": "misspelt"},
        {"type": "graph"},
        {"gridPos": {"x": 0, "y": 1, "w": 9, "h": 8}},
        {"gridPos": {"x": 20, "y": 30, "w": 8, "h": 8}},
        {"gridPos": {"x": 0, "y": 30, "w": 25, "h": 8}},
        {"datasource": {"type": "prometheus", "uid": "prometheus"}},
        {"fieldConfig": {"defaults": {"unit": "requests"}, "overrides": []}},
        {"options": {"reduceOptions": {"calcs": ["lastNotNull"]}}},
        {"targets": []},
        {"targets": target(expr="")},
        {"targets": target(expr='up{service="$servce"}')},
        {"targets": target(instant=True)},
        {"targets": [*target(), *target()]},
    ],
    ids=str,
)
def test_what_grafana_would_show_wrongly_is_found(panel: dict[str, Any]) -> None:
    assert list(problems(changed())) == []
    assert list(problems(changed(**panel)))


def test_a_budget_that_is_overspent_is_shown() -> None:
    """An axis that begins at 0 would hide what is below."""
    (service,) = [one for one in all_dashboards() if one.uid == "fairlead-service"]
    panels = {panel.title: panel for row in service.rows for panel in row.panels}
    assert panels["Budget left"].at_least is None
    document = json.loads(as_json(service))
    (shown,) = [one for one in document["panels"] if one["title"] == "Budget left"]
    assert "min" not in shown["fieldConfig"]["defaults"]


def test_uids_differ() -> None:
    uids = [dashboard.uid for dashboard in all_dashboards()]
    assert len(set(uids)) == len(uids)


def test_panels_flow_from_row_to_row() -> None:
    panels = tuple(Panel(str(n), (Query("up"),), width=10, height=5 + n) for n in range(3))
    made = Dashboard("u", "t", "w", (Row("one", panels), Row("two", panels[:1])))
    places = [panel["gridPos"] for panel in json.loads(as_json(made))["panels"]]
    assert [(p["x"], p["y"]) for p in places] == [(0, 0), (0, 1), (10, 1), (0, 7), (0, 14), (0, 15)]
