"""The manifest's `rollout`: strategy, steps, judgement and its error rates."""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import Field, field_validator, model_validator

from fairlead.manifest.conduct import (
    After,
    Freeze,
    Hold,
    Hook,
    Pin,
    Ramp,
    check_strategy,
    default_after,
)
from fairlead.manifest.live_metrics import WATCHED, LiveMetric, check_metrics
from fairlead.manifest.prometheus import Prometheus
from fairlead.manifest.risk import Risk
from fairlead.manifest.values import Share, Strict, shown, wrong


class Step(Strict):
    """One step: a share of the traffic, and the least that must be seen under it."""

    share: Share = Field(
        description="Share of the units (sessions, users or keys) that the canary gets."
    )
    requests: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Least number of canary units with a final outcome before the step may end.",
    )
    seconds: float = Field(
        default=30.0, ge=0, le=7_776_000, description="Least duration of the step."
    )
    approval: bool = Field(
        default=False,
        description="A person has to approve the step before it begins (fairlead rollout approve).",
    )

    @field_validator("share")
    @classmethod
    def _leaves_a_champion(cls, share: float) -> float:
        if not 0.0 < share < 1.0:
            raise wrong(
                "must be above 0% and below 100%: canary and champion are compared under the same "
                f"traffic; not {shown(share)}"
            )
        return share


class Shadow(Strict):
    """Copies of the champion's requests, before the release answers anyone."""

    share: Share = Field(description="Share of the requests that are copied to the release.")
    requests: int = Field(
        default=50,
        ge=1,
        le=1_000_000,
        description=(
            "Sessions, users or keys whose copies have an outcome after which the release goes on, "
            "unless they are evidence that it is worse."
        ),
    )
    seconds: float = Field(
        default=10.0,
        ge=0,
        le=7_776_000,
        description="Least time with copies, unless it is shown before not to be worse.",
    )
    timeout_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3_600,
        description=(
            "A copy that is not answered by then has failed; a live request that took longer "
            "counts alike. So long after it was sent, a copy's outcome is known."
        ),
    )

    @field_validator("share")
    @classmethod
    def _copies_something(cls, share: float) -> float:
        if share <= 0.0:
            raise wrong(f"must be above 0%, not {shown(share)}")
        return share


class Feedback(Strict):
    """Which feedback says whether an answer was good."""

    name: str = Field(
        min_length=1, max_length=64, description="Name of the feedback value that clients post."
    )
    good_at_least: float = Field(
        default=1.0, description="Values from here on count as good (true is 1, false is 0)."
    )
    required: bool = Field(
        default=False,
        description=(
            "No feedback within `settle_seconds` counts as bad, and nothing is promoted while more "
            "than half of the requests are without."
        ),
    )


def _default_steps() -> tuple[Step, ...]:
    return (Step(share=0.1), Step(share=0.5))


class Rollout(Strict):
    """How a release that passed its gates gets its traffic, and who judges it."""

    strategy: Literal["canary", "blue_green", "ab", "immediate"] = Field(
        default="canary",
        description=(
            "canary: a growing share, judged. blue_green: all replicas first, then all traffic at "
            "once, the old release warm beside it. ab: one share for a declared time, then the "
            "verdict. immediate: all traffic once the replicas are ready."
        ),
    )
    shadow: Shadow | None = Field(
        default=None,
        description=(
            "Before the first step the release gets copies of requests; its answers are recorded "
            "and thrown away. Worse answers than the live ones end the rollout before any client "
            "has met it."
        ),
    )
    steps: tuple[Step, ...] = Field(
        default_factory=_default_steps,
        strict=False,
        max_length=20,
        description=(
            "Steps in order, each with a larger share; after the last one the canary is promoted. "
            "An empty list promotes without a canary. If they are not given, they are chosen when "
            "the rollout begins, from replicas, traffic and deadline."
        ),
    )
    ramp: Ramp | None = Field(
        default=None,
        description=(
            "In the place of steps: the share grows by itself, as fast as the evidence allows "
            "within a budget of harm."
        ),
    )
    hold: Hold | None = Field(default=None, description="The comparison of strategy ab.")
    after: After | None = Field(
        default=None,
        description=(
            "What stays of the old release after all traffic has moved; with strategy blue_green "
            "10 minutes if it is not given."
        ),
    )
    conversations: Literal["move", "finish"] = Field(
        default="move",
        description=(
            "What becomes of sessions (`x-session-id`) on a release that is left, by a rollback or "
            "a promotion: they move at once with all others, or may finish there."
        ),
    )
    finish_minutes: float = Field(
        default=10.0, gt=0, le=1_440, description="How long they may, before they move, too."
    )
    approve_promotion: bool = Field(
        default=False, description="A person has to approve the move of all traffic."
    )
    approval_hours: float = Field(
        default=24.0,
        gt=0,
        le=2_000,
        description="What nobody approves, and hooks that do not answer, end the rollout by then.",
    )
    hooks: tuple[Hook, ...] = Field(
        default=(),
        strict=False,
        max_length=20,
        description="Webhooks that are told and may refuse.",
    )
    freeze: tuple[Freeze, ...] = Field(
        default=(),
        strict=False,
        max_length=50,
        description="Times in which no traffic moves to a new release.",
    )
    when_busy: Literal["refuse", "queue", "supersede"] = Field(
        default="refuse",
        description=(
            "What becomes of this rollout while another one of the service is under way: it is "
            "refused, it waits for its turn, or it ends the other one and comes next."
        ),
    )
    pin: tuple[Pin, ...] = Field(
        default=(),
        strict=False,
        max_length=20,
        description="Testers: who always gets one of the two releases, and is not counted.",
    )
    ready_minutes: float = Field(
        default=60.0,
        gt=0.02,
        le=129_600,
        description="Replicas that are not ready by then end the rollout.",
    )
    gates_hours: float = Field(
        default=24.0, gt=0.001, le=2_000, description="Gates without a verdict end it by then."
    )
    gateway_minutes: float = Field(
        default=5.0,
        gt=0.02,
        le=1_440,
        description="Gateway workers that do not take a split over by then end it.",
    )
    feedback: Feedback | None = Field(
        default=None,
        description="Feedback that counts as outcome; without it only server errors count.",
    )
    metrics: tuple[LiveMetric, ...] = Field(
        default=WATCHED,
        strict=False,
        max_length=20,
        description=(
            "What else live requests are judged by. If it is not given, a release whose ttft_ms or "
            "duration_ms is half as long again goes back; an empty list looks at failures alone."
        ),
    )
    warm_up_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description=(
            "Times, tokens and cost of units that come so soon after the first one of a step do "
            "not count, on both releases: new replicas have cold caches. Failures count at once."
        ),
    )
    risk: Risk | None = Field(
        default=None,
        description=(
            "Strata of risk, where requests differ much in how often they fail: a worse release is "
            "found with fewer of them. One that is worse for some of them alone may go back, too."
        ),
    )
    prometheus: Prometheus | None = Field(
        default=None,
        description="Queries of a Prometheus that a release has to stand besides its own records.",
    )
    settle_seconds: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="A unit's outcome is final so long after its first request.",
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        le=0.4,
        description="How much higher the canary's failure rate may be before it is rolled back.",
    )
    margin: float = Field(
        default=0.02,
        ge=0.0005,
        le=0.5,
        description="Promotion needs evidence that the failure rate is not higher by this much.",
    )
    alpha: float = Field(
        default=0.01,
        ge=1e-9,
        le=0.5,
        description="Probability of rolling back an equal canary.",
    )
    beta: float = Field(
        default=0.05,
        ge=1e-9,
        le=0.5,
        description="Probability of promoting a canary that is worse by the margin.",
    )
    deadline_minutes: float = Field(
        default=60.0, gt=0, le=129_600, description="Without a verdict by then, the champion stays."
    )
    expected_failure_rate: Share = Field(
        default=0.05,
        description=(
            "Failure rate to expect of the champion; a wrong one makes verdicts later, not wrong."
        ),
    )

    @field_validator("expected_failure_rate")
    @classmethod
    def _is_possible(cls, rate: float) -> float:
        if not 0.0 < rate < 1.0:
            raise wrong(f"must be above 0% and below 100%, not {shown(rate)}")
        return rate

    @model_validator(mode="after")
    def _parts_fit(self) -> Rollout:
        check_strategy(self.strategy, set(self.model_fields_set), dict(self))
        for index, (before, step) in enumerate(itertools.pairwise(self.steps), start=1):
            if step.share <= before.share:
                raise wrong(
                    "must be above the share of the step before", at=("steps", index, "share")
                )
        if self.margin <= self.tolerance:
            raise wrong(f"must be above the tolerance, {self.tolerance}", at=("margin",))
        is_moved_at_once = self.strategy in ("blue_green", "immediate")
        has_steps = bool(self.steps or self.ramp) and not is_moved_at_once
        check_metrics(self.metrics, self.margin, has_steps=has_steps)
        least = sum(step.seconds for step in self.steps) + self.settle_seconds
        canary = self.strategy == "canary" and not self.chooses_steps and self.ramp is None
        if canary and self.steps and self.deadline_minutes * 60 <= least:
            raise wrong(
                f"must be longer than the steps take at least: {least:g} seconds",
                at=("deadline_minutes",),
            )
        if self.shadow is not None:
            self._shadow_ends(self.shadow)
        return self

    def _shadow_ends(self, shadow: Shadow) -> None:
        for name in ("seconds", "timeout_seconds"):
            if getattr(shadow, name) >= self.deadline_minutes * 60:
                raise wrong("must be shorter than deadline_minutes", at=("shadow", name))

    @property
    def chooses_steps(self) -> bool:
        """Whether a canary's steps are left to whoever rolls it out."""
        named = "steps" in self.model_fields_set or self.ramp is not None
        return self.strategy == "canary" and not named

    @property
    def warm(self) -> After | None:
        """What stays of the old release after all traffic has moved."""
        return default_after(self.strategy, self.after)
