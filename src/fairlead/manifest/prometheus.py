"""The manifest's `rollout.prometheus`: what a rollout asks of a Prometheus."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from fairlead.domain.outbound import check_host
from fairlead.manifest.sources import is_loopback
from fairlead.manifest.values import EnvName, Strict, shown, wrong

_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_]*)\s*\}\}")
_OF_ARM = ("release", "arm", "replicas", "instances")
_OF_GUARD = (
    "service", "rollout", "canary", "champion", "canary_replicas", "champion_replicas",
    "canary_instances", "champion_instances",
)  # fmt: skip


def _check_placeholders(query: str, known: tuple[str, ...]) -> str:
    for name in _PLACEHOLDER.findall(query):
        if name not in known:
            raise wrong(f"has a placeholder {shown(name)}; there are {', '.join(known)}")
    return query


class Guard(Strict):
    """An instant query with a threshold; no statistical promise."""

    name: str = Field(pattern=_NAME, description="What it is called in reasons.")
    query: str = Field(
        min_length=1,
        max_length=2_000,
        description=(
            "PromQL, with the placeholders {{canary}} and {{champion}} (digests of the releases), "
            "{{canary_replicas}} and {{canary_instances}} (for =~: ids, host:port; likewise of the "
            "champion), {{service}}, {{rollout}}. Of several series each has to stay within."
        ),
    )
    at_most: float | None = Field(default=None, description="More than this is outside.")
    at_least: float | None = Field(default=None, description="Less than this is outside.")
    every_seconds: float = Field(
        default=30.0, ge=0.5, le=3_600, description="How often it is looked at."
    )
    failures: int = Field(
        default=3, ge=1, le=1_000, description="So many looks in a row outside roll back."
    )
    no_data: Literal["hold", "fail"] = Field(
        default="hold",
        description=(
            "What a look without a number (no series, NaN) does: hold steps and promotion, or "
            "count as outside. It never counts as passed."
        ),
    )

    @field_validator("query")
    @classmethod
    def _has_known_placeholders(cls, query: str) -> str:
        return _check_placeholders(query, _OF_GUARD)

    @model_validator(mode="after")
    def _has_a_threshold(self) -> Guard:
        if self.at_most is None and self.at_least is None:
            raise wrong("needs at_most or at_least")
        if None not in (self.at_most, self.at_least) and self.at_least > self.at_most:  # type: ignore[operator]
            raise wrong("must not be above at_most", at=("at_least",))
        return self


class Count(Strict):
    """Counters of bad events of both arms, judged by valid statistics."""

    name: str = Field(pattern=_NAME, description="What it is called in reasons.")
    query: str = Field(
        min_length=1,
        max_length=2_000,
        description=(
            'A selector of counters, such as bad_total{release="{{release}}"}, asked for each arm '
            "with the placeholders {{release}} (digest), {{arm}} (canary, champion), {{replicas}} "
            "and {{instances}} (for =~), {{service}}, {{rollout}}. No function around it: "
            "increases and resets are found in the samples."
        ),
    )
    tolerance: float = Field(
        default=0.2,
        ge=0,
        le=100,
        description=(
            "By which ratio the canary may have more events per request before it is rolled back "
            "(0.2 is 20 % more)."
        ),
    )
    margin: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description=(
            "Promotion needs evidence that it has not so much more of them (0.5 is 50 % more); "
            "without it, promotion needs readings of both arms only."
        ),
    )
    design_factor: float = Field(
        default=1.0,
        ge=1,
        le=1_000,
        description="How many events one cause makes at the most; 1 if each is on its own.",
    )
    every_seconds: float = Field(
        default=30.0, ge=0.5, le=3_600, description="How often it is looked at."
    )
    lag_seconds: float = Field(
        default=60.0,
        ge=0,
        le=3_600,
        description=(
            "How long after a request begins its events are surely scraped; so much of each step "
            "is left out."
        ),
    )
    absent: Literal["no_data", "zero"] = Field(
        default="no_data",
        description=(
            "What an arm without any series means: no data, or no event so far (for counters that "
            "appear with their first event)."
        ),
    )

    @field_validator("query")
    @classmethod
    def _tells_arms_apart(cls, query: str) -> str:
        _check_placeholders(query, ("service", "rollout", *_OF_ARM))
        if set(_OF_ARM).isdisjoint(_PLACEHOLDER.findall(query)):
            raise wrong(
                f"must tell the arms apart by {{{{release}}}} or one of {', '.join(_OF_ARM)}"
            )
        return query

    @model_validator(mode="after")
    def _margin_is_above(self) -> Count:
        if self.margin is not None and self.margin <= self.tolerance:
            raise wrong(f"must be above the tolerance, {self.tolerance}", at=("margin",))
        return self


class Prometheus(Strict):
    """A Prometheus, and the queries that a rollout has to stand."""

    url: str = Field(
        max_length=1_000,
        description="Its address, http(s)://host[:port][/path]; nothing else is asked.",
    )
    token_env: EnvName | None = Field(
        default=None,
        description="Environment variable of control that holds the bearer token.",
    )
    token_file: str | None = Field(
        default=None,
        pattern=r"^/[^\x00]{1,1023}$",
        description="Absolute path of a file with the bearer token.",
    )
    ca_file: str | None = Field(
        default=None,
        pattern=r"^/[^\x00]{1,1023}$",
        description="Absolute path of the certificates that are trusted for it.",
    )
    link_local: bool = Field(
        default=False, description="Whether its address may be link-local, or a cloud's metadata."
    )
    timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=300, description="How long an answer may take."
    )
    unreachable_minutes: float = Field(
        default=5.0,
        gt=0.02,
        le=1_440,
        description="If it does not answer for so long, the rollout ends and traffic goes back.",
    )
    guards: tuple[Guard, ...] = Field(
        default=(), strict=False, max_length=20, description="Thresholds on queries."
    )
    counts: tuple[Count, ...] = Field(
        default=(), strict=False, max_length=20, description="Counters of bad events, judged."
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
            if parts.scheme not in ("http", "https") or not url.isprintable() or " " in url:
                raise ValueError("no http or https address")
            if "@" in parts.netloc or "?" in url or "#" in url:
                raise ValueError("credentials, a query or a fragment do not belong into it")
        except ValueError as error:
            raise wrong(f"must be http(s)://host[:port][/path]: {error}") from None
        if not host:
            raise wrong("must name a host")
        return url

    @model_validator(mode="after")
    def _parts_fit(self) -> Prometheus:
        parts = urlsplit(self.url)
        try:
            check_host(parts.hostname or "", link_local=self.link_local)
        except ValueError as error:
            raise wrong(f"has a host that cannot be used: {error}", at=("url",)) from None
        if self.token_env is not None and self.token_file is not None:
            raise wrong("is one place too many: token_env is given too", at=("token_file",))
        has_token = self.token_env is not None or self.token_file is not None
        if has_token and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise wrong("would send the token unencrypted; use https://", at=("url",))
        names = [guard.name for guard in self.guards] + [count.name for count in self.counts]
        if not names:
            raise wrong("needs guards or counts")
        if len(names) > 20 or len(set(names)) < len(names):
            raise wrong("must have at most 20 queries, each with a name of its own")
        return self
