"""The manifest's `rollout.metrics`: what it says is what a plan can do, and mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from fairlead.cli.planning import plan_of
from fairlead.domain.errors import ManifestError
from fairlead.manifest import parse_manifest
from fairlead.manifest.live_metrics import AMOUNTS, BOTH_WAYS, SourceName
from fairlead.rollout.metrics import MetricKind
from fairlead.rollout.plan import Plan
from fairlead.rollout.sources import SOURCES


def plan(rollout: str, folder: Path) -> Plan:
    (folder / "m.gguf").touch()
    text = f"service: a\nrelease: {{model: m.gguf}}\nrollout: {rollout}\n"
    return plan_of(parse_manifest(text, folder / "fairlead.yaml"))


def test_the_sources_are_those_that_there_are() -> None:
    """In both rooms, with their kinds."""
    assert set(get_args(SourceName)) == set(SOURCES)
    amounts = {name for name, source in SOURCES.items() if source.kind is not MetricKind.BINARY}
    assert set(AMOUNTS) == amounts
    assert set(BOTH_WAYS) == {name for name, source in SOURCES.items() if source.both_ways}


def test_where_nothing_is_declared_latency_is_watched_and_not_needed(tmp_path: Path) -> None:
    """An empty list looks at failures alone."""
    found = plan("{}", tmp_path).metrics
    assert [(m.name, m.promotes, m.weight) for m in found] == [
        ("ttft_ms", False, 0.1),
        ("duration_ms", False, 0.1),
    ]
    assert plan("{metrics: []}", tmp_path).metrics == ()


def test_what_is_declared_is_what_is_judged(tmp_path: Path) -> None:
    """Percentages and numbers, defaults by the kind of metric, names of one's own."""
    ttft, refusal, thumbs, resolved = plan(
        "{margin: 0.03, metrics: [{source: ttft_ms, margin: 20%, tolerance: 0.1, weight: 2},"
        " {source: refusal, budget: 1%}, {feedback: thumbs, name: liked},"
        " {feedback: resolved, required: true, good_at_least: 0.5, margin: 5%}]}",
        tmp_path,
    ).metrics
    assert (ttft.margin, ttft.tolerance, ttft.weight, ttft.promotes) == (0.2, 0.1, 2.0, True)
    assert (refusal.margin, refusal.tolerance, refusal.budget) == (0.03, 0.0, 0.01)
    assert thumbs.name == "liked"
    assert thumbs.feedback is not None
    assert thumbs.feedback.name == "thumbs"
    assert resolved.feedback is not None
    assert resolved.feedback.required


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ("[{sorce: ttft_ms}]", 'did you mean "source"'),
        ("[{source: speed}]", "source"),
        ("[{source: cost, feedback: a}]", "one of source and feedback"),
        ("[{}]", "one of source and feedback"),
        ("[{source: cost}, {source: cost}]", "is taken"),
        ("[{source: cost, name: failed}]", "is taken"),
        ("[{source: cost, budget: 1%}]", "budget is for rates"),
        ("[{source: ttft_ms, worse: lower}]", "lower is for"),
        ("[{source: ttft_ms, required: true}]", "are for a feedback"),
        ("[{source: errors, margin: 10%, tolerance: 20%}]", "above the tolerance"),
        ("[{source: errors, margin: 60%}]", "between"),
        ("[{source: cost, margin: .nan}]", "between"),
        ("[{source: cost, margin: abc%}]", 'must be written as "25%" or 0.25, not "abc%"'),
        ("[{source: cost, weight: .inf}]", "weight"),
    ],
)
def test_a_mistake_is_told_with_its_place(metrics: str, said: str, tmp_path: Path) -> None:
    """As `file:line: what is wrong`."""
    with pytest.raises(ManifestError, match=said) as error:
        plan(f"{{metrics: {metrics}}}", tmp_path)
    assert "fairlead.yaml:3" in str(error.value)


def suited(metric: str, folder: Path, more: str = "") -> Plan:
    (folder / "m.gguf").touch()
    (folder / "cases.jsonl").write_text('{"input": "1", "expected": "1"}')
    text = (
        "service: a\nrelease: {model: m.gguf}\n"
        "gates: [{name: answers, suite: cases.jsonl, scorer: exact, minimum: 50%}]\n"
        f"rollout: {{margin: 0.04, metrics: [{metric}]{more}}}\n"
    )
    return plan_of(parse_manifest(text, folder / "fairlead.yaml"))


def test_a_suite_is_that_of_a_gate(tmp_path: Path) -> None:
    plan = suited("{source: suite, suite: answers, every_minutes: 30, cases: 20}", tmp_path)
    (suite,) = plan.suites
    assert plan.metrics == ()
    assert (suite.name, suite.gate, suite.cases, suite.every_s) == ("answers", "answers", 20, 1_800)
    assert (suite.margin, suite.tolerance, suite.promotes) == (0.04, 0.0, True)
    (suite,) = suited("{source: suite, suite: answers, name: again}", tmp_path).suites
    assert (suite.name, suite.every_s, suite.unanswered_s) == ("again", 0.0, 600.0)


@pytest.mark.parametrize("more", ["strategy: blue_green", "strategy: immediate", "steps: []"])
def test_a_suite_that_is_never_run_cannot_be_needed(more: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="a suite is run at the steps") as error:
        suited("{source: suite, suite: answers}", tmp_path, f", {more}")
    assert "fairlead.yaml:4" in str(error.value)
    watching = "{source: suite, suite: answers, needed_to_promote: false}"
    assert suited(watching, tmp_path, f", {more}").steps == ()


@pytest.mark.parametrize(
    "more",
    [
        "strategy: ab, hold: {share: 50%, requests: 100, hours: 1}",
        "ramp: {harm_budget: 20}",
    ],
)
def test_a_suite_can_be_needed_wherever_it_is_run(more: str, tmp_path: Path) -> None:
    assert suited("{source: suite, suite: answers}", tmp_path, f", {more}").steps


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("{source: suite}", "needs suite, the name of a gate"),
        ("{source: cost, suite: answers}", "suite that source"),
        ("{source: suite, suite: other}", r"must be the name of a gate \(answers\), not"),
        ("{source: cost, every_minutes: 5}", "are for source: suite"),
        ("{source: suite, suite: answers, weight: 2}", "are not for source: suite"),
        ("{source: suite, suite: answers, every_minutes: 0}", "every_minutes"),
    ],
)
def test_a_mistake_about_a_suite_is_told(metric: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=said):
        suited(metric, tmp_path)
