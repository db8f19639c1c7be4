"""What a dashboard is made of, and its JSON as Grafana (10 and later) imports it.

Panels flow from left to right in the order in which they are written. Numbers and places follow
from that order, so the same dashboard is the same file each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 39
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Kind = Literal["timeseries", "stat"]
Unit = Literal["short", "reqps", "percentunit", "s", "bytes", "currencyUSD", "cps"]
"""As Grafana calls them; `cps` is counts per second."""


class Query(msgspec.Struct, frozen=True):
    """One PromQL expression, and how its series are called (`{{label}}`)."""

    expr: str
    legend: str = ""


class Panel(msgspec.Struct, frozen=True):
    """One graph or number.

    Attributes:
        words: What it shows, and what would be unusual; for who looks at it at night.
        width: Of 24 columns.
        at_least, at_most: Ends of the axis; None for as low, or as high, as the data.
    """

    title: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Kind = "timeseries"
    words: str = ""
    width: int = 8
    height: int = 8
    at_least: float | None = 0.0
    at_most: float | None = None
    stacked: bool = False


class Row(msgspec.Struct, frozen=True):
    """Panels under one title."""

    title: str
    panels: tuple[Panel, ...]


class Variable(msgspec.Struct, frozen=True):
    """What is chosen at the top: the values of a label of a metric.

    Attributes:
        several: Whether several values, or all, can be chosen.
    """

    name: str
    metric: str
    label: str
    several: bool = False


class Dashboard(msgspec.Struct, frozen=True):
    """One dashboard. `uid` is also its file's name."""

    uid: str
    title: str
    words: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()

    @property
    def queries(self) -> Iterator[Query]:
        """Those of all panels."""
        for row in self.rows:
            for panel in row.panels:
                yield from panel.queries


def as_json(dashboard: Dashboard) -> bytes:
    """The file that Grafana imports or provisions."""
    document = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.words,
        "tags": ["fairlead"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables)]},
        "panels": list(_panels(dashboard.rows)),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {},
    }


def _variable(variable: Variable) -> dict[str, Any]:
    query = f"label_values({variable.metric}, {variable.label})"
    return {
        "name": variable.name,
        "label": variable.name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "variable"},
        "definition": query,
        "hide": 0,
        "refresh": 2,
        "sort": 1,
        "multi": variable.several,
        "includeAll": variable.several,
        "allValue": ".*" if variable.several else None,
        "options": [],
        "current": {"text": "All", "value": "$__all"} if variable.several else {},
    }


def _panels(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number = top = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top += 1
        left = height = 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, height = top + height, 0, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.at_least is not None:
        defaults["min"] = panel.at_least
    if panel.at_most is not None:
        defaults["max"] = panel.at_most
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        fill = 20 if panel.stacked else 0
        defaults["custom"] = {"stacking": stacking, "fillOpacity": fill, "spanNulls": False}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.words,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": panel.kind == "timeseries",
                "instant": panel.kind == "stat",
            }
            for place, query in enumerate(panel.queries)
        ],
    }
