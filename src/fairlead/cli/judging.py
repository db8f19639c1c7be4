"""From the manifest's `capture` and `judge` to what control goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.domain.capture import Capture
from fairlead.domain.judging import JUDGED
from fairlead.domain.release import RemoteModel
from fairlead.evaluation.judge_model import Budget, JudgeModel
from fairlead.rollout.plan import FeedbackRule

if TYPE_CHECKING:
    from fairlead.manifest import Manifest
    from fairlead.manifest.judging import Judge
    from fairlead.manifest.live_metrics import LiveMetric


def capture_of(manifest: Manifest) -> Capture | None:
    """What is to be kept of prompts and answers."""
    given = manifest.capture
    if given is None:
        return None
    return Capture(
        share=given.share,
        prompts=given.prompts,
        answers=given.answers,
        bytes_max=given.size,
        retention_s=given.retention_hours * 3600,
        per_minute=given.per_minute,
        redact=given.redact,
        patterns=given.patterns,
    )


def judge_of(manifest: Manifest) -> JudgeModel | None:
    """The model that grades sampled answers."""
    given = manifest.judge
    if given is None:
        return None
    provider = None
    if given.model is not None:
        provider = RemoteModel(
            given.model.base_url, given.model.model, given.api_key_env, given.api_key_file
        )
    return JudgeModel(
        service=given.service,
        provider=provider,
        rubric=given.rubric,
        scale=given.scale,
        good_at_least=given.good_at_least,
        share=given.share,
        timeout_s=given.timeout_seconds,
        concurrency=given.concurrency,
        attempts=given.attempts,
        max_tokens=given.max_tokens,
        price=given.price.price if given.price else None,
        budget=Budget(**given.budget.model_dump()),
    )


def feedback_of(manifest: Manifest) -> FeedbackRule | None:
    """What a rollout is judged by besides errors: clients' feedback, else the judge model's."""
    feedback, judge = manifest.rollout.feedback, manifest.judge
    if judge is not None and (feedback is None or feedback.name == JUDGED):
        return FeedbackRule(JUDGED, judge.good_at_least, required=True, sampled=True)
    if feedback is None:
        return None
    return FeedbackRule(feedback.name, feedback.good_at_least, feedback.required)


def feedback_rule(metric: LiveMetric, judge: Judge | None) -> FeedbackRule | None:
    """What a metric of feedback goes by; the judge model's own scale if nothing else is said."""
    name, good_at_least = metric.feedback, metric.good_at_least
    if name is None:
        return None
    if name != JUDGED or judge is None:
        return FeedbackRule(name, good_at_least, metric.required)
    if "good_at_least" not in metric.model_fields_set:
        good_at_least = judge.good_at_least
    return FeedbackRule(name, good_at_least, metric.required, sampled=True)
