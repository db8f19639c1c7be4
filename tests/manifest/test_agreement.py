"""What the manifest lets through is what the other rooms take: rooms that do not import each other
must still mean the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from fairlead.domain.quota import Price as PriceOfDomain
from fairlead.domain.quota import Quota, check_quota
from fairlead.domain.release import RemoteModel
from fairlead.engines.llamacpp.settings import LlamaCppSettings as LlamaCppOfEngine
from fairlead.engines.remote import RemoteSettings as RemoteOfEngine
from fairlead.evaluation.scorers import Scorer
from fairlead.evaluation.suite import Columns
from fairlead.manifest import (
    LlamaCppSettings,
    LocalSource,
    RemoteSettings,
    RemoteSource,
    manifest_schema,
    parse_manifest,
)
from fairlead.manifest.models import Limits, Rollout
from fairlead.manifest.release import Price
from fairlead.registry.sources.address import HubAddress, LocalAddress, parse_address
from fairlead.rollout.plan import FeedbackRule, Plan, ShadowRule
from fairlead.rollout.plan import Step as StepOfPlan
from fairlead.wire.snapshot import Limits as LimitsOfGateway


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(LlamaCppSettings, LlamaCppOfEngine), (RemoteSettings, RemoteOfEngine)],
)
def test_engine_settings_have_the_names_defaults_and_bounds_of_the_engine(
    ours: type[BaseModel], theirs: Any
) -> None:
    properties = ours.model_json_schema()["properties"]
    declared = {field.name: field for field in dataclasses.fields(theirs)}
    assert set(properties) == set(declared)
    for name, field in declared.items():
        assert properties[name]["default"] == field.default, name
        if isinstance(field.default, int) and not isinstance(field.default, bool):
            assert properties[name]["minimum"] == field.metadata["least"], name
            assert properties[name]["maximum"] == field.metadata["most"], name


@pytest.mark.parametrize(
    "model",
    [
        "m.gguf",
        "hf://org/repo@main",
        "hf://org/repo@refs%2Fpr%2F1/q/m.gguf",
        "openai://api.example.org/v1?model=a%2Fb",
        "openai+http://127.0.0.1:8000/v1?model=m",
        "openai+http://[::1]:8000?model=m",
    ],
)
def test_every_model_of_a_manifest_is_an_address_of_the_registry(
    model: str, tmp_path: Path
) -> None:
    (tmp_path / "m.gguf").touch()
    text = f"service: a\nrelease:\n  model: '{model}'\n"
    release = parse_manifest(text, tmp_path / "fairlead.yaml").release
    address = parse_address(release.source_text)
    if isinstance(release.model, RemoteSource):
        assert isinstance(address, RemoteModel)
        assert (address.base_url, address.model) == (release.model.base_url, release.model.model)
    elif isinstance(release.model, LocalSource):
        assert address == LocalAddress(tmp_path / "m.gguf")
    else:
        assert isinstance(address, HubAddress)
        assert (address.repo, address.file) == (release.model.repo, release.model.file)


SCORERS = {
    "exact": "exact",
    "contains": "{kind: contains, ignore_case: true}",
    "regex": "{kind: regex, pattern: '^a+$'}",
    "json_schema": "{kind: json_schema, schema: {type: object}}",
    "json_field": "{kind: json_field, field: intent}",
    "numeric": "{kind: numeric, absolute: 0.5, relative: 0.01}",
}


@pytest.mark.parametrize("kind", SCORERS)
def test_every_scorer_of_a_manifest_is_one_of_the_evaluation(kind: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    (tmp_path / "s.csv").touch()
    text = (
        "service: a\nrelease: {model: m.gguf}\n"
        f"gates: [{{name: g, suite: s.csv, minimum: 1, scorer: {SCORERS[kind]}}}]\n"
    )
    (gate,) = parse_manifest(text, tmp_path / "fairlead.yaml").gates
    scorer = msgspec.convert(gate.scorer_document, Scorer)
    assert msgspec.to_builtins(scorer)["kind"] == kind
    assert {k: v for k, v in msgspec.to_builtins(scorer).items() if v is not None} == (
        gate.scorer_document
    )


def test_the_kinds_of_scorers_are_the_same_in_both_rooms() -> None:
    declared = {
        definition["properties"]["kind"]["const"]
        for name, definition in manifest_schema()["$defs"].items()
        if name.endswith("Scorer")
    }
    assert declared == set(SCORERS)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{steps: []}",
        "{steps: [{share: 0.001, requests: 1, seconds: 0}, {share: 99.9%, requests: 1000000}]}",
        "{tolerance: 0.4, margin: 0.5, settle_seconds: 86400, deadline_minutes: 129600}",
        "{alpha: 0.49, beta: 0.0001, margin: 0.0005, expected_failure_rate: 99%}",
        "{alpha: 1.0e-9, beta: 1.0e-9}",
        "{alpha: 0.5, beta: 0.5}",
        "{steps: [{share: 0.5, seconds: 7775000}], deadline_minutes: 129600}",
        "{feedback: {name: f, good_at_least: -1, required: true}}",
        "{shadow: {share: 100%}}",
        "{shadow: {share: 0.1%, requests: 1000000, seconds: 0, timeout_seconds: 0.1}}",
    ],
)
def test_every_rollout_of_a_manifest_is_a_plan(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    whole = f"service: a\nrelease: {{model: m.gguf}}\nrollout: {text}\n"
    rollout: Rollout = parse_manifest(whole, tmp_path / "fairlead.yaml").rollout
    feedback = rollout.feedback
    plan = Plan(
        steps=tuple(StepOfPlan(s.share, s.requests, s.seconds) for s in rollout.steps),
        settle_s=rollout.settle_seconds,
        feedback=feedback
        and FeedbackRule(feedback.name, feedback.good_at_least, feedback.required),
        tolerance=rollout.tolerance,
        margin=rollout.margin,
        alpha=rollout.alpha,
        beta=rollout.beta,
        deadline_s=rollout.deadline_minutes * 60,
        expected_failure_rate=rollout.expected_failure_rate,
        shadow=rollout.shadow
        and ShadowRule(
            rollout.shadow.share,
            rollout.shadow.requests,
            rollout.shadow.seconds,
            rollout.shadow.timeout_seconds,
        ),
    )
    assert len(plan.steps) == len(rollout.steps)


def test_columns_and_limits_have_the_same_defaults_in_both_rooms() -> None:
    schema = manifest_schema()["$defs"]["Columns"]["properties"]
    assert {name: part.get("default") for name, part in schema.items()} == (
        msgspec.to_builtins(Columns())
    )
    ours, theirs = Limits(), LimitsOfGateway()
    assert ours.queue == theirs.queue
    assert ours.queue_timeout_seconds == theirs.queue_timeout_s
    assert ours.request_timeout_seconds == theirs.request_timeout_s
    assert ours.body_bytes == theirs.body_bytes_max
    assert ours.attempts == theirs.attempts
    assert ours.attempt_timeout_seconds == theirs.attempt_timeout_s
    assert ours.hedge_after_ms == theirs.hedge_after_ms
    for name in Quota.__struct_fields__:
        assert getattr(ours, name) == getattr(theirs.quota, name)
        check_quota("", Quota(**{name: 1}))
    assert Price().model_dump() == msgspec.to_builtins(PriceOfDomain())
