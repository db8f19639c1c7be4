"""The manifest's `rollout.risk`: mistakes with their place, and the plan that comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.cli.planning import plan_of
from fairlead.domain.errors import ManifestError
from fairlead.domain.strata import Strata
from fairlead.manifest import Manifest, load_manifest
from fairlead.rollout.forecast import forecast


def manifest(tmp_path: Path, **rollout: Any) -> Manifest:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    document = {"service": "bank", "release": {"model": "model.gguf"}, "rollout": rollout}
    path = tmp_path / "fairlead.yaml"
    path.write_text(yaml.safe_dump(document))
    return load_manifest(path)


def test_requests_are_told_apart_where_it_is_declared_and_else_not(tmp_path: Path) -> None:
    assert plan_of(manifest(tmp_path)).strata is None
    plan = plan_of(manifest(tmp_path, risk={"by": "size"}))
    assert plan.strata == Strata("size")
    plan = plan_of(manifest(tmp_path, risk={"by": "key", "values": ["batch", "web"]}))
    assert plan.strata == Strata("key", ("batch", "web"))
    notes = forecast(plan, None).notes
    assert any("told apart by their key: a release that is worse in one of 3" in n for n in notes)


@pytest.mark.parametrize(
    ("risk", "message"),
    [
        ({"by": "length"}, "rollout.risk.by"),
        ({"by": "header"}, "rollout.risk needs values with by: header"),
        ({"by": "size", "values": ["a"]}, "rollout.risk has values with by: size"),
        ({"by": "key", "values": ["a", "b", "a"]}, r"rollout.risk.values\[2\] is there twice"),
        ({"by": "key", "values": ["others"]}, r"values\[0\] is the name of another stratum"),
        (
            {"by": "header", "values": ["\u00e9"]},
            r"values\[0\] must be printable ASCII",
        ),
        ({"by": "key", "values": ["x" * 65]}, r"values\[0\] must have 1 to 64 characters"),
        ({"by": "header", "vales": ["a"]}, 'did you mean "values"'),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, risk: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        manifest(tmp_path, risk=risk)
