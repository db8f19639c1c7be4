"""The manifest's `probes`: for providers alone, with all that a change of theirs needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.cli.shipping import prepare
from fairlead.domain.errors import FairleadError, InvalidInput
from fairlead.evaluation.cases import Suite
from fairlead.manifest.loading import parse_manifest
from fairlead.registry import Registry

REMOTE = (
    "service: a\nrelease: {name: m, model: 'openai://api.example.com/v1?model=m'PRICE}\nPROBES\n"
)
SUITE = "input,expected\nsay 1,1\nsay 2,2\nsay 3,\n"


def written(tmp_path: Path, probes: str, price: str = "", more: str = "") -> Path:
    (tmp_path / "probes.csv").write_text(SUITE)
    text = REMOTE.replace("PRICE", price).replace("PROBES", f"probes: {probes}\n{more}")
    path = tmp_path / "fairlead.yaml"
    path.write_text(text)
    return path


def test_probes_become_a_pinned_suite_and_a_rule(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "{suite: probes.csv, scorer: exact, requests: 2, interval_minutes: 5, usd_per_day: 1,"
        " temperature: null, on_change: fallback}",
        ", price: {input_per_million: 1}",
        "fallbacks: [b]",
    )
    registry = Registry(tmp_path / "registry")
    with pytest.raises(InvalidInput, match="expected"):
        prepare(registry, parse_manifest(path.read_text(), path))
    (tmp_path / "probes.csv").write_text(SUITE.replace("say 3,", "say 3,3"))
    spec = prepare(registry, parse_manifest(path.read_text(), path))
    assert spec.probes is not None
    rule = spec.probes.rule
    assert (rule.cases, rule.interval_s, rule.temperature, rule.seed) == (2, 300.0, None, 1)
    assert (rule.usd_per_day, rule.on_change) == (1.0, "fallback")
    assert len(Suite.from_bytes(registry.read_blob(rule.suite)).cases) == 2
    assert prepare(registry, parse_manifest(path.read_text(), path)).probes == spec.probes


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ("{suite: probes.csv, on_change: fallback}", "fallbacks"),
        ("{suite: probes.csv, usd_per_day: 1}", "release.price"),
        ("{suite: probes.csv, interval: 5}", "interval_minutes"),
        ("{suite: probes.csv, webhooks: ['ftp://x']}", "http"),
        ("{suite: probes.csv, webhooks: ['http://u:pw@x']}", "without a user in it"),
        ("{suite: probes.csv, webhooks: ['http://169.254.169.254']}", "must not lead there"),
        ("{suite: probes.csv, requests: 0}", "requests"),
        ("{suite: missing.csv}", "missing.csv"),
    ],
)
def test_mistakes_say_what_to_do(tmp_path: Path, probes: str, said: str) -> None:
    path = written(tmp_path, probes)
    with pytest.raises(FairleadError) as caught:
        parse_manifest(path.read_text(), path)
    assert said in str(caught.value)


def test_weights_do_not_change_and_are_not_probed(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    (tmp_path / "probes.csv").write_text(SUITE)
    text = "service: a\nrelease: {model: m.gguf}\nprobes: {suite: probes.csv}\n"
    with pytest.raises(FairleadError, match="openai://"):
        parse_manifest(text, tmp_path / "fairlead.yaml")
