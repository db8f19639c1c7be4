"""The manifest's `rollout`: steps, judgement and its error rates."""

from __future__ import annotations

import itertools

from pydantic import Field, field_validator, model_validator

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
        default=50, ge=1, le=1_000_000, description="Least number of copies with an outcome."
    )
    seconds: float = Field(
        default=10.0, ge=0, le=7_776_000, description="Least time with copies of requests."
    )
    failures_at_most: Share = Field(
        default=0.05,
        description="Share of the copies that may fail where the live request did not.",
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

    shadow: Shadow | None = Field(
        default=None,
        description=(
            "Before the first step the release gets copies of requests; its answers are recorded "
            "and thrown away. Too many failures end the rollout before any client has met it."
        ),
    )
    steps: tuple[Step, ...] = Field(
        default_factory=_default_steps,
        strict=False,
        max_length=20,
        description=(
            "Steps in order, each with a larger share; after the last one the canary is promoted. "
            "An empty list promotes without a canary."
        ),
    )
    feedback: Feedback | None = Field(
        default=None,
        description="Feedback that counts as outcome; without it only server errors count.",
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
        for index, (before, step) in enumerate(itertools.pairwise(self.steps), start=1):
            if step.share <= before.share:
                raise wrong(
                    "must be above the share of the step before", at=("steps", index, "share")
                )
        if self.margin <= self.tolerance:
            raise wrong(f"must be above the tolerance, {self.tolerance}", at=("margin",))
        least = sum(step.seconds for step in self.steps) + self.settle_seconds
        if self.steps and self.deadline_minutes * 60 <= least:
            raise wrong(
                f"must be longer than the steps take at least: {least:g} seconds",
                at=("deadline_minutes",),
            )
        if self.shadow is not None and self.shadow.seconds >= self.deadline_minutes * 60:
            raise wrong("must be shorter than deadline_minutes", at=("shadow", "seconds"))
        return self
