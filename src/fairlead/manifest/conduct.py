"""Who is told and asked of a rollout, when it may move, and whom it is shown to first."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from fairlead.manifest.receivers import Url
from fairlead.manifest.values import Share, Strict, parse_share, shown, wrong

DAY_MINUTES = 24 * 60
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")


def parse_time(value: object) -> int:
    """Minutes since midnight, from text like `18:30`."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    minutes = int(match[1]) * 60 + int(match[2]) if match else DAY_MINUTES + 1
    if minutes > DAY_MINUTES:
        raise wrong(f'must be a time such as "18:30", in quotes, not {shown(value)}')
    return minutes


def parse_moment(value: object) -> float:
    """Unix time in seconds, from an ISO date with its time zone."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise wrong(
            "must be a date and time with a time zone, such as 2026-12-24T00:00:00+01:00, "
            f"not {shown(value)}"
        )
    return moment.timestamp()


Time = Annotated[
    int, BeforeValidator(parse_time), WithJsonSchema({"type": "string", "pattern": _TIME.pattern})
]
Moment = Annotated[
    float,
    BeforeValidator(parse_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Hook(Strict):
    """A webhook: it is told, and before the end it may refuse."""

    url: Url = Field(
        max_length=2_000,
        description=(
            "Where the call is posted. An answer 2xx agrees, 4xx refuses and ends the rollout."
        ),
    )
    at: tuple[Literal["before", "step", "promote", "after"], ...] = Field(
        default=("before", "step", "promote", "after"),
        strict=False,
        min_length=1,
        description=(
            "When it is called: before the first traffic, before each step, before all traffic "
            "moves, after the end."
        ),
    )
    timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=300, description="How long one answer may take."
    )
    attempts: int = Field(
        default=5, ge=1, le=20, description="How often it is tried until it answers."
    )


class Freeze(Strict):
    """A time in which no traffic moves to a new release; rolling back goes on."""

    name: str = Field(min_length=1, max_length=64, description="What it is called in reasons.")
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        default=(), strict=False, description="Days on which it begins; every day if none is named."
    )
    begins: Time = Field(default=0, description='Time of day at which it begins, such as "18:00".')
    ends: Time = Field(
        default=DAY_MINUTES,
        description="Time of day at which it ends; past midnight if that is not after its begin.",
    )
    timezone: str = Field(
        default="UTC", description="Time zone of days and times, such as Europe/Berlin."
    )
    since: Moment | None = Field(default=None, description="In force from this moment on.")
    until: Moment | None = Field(default=None, description="In force before this moment only.")

    @field_validator("timezone")
    @classmethod
    def _exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise wrong(f"must be a time zone such as Europe/Berlin, not {shown(name)}") from None
        return name

    @model_validator(mode="after")
    def _is_a_span(self) -> Freeze:
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise wrong("must be after since", at=("until",))
        return self


class Pin(Strict):
    """Who always gets one release while a rollout goes on; what they do is not counted."""

    release: Literal["canary", "champion"] = Field(description="Which one they get.")
    keys: tuple[str, ...] = Field(
        default=(), strict=False, max_length=100, description="Names of API keys."
    )
    sessions: tuple[str, ...] = Field(
        default=(),
        strict=False,
        max_length=100,
        description="Beginnings of the header x-session-id, such as qa-.",
    )

    @model_validator(mode="after")
    def _pins_somebody(self) -> Pin:
        if not self.keys and not self.sessions:
            raise wrong("needs keys or sessions")
        if not all(0 < len(name) <= 128 for name in (*self.keys, *self.sessions)):
            raise wrong("must have names of 1 to 128 characters")
        return self


class After(Strict):
    """After all traffic has moved: a time in which it is taken back at once, then a slow watch."""

    warm_minutes: float = Field(
        default=0.0,
        ge=0,
        le=129_600,
        description=(
            "How long the old release keeps its replicas, and the rollout goes on; with strategy "
            "blue_green 10 if it is not given."
        ),
    )
    holdback: Share = Field(
        default=0.05,
        description=(
            "Share of the units that stay with the old release meanwhile, so that the same judge "
            "has something to compare with; 0% for none, and then only a person, or replicas that "
            "fail, take it back."
        ),
    )

    failures_at_most: Share | None = Field(
        default=None,
        description=(
            "Failure rate that the release must not exceed for as long as it is champion; if it is "
            "not given, the upper bound of what it was accepted with, and the margin."
        ),
    )
    revert: bool = Field(
        default=False,
        description=(
            "The service goes back to the champion before it when the failure rate is exceeded; "
            "without it there is an alarm."
        ),
    )

    @field_validator("failures_at_most")
    @classmethod
    def _can_be_tested(cls, share: float | None) -> float | None:
        if share is not None and not 0.0001 <= share <= 0.5:
            raise wrong(f"must be from 0.01% to 50%, not {shown(share)}")
        return share

    @field_validator("holdback")
    @classmethod
    def _is_a_rest(cls, share: float) -> float:
        if share > 0.5:
            raise wrong(f"must be at most 50%, not {shown(share)}")
        return share


class HarmBudget(NamedTuple):
    """So many requests, or a share of all requests until the deadline; the other one is 0."""

    requests: float
    share: float


def parse_harm(value: object) -> HarmBudget:
    """A number of requests, or a share from text like `0.1%`."""
    if isinstance(value, HarmBudget):
        return value
    if isinstance(value, str):
        share = parse_share(value)
        if share > 0.0:
            return HarmBudget(0.0, share)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1e9:
        return HarmBudget(float(value), 0.0)
    raise wrong(
        f'must be a number of requests above 0, or a percentage such as "0.1%", not {shown(value)}'
    )


class Ramp(Strict):
    """Shares that grow by themselves, as the evidence allows."""

    start: Share = Field(default=0.01, description="The first share of the units.")
    highest: Share = Field(
        default=0.5, description="The highest share before the promotion moves all traffic."
    )
    harm_budget: Annotated[
        HarmBudget,
        BeforeValidator(parse_harm),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9},
                    {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%$"},
                ]
            }
        ),
    ] = Field(
        description=(
            "How many more requests may fail for the rollout than without it: a number, or a "
            "percentage of the requests until the deadline."
        )
    )

    @model_validator(mode="after")
    def _is_a_ramp(self) -> Ramp:
        if not 0.0001 <= self.start < 1.0:
            raise wrong(
                f"must be at least 0.01% and below 100%, not {shown(self.start)}", at=("start",)
            )
        if not self.start <= self.highest < 1.0:
            raise wrong("must be at least the start, and below 100%", at=("highest",))
        return self


class Hold(Strict):
    """An A/B comparison: one share, held for a declared time."""

    share: Share = Field(default=0.5, description="Share of the units that the release gets.")
    hours: float = Field(gt=0, le=2_000, description="How long both releases are held.")
    requests: int = Field(
        default=100, ge=1, le=1_000_000, description="Least number of units of the release."
    )

    @field_validator("share")
    @classmethod
    def _leaves_a_champion(cls, share: float) -> float:
        if not 0.0 < share < 1.0:
            raise wrong(f"must be above 0% and below 100%, not {shown(share)}")
        return share


def default_after(strategy: str, given: After | None) -> After | None:
    """The time after all traffic has moved: blue-green is nothing without it."""
    if strategy != "blue_green" or (given and "warm_minutes" in given.model_fields_set):
        return given
    holdback = 0.0 if given is None or "holdback" not in given.model_fields_set else given.holdback
    return (given or After()).model_copy(update={"warm_minutes": 10.0, "holdback": holdback})


def check_strategy(strategy: str, given: set[str], values: dict[str, Any]) -> None:
    """Raises for keys that do not belong to the strategy."""
    if strategy != "canary" and "steps" in given and values["steps"]:
        raise wrong(f'are for strategy canary; this one is "{strategy}"', at=("steps",))
    if strategy != "canary" and values["ramp"] is not None:
        raise wrong(f'is for strategy canary; this one is "{strategy}"', at=("ramp",))
    if "steps" in given and values["ramp"] is not None:
        raise wrong("takes the place of steps: leave one of both out", at=("ramp",))
    if strategy == "ab" and values["hold"] is None:
        raise wrong('needs the key "hold" for strategy ab')
    if strategy != "ab" and values["hold"] is not None:
        raise wrong(f'is for strategy ab; this one is "{strategy}"', at=("hold",))
    after = values["after"]
    if strategy == "immediate" and after is not None and after.warm_minutes > 0.0:
        raise wrong(
            "is for the other strategies: immediate leaves nothing warm",
            at=("after", "warm_minutes"),
        )
