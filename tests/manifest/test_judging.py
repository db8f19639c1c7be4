"""`capture` and `judge` in a manifest, and what control is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.cli.judging import capture_of, feedback_of, judge_of
from fairlead.cli.watching import declared_of
from fairlead.domain.capture import Capture, check_capture
from fairlead.domain.errors import ManifestError
from fairlead.domain.quota import Price
from fairlead.domain.release import RemoteModel
from fairlead.evaluation.judge_model import check_judge
from fairlead.manifest import Manifest, parse_manifest
from fairlead.monitoring.live_judging import JudgeSample
from fairlead.rollout.plan import FeedbackRule

RELEASE = "service: bank\nrelease: {model: 'openai://h/v1?model=m', name: x}\n"
CAPTURE = "capture: {share: 20%}\n"
JUDGE = "judge: {model: 'openai+http://127.0.0.1:9/v1?model=g'}\n"


def manifest(text: str) -> Manifest:
    return parse_manifest(RELEASE + text, Path("fairlead.yaml"))


def test_nothing_is_kept_unless_it_is_declared() -> None:
    assert capture_of(manifest("")) is None
    assert judge_of(manifest("")) is None


def test_what_is_declared_arrives() -> None:
    made = manifest(
        "capture: {share: 5%, size: 8KiB, retention_hours: 1, per_minute: 9, prompts: true,\n"
        "          redact: [email], patterns: ['KD-\\d+']}\n"
        "judge: {service: grader, scale: [0, 10], good_at_least: 7, share: 0.5,\n"
        "        rubric: be strict,\n"
        "        price: {input_per_million: 1}, budget: {usd_per_day: 2, per_day: null}}\n"
    )
    capture, judge = capture_of(made), judge_of(made)
    assert capture == Capture(
        0.05, bytes_max=8192, retention_s=3600.0, per_minute=9, redact=("email",),
        patterns=("KD-\\d+",),
    )  # fmt: skip
    assert capture is not None
    check_capture(capture)
    assert judge is not None
    check_judge(judge, "bank")
    assert (judge.service, judge.scale, judge.good_at_least) == ("grader", (0, 10), 7)
    assert (judge.rubric, judge.price) == ("be strict", Price(1.0, 0.0))
    assert (judge.budget.usd_per_day, judge.budget.per_day) == (2, None)
    assert feedback_of(made) == FeedbackRule("judge", 7, required=True, sampled=True)


def test_clients_feedback_decides_where_it_is_declared() -> None:
    made = manifest(CAPTURE + JUDGE + "rollout: {feedback: {name: success}}\n")
    assert feedback_of(made) == FeedbackRule("success", 1.0, required=False)
    judge = judge_of(made)
    assert judge is not None
    assert judge.provider == RemoteModel("http://127.0.0.1:9/v1", "g")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("capture: {share: 0}", "must be above 0%"),
        ("capture: {share: 1, prompts: false, answers: false}", "keeps neither"),
        ("capture: {share: 1, patterns: ['(']}", "is not a regular expression"),
        ("capture: {share: 1, redact: [emails]}", "email"),
        ("capture: {share: 1, size: 1GiB}", "65536"),
        ("capture: {shares: 1}", "did you mean"),
        (JUDGE, "grades what `capture` keeps"),
        ("capture: {share: 1, prompts: false}\n" + JUDGE, "grades what `capture` keeps"),
        (CAPTURE + "judge: {service: bank}", "is this service itself"),
        (CAPTURE + "judge: {}", "needs either a service or a model"),
        (CAPTURE + "judge: {model: model.gguf}", "openai://host/v1"),
        (CAPTURE + "judge: {service: g, scale: [5, 1]}", "must rise"),
        (CAPTURE + "judge: {service: g, good_at_least: 9}", "must be on the scale"),
        (CAPTURE + "judge: {service: g, budget: {usd_per_day: 1}}", "needs judge.price"),
        (CAPTURE + "judge: {service: g, api_key_env: KEY}", "has a provider's key, but no model"),
        ("monitoring: {judge: {}}", "needs `judge`"),
        (CAPTURE + JUDGE + "monitoring: {judge: {share: 0}}", "must be above 0%"),
        (CAPTURE + JUDGE + "monitoring: {judge: {usd_per_day: 1}}", "needs judge.price"),
        ("rollout: {feedback: {name: judge}}", "is what a judge model says"),
    ],
)
def test_mistakes_are_told(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifest(text + "\n")
    assert said in str(caught.value)


def test_what_of_live_traffic_is_judged() -> None:
    declared = declared_of(manifest(CAPTURE + JUDGE + "monitoring: {judge: {share: 20%}}\n"))
    assert declared.judge == JudgeSample(share=0.2, per_day=1_000)
    assert declared_of(manifest(CAPTURE + JUDGE)).judge is None
