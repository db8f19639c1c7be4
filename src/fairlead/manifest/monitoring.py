"""The manifest's `monitoring`: who is told of alerts, and what is done about them.

What is promised stands in `slos`; silences are no part of a manifest, since they pass.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from fairlead.domain.patterns import BadPattern, check_pattern
from fairlead.domain.verdicts import NEW_CASES_MIN
from fairlead.manifest.embeddings import Embeddings
from fairlead.manifest.judging import LiveJudge
from fairlead.manifest.monitor_names import Monitor
from fairlead.manifest.monitors import Monitors
from fairlead.manifest.receivers import Receiver, Url
from fairlead.manifest.values import Label, Share, Strict, shown, wrong

MATCHER = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_]{0,63}\s*(=~|!~|!=|=)(.{0,500})", re.DOTALL)
Severity = Literal["page", "ticket", "info"]


def _matcher(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = MATCHER.fullmatch(value)
    if match is None:
        raise wrong(f'must be like "slo=ttft", with =, !=, =~ or !~, not {shown(value)}')
    if match[1] in ("=~", "!~"):
        try:
            check_pattern(match[2].strip().strip('"'))
        except BadPattern as error:
            raise wrong(f"is no regular expression: {error}") from None
    return value


Matcher = Annotated[str, BeforeValidator(_matcher)]
LabelName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,63}$")]


class AlertRoute(Strict):
    """Which alerts go where."""

    name: Label = Field(description="What it is called, in messages and metrics.")
    to: Receiver = Field(description="Who is told.")
    severities: tuple[Severity, ...] = Field(
        default=(),
        strict=False,
        description="Severities that go there: page (now), ticket (in working hours), info; all "
        "if none is named.",
    )
    match: tuple[Matcher, ...] = Field(
        default=(),
        strict=False,
        max_length=20,
        description='Further conditions on labels, all of which must hold, such as "slo=ttft".',
    )
    group_by: tuple[LabelName, ...] = Field(
        default=("service", "monitor"),
        strict=False,
        max_length=10,
        description="Labels whose values a group has in common; a group is one message.",
    )
    wait_seconds: float = Field(
        default=30.0, ge=0, le=3_600, description="How long a new group waits for others to join."
    )
    interval_seconds: float = Field(
        default=300.0, ge=1, le=86_400, description="Least time between messages of one group."
    )
    repeat_hours: float = Field(
        default=4.0, ge=0.1, le=720, description="It is told again after so long, if it goes on."
    )
    resolved: bool = Field(default=True, description="Whether the end is told, too.")
    quotes: bool = Field(
        default=False,
        description="Whether messages quote prompts and answers where an alert does (drift, bias): "
        "a few of the sample, redacted and cut.",
    )


class Action(Strict):
    """What is done about an alert without anyone asking."""

    do: Literal[
        "roll_back",
        "pause_rollout",
        "fallback",
        "scale",
        "rerun_gate",
        "propose_retraining",
        "tighten_guardrail",
        "add_cases",
    ] = Field(
        description=(
            "roll_back: to the last good release. pause_rollout: no step and no promotion. "
            "fallback: the service's fallbacks answer, too. scale: more replicas. rerun_gate: the "
            "champion's gates again. propose_retraining: a note with what there is to learn from. "
            "tighten_guardrail: one that flags blocks. add_cases: prompts that drift shows become "
            "cases, which the champion is asked and graded on."
        )
    )
    monitors: tuple[Monitor, ...] = Field(
        strict=False,
        min_length=1,
        max_length=20,
        description="For alerts of these monitors, such as slo, latency, quality or drift.",
    )
    severities: tuple[Severity, ...] = Field(
        default=("page",), strict=False, min_length=1, description="And of these severities."
    )
    match: tuple[Matcher, ...] = Field(
        default=(), strict=False, max_length=20, description="Further conditions on labels."
    )
    cooldown_minutes: float = Field(
        default=60.0, ge=0, le=43_200, description="Not again before so much time has passed."
    )
    per_day: int = Field(default=3, ge=1, le=1_000, description="Not more often within 24 hours.")
    dry_run: bool = Field(
        default=False, description="It is only said what would have been done, in the audit."
    )
    replicas_more: int = Field(
        default=1, ge=1, le=256, description="For scale: how many more replicas."
    )

    guardrail: str | None = Field(
        default=None,
        max_length=40,
        description="For tighten_guardrail: which one; all that only flag if it is not given.",
    )
    within_hours: float = Field(
        default=6.0,
        ge=0.1,
        le=720,
        description="For roll_back: only if the release that serves had served for no longer than "
        "this before the alert. What begins later did not come with it.",
    )

    cases: int = Field(
        default=20,
        ge=1,
        le=100,
        json_schema_extra={"minimum": NEW_CASES_MIN},
        description="For add_cases: how many cases at most, and at least ten: fewer let no release "
        "pass.",
    )
    minimum: Share = Field(
        default=0.8,
        description="For add_cases: least mean score on the new cases, where a gate says none.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Action:
        only = (
            ("replicas_more", "scale"),
            ("within_hours", "roll_back"),
            ("guardrail", "tighten_guardrail"),
            ("cases", "add_cases"),
            ("minimum", "add_cases"),
        )
        for name, do in only:
            if name in self.model_fields_set and self.do != do:
                raise wrong(f'is only for "{do}"', at=(name,))
        if self.cases < NEW_CASES_MIN:
            why = f"must be at least {NEW_CASES_MIN}, not {self.cases}: fewer let no release pass"
            raise wrong(why, at=("cases",))
        return self


class Monitoring(Strict):
    """How the service is watched. Promises are watched without any of it."""

    least_requests: int = Field(
        default=10,
        ge=1,
        le=1_000_000,
        description="No alert on a promise by fewer requests than these in the longer window.",
    )
    least_bad: int = Field(
        default=3,
        ge=1,
        le=1_000_000,
        description="Nor by fewer bad ones: a single failure at night is no reason to get up.",
    )
    monitors: Monitors = Field(
        default=Monitors(), description="How the standing tests of live traffic are set."
    )
    judge: LiveJudge | None = Field(
        default=None,
        description="The judge model grades live answers outside rollouts, too; needs `judge`.",
    )
    embeddings: Embeddings | None = Field(
        default=None,
        description="The model by whose vectors drift is seen; needs `capture`. The table of word "
        "vectors, or spelling, if there is none.",
    )
    runbook: Url | None = Field(
        default=None, description="Page that says what to do; alerts link to it."
    )
    routes: tuple[AlertRoute, ...] = Field(
        default=(), strict=False, max_length=20, description="Who is told of which alerts."
    )
    actions: tuple[Action, ...] = Field(
        default=(), strict=False, max_length=20, description="What is done about which alerts."
    )

    @field_validator("actions")
    @classmethod
    def _actions_differ(cls, actions: tuple[Action, ...]) -> tuple[Action, ...]:
        """Their limits are counted by what they do, and their decisions told apart by it."""
        for index, action in enumerate(actions):
            for place, other in enumerate(actions[:index]):
                if other.do == action.do and set(other.monitors) == set(action.monitors):
                    why = f"does the same for the same monitors as actions[{place}]: make them one"
                    raise wrong(why, at=(index, "do"))
        return actions

    @field_validator("routes")
    @classmethod
    def _names_differ(cls, routes: tuple[AlertRoute, ...]) -> tuple[AlertRoute, ...]:
        for index, route in enumerate(routes):
            if route.name in [other.name for other in routes[:index]]:
                raise wrong(f'"{route.name}" is the name of an earlier route', at=(index, "name"))
        return routes
