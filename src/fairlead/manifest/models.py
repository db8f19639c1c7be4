"""The manifest as a whole. Its parts lie beside it, one file each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.manifest.bias import Bias
from fairlead.manifest.drill import Drill
from fairlead.manifest.engines import RemoteEngine
from fairlead.manifest.gates import Gate, check_gates
from fairlead.manifest.judging import Capture, Judge
from fairlead.manifest.monitoring import Monitoring
from fairlead.manifest.probes import Probes
from fairlead.manifest.quotas import Quotas
from fairlead.manifest.release import Release
from fairlead.manifest.rollout import Rollout
from fairlead.manifest.values import ServiceName, Share, Size, Strict, nearest, shown, wrong

FALLBACKS_MAX = 8

Balance = Annotated[
    Literal["prefix", "least_loaded"],
    Field(
        description=(
            "How a replica is chosen: prefix sends a request to the one that has the longest part "
            "of its prompt cached, unless it is busier than the others; least_loaded looks at load "
            "alone."
        )
    ),
]


def check_fallbacks(service: str, fallbacks: tuple[str, ...]) -> None:
    """Raises a validation error unless they are others, each once."""
    for index, name in enumerate(fallbacks):
        if name == service:
            raise wrong("is this service itself", at=("fallbacks", index))
        if name in fallbacks[:index]:
            raise wrong("is there twice", at=("fallbacks", index))


_JUDGES = "is what a judge model says; declare `judge`"


class Replicas(Strict):
    """How many engines run. A number alone is the champion's."""

    champion: int = Field(default=1, ge=1, le=256, description="Replicas of the champion.")
    canary: int = Field(
        default=1, ge=1, le=256, description="Replicas of a canary; the champion's keep running."
    )

    @model_validator(mode="before")
    @classmethod
    def _number_alone(cls, data: Any) -> Any:
        if isinstance(data, int) and not isinstance(data, bool):
            return {"champion": data}
        return data


class Slos(Strict):
    """What the service promises; `fairlead status` says whether it holds."""

    availability: Share | None = Field(
        default=None, description="Least share of requests without a server error."
    )
    ttft_p95_ms: float | None = Field(
        default=None,
        gt=0,
        description="Most milliseconds to the first byte of an answer, for 95% of requests.",
    )
    latency_p95_ms: float | None = Field(
        default=None,
        gt=0,
        description="Most milliseconds to the last byte of an answer, for 95% of requests.",
    )
    itl_p95_ms: float | None = Field(
        default=None,
        gt=0,
        description="Most milliseconds between the tokens of a stream, for 95% of requests.",
    )
    usd_per_request: float | None = Field(
        default=None, gt=0, le=1e6, description="Most USD that a request costs, on average."
    )
    quality: Share | None = Field(
        default=None, description="Least share of the judged answers that are good."
    )
    period_days: float = Field(
        default=30.0,
        ge=7,
        le=90,
        description="Time in which a promise has to hold, and over which its error budget counts.",
    )


class Limits(Quotas):
    """What the service may take up in one gateway worker, and what may be used of it in all."""

    queue: int = Field(
        default=256,
        ge=0,
        le=100_000,
        description="Requests that may wait for a free slot; one more is answered 429.",
    )
    queue_timeout_seconds: float = Field(
        default=10.0, gt=0, le=3_600, description="How long a request may wait; then 503."
    )
    request_timeout_seconds: float = Field(
        default=120.0, gt=0, le=86_400, description="How long an answer may take in all."
    )
    body_bytes: Size = Field(
        default=8 * 1024 * 1024, ge=1, le=1 << 30, description="Largest request body."
    )
    attempts: int = Field(
        default=3, ge=1, le=10, description="Replicas tried for one request, the first included."
    )
    attempt_timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="How long a replica may take to its first byte; then another one is tried.",
    )
    hedge_after_ms: float | None = Field(
        default=None,
        gt=0,
        le=3_600_000,
        description=(
            "Embeddings only: a request not answered after so long is sent to a second replica, "
            "too; the first answer counts."
        ),
    )


class Manifest(Strict):
    """A service: its release, the gates it must pass, and how it gets its traffic."""

    service: ServiceName = Field(
        description="Name of the service; clients put it into the field `model`."
    )
    release: Release = Field(
        description="What the service answers with: model, engine, prompt template, sampling."
    )
    replicas: Replicas = Field(
        default_factory=Replicas, description="How many engines run; a number or one per role."
    )
    gates: tuple[Gate, ...] = Field(
        default=(),
        strict=False,
        max_length=50,
        description="Rules that a release must pass before it gets traffic.",
    )
    rollout: Rollout = Field(
        default_factory=Rollout, description="How a release gets its traffic, step by step."
    )
    fallbacks: tuple[ServiceName, ...] = Field(
        default=(),
        strict=False,
        max_length=FALLBACKS_MAX,
        description=(
            "Other services whose champion answers, the first that can, when no replica of this "
            "service can be used or all attempts have failed."
        ),
    )
    balance: Balance = "prefix"
    probes: Probes | None = Field(
        default=None,
        description=(
            "For a model at openai://: questions that the provider is asked again and again, to "
            "see that it still answers as it did."
        ),
    )
    drill: Drill | None = Field(
        default=None,
        description="Releases that are bad on purpose, now and then, to see that they are caught.",
    )
    capture: Capture | None = Field(
        default=None,
        description="A sample of prompts and answers that is kept for a while, redacted.",
    )
    judge: Judge | None = Field(
        default=None, description="A model that grades the sampled answers of a rollout."
    )
    bias: Bias | None = Field(
        default=None,
        description=(
            "Pairs of requests that differ in one trait of the person who asks, to see that all "
            "are treated alike."
        ),
    )
    slos: Slos = Field(default_factory=Slos, description="What the service promises.")
    monitoring: Monitoring = Field(
        default_factory=Monitoring,
        description="Who is told when a promise is at risk, and what is done about it.",
    )
    limits: Limits = Field(
        default_factory=Limits, description="What the service may take up in the gateway."
    )

    @field_validator("gates")
    @classmethod
    def _gate_names_differ(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        return check_gates(gates)

    @model_validator(mode="after")
    def _fallbacks_are_others(self) -> Manifest:
        check_fallbacks(self.service, self.fallbacks)
        return self

    @model_validator(mode="after")
    def _actions_fit(self) -> Manifest:
        for index, action in enumerate(self.monitoring.actions):
            at = ("monitoring", "actions", index, "do")
            if action.do == "fallback" and not self.fallbacks:
                raise wrong('"fallback" needs `fallbacks`', at=at)
            if action.do == "rerun_gate" and not self.gates:
                raise wrong('"rerun_gate" needs `gates`', at=at)
            if action.do == "add_cases" and not (self.capture and self.capture.prompts):
                raise wrong('"add_cases" needs `capture` that keeps prompts', at=at)
            if action.do == "tighten_guardrail":
                self._can_tighten(action.guardrail, at)
        if self.slos.usd_per_request is not None and self.release.price is None:
            raise wrong("needs release.price", at=("slos", "usd_per_request"))
        return self

    def _can_tighten(self, name: str | None, at: tuple[str | int, ...]) -> None:
        guardrails = self.release.guardrails
        flagging = [one.name for one in guardrails if one.action == "flag"]
        if not flagging:
            raise wrong('"tighten_guardrail" needs a guardrail with `action: flag`', at=at)
        if name is None or name in flagging:
            return
        place = (*at[:-1], "guardrail")
        if name in [one.name for one in guardrails]:
            raise wrong(f"blocks already: {shown(name)}", at=place)
        near = nearest(name, flagging)
        known = f'did you mean "{near}"?' if near else f"there are: {', '.join(flagging)}"
        raise wrong(f"is no guardrail of the release: {shown(name)} ({known})", at=place)

    @model_validator(mode="after")
    def _probes_fit(self) -> Manifest:
        probes = self.probes
        if probes is None:
            return self
        if not isinstance(self.release.engine, RemoteEngine):
            raise wrong("are for a model at openai://; weights do not change", at=("probes",))
        if probes.on_change == "fallback" and not self.fallbacks:
            raise wrong('"fallback" needs `fallbacks`', at=("probes", "on_change"))
        if probes.usd_per_day is not None and self.release.price is None:
            raise wrong("needs release.price", at=("probes", "usd_per_day"))
        return self

    @model_validator(mode="after")
    def _bias_fits(self) -> Manifest:
        if self.bias is None:
            return self
        if self.bias.usd_per_day is not None and self.release.price is None:
            raise wrong("needs release.price", at=("bias", "usd_per_day"))
        scores = self.bias.scores
        if scores is not None and scores.usd_per_day is not None and self.release.price is None:
            raise wrong("needs release.price", at=("bias", "scores", "usd_per_day"))
        if (self.bias.pairs or scores is not None) and self.release.settings.get("embeddings"):
            raise wrong("needs a release that completes; this one serves embeddings", at=("bias",))
        return self

    @model_validator(mode="after")
    def _judge_has_answers(self) -> Manifest:
        if self.judge is None:
            if self.monitoring.judge is not None:
                raise wrong("needs `judge`: the model that grades", at=("monitoring", "judge"))
            feedback = self.rollout.feedback
            if feedback is not None and feedback.name in (JUDGED, UNJUDGED):
                raise wrong(_JUDGES, at=("rollout", "feedback"))
            for index, metric in enumerate(self.rollout.metrics):
                if metric.feedback in (JUDGED, UNJUDGED):
                    raise wrong(_JUDGES, at=("rollout", "metrics", index, "feedback"))
            return self
        if self.judge.service == self.service:
            raise wrong("is this service itself", at=("judge", "service"))
        live = self.monitoring.judge
        if live is not None and live.usd_per_day is not None and self.judge.price is None:
            at = ("monitoring", "judge", "usd_per_day")
            raise wrong("is a bound in USD, which needs judge.price", at=at)
        if self.capture is None or not (self.capture.prompts and self.capture.answers):
            raise wrong("grades what `capture` keeps: prompts and answers", at=("judge",))
        return self

    @model_validator(mode="after")
    def _embeddings_fit(self) -> Manifest:
        given = self.monitoring.embeddings
        if given is not None and given.service == self.service:
            raise wrong("is this service itself", at=("monitoring", "embeddings", "service"))
        if given is not None and self.capture is None:
            raise wrong("are of what `capture` keeps", at=("monitoring", "embeddings"))
        return self

    @model_validator(mode="after")
    def _suites_are_gates(self) -> Manifest:
        names = [gate.name for gate in self.gates]
        for index, metric in enumerate(self.rollout.metrics):
            if metric.suite is not None and metric.suite not in names:
                raise wrong(
                    f"must be the name of a gate ({', '.join(names) or 'there is none'}), not "
                    f"{shown(metric.suite)}",
                    at=("rollout", "metrics", index, "suite"),
                )
        return self

    @model_validator(mode="after")
    def _embeddings_are_not_gated(self) -> Manifest:
        if self.release.settings.get("embeddings") and self.gates:
            raise wrong("need a release that completes; this one serves embeddings", at=("gates",))
        return self
