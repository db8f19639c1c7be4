"""What Grafana takes of a dashboard, as a JSON Schema: its classic model, and nothing besides.

Written by Grafana's documentation (https://grafana.com/docs/grafana/latest/dashboards/json-model/)
of what the generated dashboards use. A field that is misspelt, or whose value Grafana would pass
over without a word, does not fit. What a schema cannot say is in `problems`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

COLUMNS = 24
UNITS = (
    "none", "short", "percent", "percentunit", "sci", "locale", "bool", "currencyUSD",
    "currencyEUR", "bytes", "decbytes", "bits", "decbits", "binBps", "Bps", "bps", "hertz", "ns",
    "µs", "ms", "s", "m", "h", "d", "dtdurations", "dtdurationms", "dateTimeAsIso", "cps", "ops",
    "reqps", "rps", "wps", "iops", "eps", "mps", "cpm", "opm", "rpm",
)  # fmt: skip
"""Ids of units, of those that Grafana has by itself."""

CALCS = ("lastNotNull", "last", "mean", "min", "max", "sum", "range", "delta", "count")
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_PLACE: dict[str, Any] = {"type": "integer", "minimum": 0}


def closed(properties: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    """An object with these properties, all but the optional ones required, and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


DATASOURCE = closed({"type": {"const": "prometheus"}, "uid": {"const": "${datasource}"}})
GRID = closed(
    {
        "x": _PLACE | {"maximum": COLUMNS - 1}, "y": _PLACE,
        "w": {"type": "integer", "minimum": 1, "maximum": COLUMNS},
        "h": {"type": "integer", "minimum": 1},
    }
)  # fmt: skip
ROW = closed(
    {
        "id": _PLACE, "type": {"const": "row"}, "title": _TEXT, "collapsed": {"const": False},
        "panels": {"maxItems": 0}, "gridPos": GRID,
    }
)  # fmt: skip
TARGET = closed(
    {
        "refId": {"type": "string", "pattern": "^[A-Z]$"}, "datasource": DATASOURCE, "expr": _TEXT,
        "legendFormat": {"type": "string"}, "range": {"type": "boolean"},
        "instant": {"type": "boolean"},
    }
)  # fmt: skip
GRAPH_CUSTOM = closed(
    {
        "stacking": closed({"mode": {"enum": ["none", "normal", "percent"]}}),
        "fillOpacity": {"type": "integer", "minimum": 0, "maximum": 100},
        "spanNulls": {"type": "boolean"},
    }
)
GRAPH_OPTIONS = closed(
    {
        "legend": closed(
            {
                "displayMode": {"enum": ["list", "table", "hidden"]},
                "placement": {"enum": ["bottom", "right"]}, "showLegend": {"type": "boolean"},
            }
        ),
        "tooltip": closed(
            {
                "mode": {"enum": ["single", "multi", "none"]},
                "sort": {"enum": ["none", "asc", "desc"]},
            }
        ),
    }
)  # fmt: skip
NUMBER_OPTIONS = closed(
    {
        "reduceOptions": closed(
            {"calcs": {"type": "array", "items": {"enum": CALCS}, "minItems": 1, "maxItems": 1}}
        )
    }
)


def panel(
    kind: str, options: Mapping[str, Any], custom: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A panel of a kind."""
    defaults = {"unit": {"enum": UNITS}, "min": {"type": "number"}, "max": {"type": "number"}}
    shown = closed(defaults | ({"custom": custom} if custom else {}), "min", "max")
    return closed(
        {
            "id": _PLACE, "type": {"const": kind}, "title": _TEXT,
            "description": {"type": "string"}, "gridPos": GRID, "datasource": DATASOURCE,
            "fieldConfig": closed({"defaults": shown, "overrides": {"maxItems": 0}}),
            "options": options, "targets": {"type": "array", "items": TARGET, "minItems": 1},
        }
    )  # fmt: skip


_SHOWN = {
    "name": {"type": "string", "pattern": r"^\w+$"}, "label": _TEXT, "hide": {"enum": [0, 1, 2]},
    "refresh": {"enum": [0, 1, 2]}, "multi": {"type": "boolean"}, "includeAll": {"type": "boolean"},
    "options": {"maxItems": 0},
}  # fmt: skip
CHOICE_OF_SOURCE = closed(
    _SHOWN
    | {"type": {"const": "datasource"}, "query": {"const": "prometheus"}, "current": closed({})}
)
CHOICE = closed(
    _SHOWN
    | {
        "type": {"const": "query"}, "datasource": DATASOURCE, "definition": _TEXT,
        "query": closed({"query": _TEXT, "refId": _TEXT}),
        "sort": {"type": "integer", "minimum": 0, "maximum": 8},
        "allValue": {"type": ["string", "null"]},
        "current": {"anyOf": [closed({}), closed({"text": _TEXT, "value": {"const": "$__all"}})]},
    }
)  # fmt: skip
DASHBOARD = closed(
    {
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"}, "title": _TEXT,
        "description": _TEXT, "tags": {"type": "array", "items": _TEXT},
        "schemaVersion": {"type": "integer", "minimum": 36}, "version": _PLACE,
        "editable": {"type": "boolean"}, "graphTooltip": {"enum": [0, 1, 2]},
        "refresh": {"type": "string", "pattern": r"^\d+[smhd]$"},
        "time": closed(
            {"from": {"type": "string", "pattern": r"^now-\d+[smhdwMy]$"}, "to": {"const": "now"}}
        ),
        "timezone": {"enum": ["", "browser", "utc"]},
        "annotations": closed({"list": {"maxItems": 0}}), "links": {"maxItems": 0},
        "templating": closed(
            {
                "list": {
                    "type": "array", "prefixItems": [CHOICE_OF_SOURCE], "items": CHOICE,
                    "minItems": 1,
                }
            }
        ),
        "panels": {
            "type": "array",
            "items": {
                "oneOf": [
                    ROW,
                    panel("timeseries", GRAPH_OPTIONS, GRAPH_CUSTOM),
                    panel("stat", NUMBER_OPTIONS, None),
                ]
            },
            "minItems": 1,
        },
    }
)  # fmt: skip


def problems(document: dict[str, Any]) -> Iterator[str]:
    """All that is wrong with a dashboard."""
    for error in jsonschema.Draft202012Validator(DASHBOARD).iter_errors(document):
        yield f"{error.json_path}: {error.message[:200]}"
    panels = document["panels"]
    ids = [one["id"] for one in panels]
    if len(set(ids)) != len(ids):
        yield f"panels: an id is there twice: {ids}"
    for one in panels:
        if one["gridPos"]["x"] + one["gridPos"]["w"] > COLUMNS:
            yield f"panel {one['title']}: it does not end within {COLUMNS} columns"
        yield from _asks(one, {each["name"] for each in document["templating"]["list"]})
    for one, other in itertools.combinations(panels, 2):
        if _overlap(one["gridPos"], other["gridPos"]):
            yield f"panels {one['title']} and {other['title']} lie on each other"


def _asks(one: Mapping[str, Any], variables: set[str]) -> Iterator[str]:
    """What is wrong with a panel's queries."""
    targets = one.get("targets", [])
    names = [target["refId"] for target in targets]
    if len(set(names)) != len(names):
        yield f"panel {one['title']}: two queries are called alike: {names}"
    for target in targets:
        if target["range"] == target["instant"]:
            yield f"panel {one['title']}: a query is of a time or of now"
        for name in re.findall(r"\$\{?(\w+)", target["expr"]):
            if name not in variables | {"__rate_interval", "__range"}:
                yield f"panel {one['title']}: nobody chooses ${name}"


def _overlap(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    return (
        a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    )
