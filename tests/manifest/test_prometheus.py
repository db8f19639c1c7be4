"""The manifest's `rollout.prometheus`: mistakes with their place, and the plan that comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.cli.planning import plan_of
from fairlead.domain.errors import FairleadError
from fairlead.manifest import Manifest, parse_manifest
from fairlead.rollout import prometheus as asked
from fairlead.rollout.plan import Plan

GUARD = {"name": "load", "query": 'max(load{r="{{canary}}"})', "at_most": 0.9}
COUNT = {"name": "bad", "query": 'bad_total{r="{{release}}"}'}


def manifest(tmp_path: Path, **prometheus: Any) -> Manifest:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    text = yaml.safe_dump(
        {
            "service": "s",
            "release": {"model": "m.gguf"},
            "rollout": {"prometheus": {"url": "http://127.0.0.1:9090", **prometheus}},
        }
    )
    return parse_manifest(text, tmp_path / "fairlead.yaml")


def test_the_plan_says_what_the_manifest_says(tmp_path: Path) -> None:
    given = manifest(
        tmp_path,
        url="https://p.example/prom",
        token_file="/run/token",
        ca_file="/run/ca.pem",
        timeout_seconds=3,
        unreachable_minutes=2,
        guards=[{**GUARD, "at_least": 0.1, "every_seconds": 5, "failures": 2, "no_data": "fail"}],
        counts=[
            {
                **COUNT, "tolerance": 0.1, "margin": 0.5, "design_factor": 3, "every_seconds": 10,
                "lag_seconds": 20, "absent": "zero",
            }
        ],
    )  # fmt: skip
    assert plan_of(given).prometheus == asked.Prometheus(
        "https://p.example/prom", None, "/run/token", "/run/ca.pem", False, 3.0, 120.0,
        (asked.Guard("load", GUARD["query"], 0.9, 0.1, 5.0, 2, asked.NoData.FAIL),),
        (asked.Count("bad", COUNT["query"], 0.1, 0.5, 3.0, 10.0, 20.0, asked.Absent.ZERO),),
    )  # fmt: skip


def test_defaults_are_those_of_the_plan(tmp_path: Path) -> None:
    plan = plan_of(manifest(tmp_path, guards=[GUARD], counts=[COUNT]))
    assert plan.prometheus == asked.Prometheus(
        "http://127.0.0.1:9090",
        guards=(asked.Guard("load", GUARD["query"], 0.9),),
        counts=(asked.Count("bad", COUNT["query"]),),
    )
    assert Plan().prometheus is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "needs guards or counts"),
        ({"guards": [{**GUARD, "at_most": None}]}, "needs at_most or at_least"),
        ({"guards": [{**GUARD, "at_least": 1}]}, "at_least must not be above at_most"),
        ({"guards": [{**GUARD, "query": "{{canarry}}"}]}, "canarry"),
        ({"guards": [{**GUARD, "query": "{{release}}"}]}, "release"),
        ({"guards": [GUARD, GUARD]}, "a name of its own"),
        ({"guards": [{**GUARD, "at_mots": 1}]}, "at_most"),
        ({"counts": [{**COUNT, "query": "bad_total"}]}, "tell the arms apart"),
        ({"counts": [{**COUNT, "margin": 0.2}]}, "margin must be above the tolerance"),
        ({"counts": [{**COUNT, "design_factor": 0.5}]}, "design_factor"),
        ({"guards": [GUARD], "url": "ftp://h"}, "http"),
        ({"guards": [GUARD], "url": "http://u:topsecret@h"}, "credentials"),
        ({"guards": [GUARD], "url": "http://169.254.169.254"}, "host that cannot be used"),
        ({"guards": [GUARD], "url": "http://h:99999999"}, "url"),
        ({"guards": [GUARD], "url": "http://h", "token_env": "T"}, "unencrypted"),
        ({"guards": [GUARD], "token_env": "T", "token_file": "/t"}, "one place too many"),
    ],
)
def test_mistakes_are_said_with_their_place(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(FairleadError) as raised:
        manifest(tmp_path, **given)
    said = f"{raised.value.message} {raised.value.hint}"
    assert words in said
    assert "topsecret" not in said
