"""What goes into the store and what comes out of it.

Documents are JSON in bytes, encoded by the room that owns the struct; the store does not look
into them. All times are Unix times in seconds, given by the caller: the store reads no clock.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class ServiceRow(msgspec.Struct, frozen=True):
    """A service: its spec, and the digests of the release that serves it and served it before."""

    name: str
    spec: bytes
    champion: str | None
    previous: str | None
    updated_at: float


class RolloutRow(msgspec.Struct, frozen=True):
    """A rollout.

    Attributes:
        release: Digest of the canary.
        name: The canary's name, for people.
        state: Name of the state; `active` says whether it is one that still moves.
        version: Grows by one with each commit; 0 before the first. `commit_rollout` sets it.
        document: The whole state of rollout and judge.
    """

    id: str
    service: str
    release: str
    name: str
    state: str
    active: bool
    created_at: float
    updated_at: float
    version: int
    document: bytes


class EventRow(msgspec.Struct, frozen=True):
    """Something that happened. `id` is given by the store; 0 before that.

    `service` and `rollout` are empty when it concerns none.
    """

    at: float
    kind: str
    message: str
    service: str = ""
    rollout: str = ""
    data: bytes = b"{}"
    id: int = 0


class SpoolCursor(msgspec.Struct, frozen=True):
    """How far a spool has been taken in.

    Attributes:
        segment, offset: The next byte to read; everything before it is in the store.
        complete_until: Everything of this spool that began before is in the store.
        closed: Its worker is dead and it has been read to the end.
        broken: Frames lost to damage so far.
    """

    segment: int = 1
    offset: int = 0
    complete_until: float = 0.0
    closed: bool = False
    broken: int = 0


class IngestCounts(msgspec.Struct, frozen=True):
    """Rows that were new; what was there already is not counted."""

    records: int
    feedback: int


class RequestRow(msgspec.Struct, frozen=True):
    """One request as the gateway recorded it.

    Attributes:
        release: Digest of the release that answered; empty if none was reached.
        rollout: Empty outside a rollout.
        ttft_ms, itl_ms: -1 where there was none.
        prompt_tokens, completion_tokens: -1 where the engine did not say.
        cost_usd, refused, malformed, guardrail_hits, guardrails, blocked_by, stratum: As
            `fairlead.wire.record.RequestRecord` has them; -1 where it is not known.
    """

    id: str
    service: str
    release: str
    arm: str
    replica: str
    key: str
    unit: str
    rho: float
    rollout: str
    phase: int
    endpoint: str
    stream: bool
    status: int
    error: str
    started_at: float
    ttft_ms: float
    itl_ms: float
    duration_ms: float
    prompt_tokens: int
    completion_tokens: int
    attempts: int
    cost_usd: float = -1.0
    refused: int = -1
    malformed: int = -1
    guardrail_hits: int = -1
    guardrails: str = ""
    blocked_by: str = ""
    stratum: int = -1


class PairRow(msgspec.Struct, frozen=True):
    """A copy (`id`, and when it was sent) beside the live request that it is a copy of.

    `unit` is the live request's.
    """

    id: str
    sent_at: float
    live_status: int
    live_error: str
    live_attempts: int
    live_duration_ms: float
    status: int
    error: str
    attempts: int
    duration_ms: float
    unit: str
    live_refused: int
    live_malformed: int
    refused: int
    malformed: int
    live_guardrail_hits: int = -1
    guardrail_hits: int = -1


class FeedbackRow(msgspec.Struct, frozen=True):
    """What a client said of an answer."""

    id: str
    request: str
    key: str
    name: str
    value: float
    at: float


class SampleRow(msgspec.Struct, frozen=True):
    """What was asked and answered in one request of a sample; fields as the gateway writes them.

    Attributes:
        id: Of the request.
        keep_until: From then on it is deleted.
        prompt: JSON list of [role, text]; empty if it is not kept.
    """

    id: str
    service: str
    key: str
    unit: str
    at: float
    keep_until: float
    prompt: str
    answer: str
    is_cut: bool


class SampleFilter(msgspec.Struct, frozen=True):
    """Which samples are meant; None means any."""

    request: str | None = None
    service: str | None = None
    rollout: str | None = None
    key: str | None = None
    unit: str | None = None


JudgementOutcome = Literal["asked", "retried", "judged", "none"]
"""Of a sample and a judge model: it is being asked (or control died meanwhile), it is to be asked
again, it has given a score, it has given none."""


class JudgementRow(msgspec.Struct, frozen=True):
    """What a judge model said of a sample.

    Attributes:
        rollout: The one that it is for.
        score: None unless it is judged.
        reason: Why it has no score, or the judge's own words; deleted together with the sample.
        attempts: How often it was asked.
        usd: What that has cost; while it is being asked, what it costs at most.
        at: When it was asked last.
    """

    request: str
    service: str
    rollout: str
    outcome: JudgementOutcome
    score: float | None = None
    reason: str = ""
    attempts: int = 0
    usd: float = 0.0
    at: float = 0.0


class SampleToJudge(msgspec.Struct, frozen=True):
    """A sample of a rollout without its texts, with what became of its request.

    Attributes:
        started_at: When the request began, by its record.
        judgement: What there is of one.
    """

    request: str
    unit: str
    rho: float
    status: int
    error: str
    started_at: float
    judgement: JudgementRow | None
    phase: int = 0


class JudgeSpend(msgspec.Struct, frozen=True):
    """What a judge model has cost so far.

    Attributes:
        judged, unjudged: Samples with a score, and those without one for good.
        asked: How often it was asked.
    """

    usd: float = 0.0
    asked: int = 0
    judged: int = 0
    unjudged: int = 0


class RecordFilter(msgspec.Struct, frozen=True):
    """Which records to show; None means any.

    Attributes:
        since, until: Began at or after `since`, and before `until`.
        failed: True for requests with a server error only, False for all others only.
    """

    service: str | None = None
    release: str | None = None
    rollout: str | None = None
    arm: str | None = None
    key: str | None = None
    since: float | None = None
    until: float | None = None
    failed: bool | None = None


class GivenFeedback(msgspec.Struct, frozen=True):
    """One feedback on a request, as the judge needs it."""

    name: str
    value: float
    at: float


class AssignedRequest(msgspec.Struct, frozen=True):
    """One request under a rollout, with the feedback that has come in for it, oldest first."""

    id: str
    unit: str
    arm: str
    rho: float
    phase: int
    status: int
    error: str
    attempts: int
    started_at: float
    stream: bool
    ttft_ms: float
    itl_ms: float
    duration_ms: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    refused: int
    malformed: int
    guardrail_hits: int
    stratum: int
    feedback: list[GivenFeedback]


class Quantiles(msgspec.Struct, frozen=True):
    """Exact quantiles by nearest rank of `count` values, in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float


class FeedbackFigures(msgspec.Struct, frozen=True):
    """Feedback of one name: how many values, and their mean."""

    count: int
    mean: float


class ReleaseFigures(msgspec.Struct, frozen=True):
    """How a release of a service fared over a span of time.

    Attributes:
        errors: Requests that the server failed (`fairlead.domain.outcomes`).
        share: Requests as a part of all requests of the service in the span.
        ttft_ms, itl_ms, duration_ms: Of requests without error; None when there was none.
        prompt_tokens, completion_tokens: Sums over requests where the engine reported them.
        feedback: By name, on requests that began in the span.
    """

    service: str
    release: str
    requests: int
    errors: int
    share: float
    ttft_ms: Quantiles | None
    itl_ms: Quantiles | None
    duration_ms: Quantiles | None
    prompt_tokens: int
    completion_tokens: int
    feedback: dict[str, FeedbackFigures]


class MinuteRow(msgspec.Struct, frozen=True):
    """Requests of a service within a minute, as one of its promises counts them.

    Attributes:
        minute: Unix time in seconds at which it begins.
        promise: Which one: `availability`, `ttft`, ...
        total: Requests that it is about.
        bad: Those that broke it; for cost the USD that they took.
    """

    service: str
    minute: int
    promise: str
    total: float
    bad: float


class GivenRow(msgspec.Struct, frozen=True):
    """One feedback (`id`), with the request that it is about.

    Attributes:
        rollout: Whose judge model gave it; empty for live traffic's, and for what clients said.
    """

    id: str
    name: str
    value: float
    at: float
    request: RequestRow
    rollout: str = ""


class TextRow(msgspec.Struct, frozen=True):
    """One sample with its request; `prompt` is a JSON list of [role, text]."""

    at: float
    prompt: str
    answer: str
    is_cut: bool
    request: RequestRow
