"""Records: what a gateway worker says of each request, of feedback, and of its own progress."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fairlead.domain.decoding import decode_with


class Tried(msgspec.Struct, frozen=True, array_like=True):
    """One attempt of a request that is traced; milliseconds count from the request's start.

    Attributes:
        span: Of the attempt, in hexadecimal digits, as the engine was told it.
        release: Digest of the release that was asked.
        outcome: Empty if it was answered; `lost` beside an attempt that was answered first; else
            why it failed.
        is_hedge: Whether it was made beside a slow one.
    """

    span: str
    replica: str
    release: str
    began_ms: float
    ended_ms: float
    outcome: str = ""
    is_hedge: bool = False


class RequestRecord(msgspec.Struct, frozen=True, array_like=True, tag="request", gc=False):
    """One request that reached a release, or that was refused for lack of capacity.

    Attributes:
        id: Request id, as given to the client in `x-request-id`; a shadow's has `.shadow` behind
            the id of the request that it is a copy of.
        release: Digest of the release that answered; empty if none was reached.
        arm: `champion`, `canary`, or `shadow` for a copy whose answer no client had.
        unit: Hash of the session, user or key by which the request was assigned.
        rho: Probability with which this unit was assigned to the canary when it came; among more
            than two releases, to the one that it was assigned to.
        rollout, phase: The split under which it was assigned; empty and 0 outside a rollout.
        status: HTTP status sent to the client; 499 when the client left first.
        error: Machine code of the error, empty for none.
        started_at: Unix time in seconds at which the request was complete in the gateway.
        ttft_ms: Milliseconds to the first byte of the answer's body; -1 if there was none.
        itl_ms: Mean milliseconds between events of a stream; -1 for plain answers.
        duration_ms: Milliseconds to the answer's last byte.
        prompt_tokens, completion_tokens: As the engine reports them; -1 if it did not.
        attempts: Replicas tried.
        cost_usd: By the price of the release that answered; -1 where it or the tokens are unknown.
        refused: Whether the answer declines to help: 1 or 0; -1 where nobody looked.
        malformed: Whether JSON was asked for, and the answer is none: 1 or 0; -1 where it was not
            asked for, or nobody looked.
        trace: Its place in a trace that is recorded: trace, own span, and its client's span if
            there is one, in hexadecimal digits joined by hyphens; empty for none.
        guardrail_hits: How many guardrails it hit; -1 where none of its service's releases has any.
        guardrails: Names of those, in the order in which they were hit, joined by commas.
        blocked_by: Name of the one that ended it; empty for none.
        tried: Its attempts, where it is traced.
        stratum: Number of its stratum of risk (`fairlead.domain.strata`), as known when it was
            assigned; -1 where its service tells none apart.
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
    # New fields go to the end, with a default: what was spooled before is read all the same.
    cost_usd: float = -1.0
    refused: int = -1
    malformed: int = -1
    trace: str = ""
    guardrail_hits: int = -1
    guardrails: str = ""
    blocked_by: str = ""
    tried: tuple[Tried, ...] = ()
    stratum: int = -1


class FeedbackRecord(msgspec.Struct, frozen=True, array_like=True, tag="feedback"):
    """What a client said of an answer.

    Attributes:
        id: Id of this feedback.
        request: Id of the request it is about.
        value: A number; `true` is 1 and `false` is 0.
        at: Unix time in seconds at which the gateway took it.
    """

    id: str
    request: str
    key: str
    name: str
    value: float
    at: float


class ProgressRecord(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """Everything that began before `complete_until` has been recorded in this spool.

    A worker writes one every half second. With it, a reader knows when it has seen all requests
    and all feedback up to a moment, so that a verdict does not depend on who was slow.

    Attributes:
        at: Unix time in seconds at which it was written.
        complete_until: Start time of the oldest request still open, or `at`.
    """

    at: float
    complete_until: float


class SampleRecord(msgspec.Struct, frozen=True, array_like=True, tag="sample"):
    """What was asked and answered in one request of the sample (`fairlead.domain.capture`).

    There is one for each request that was chosen when it came, whatever became of it.

    Attributes:
        id: Id of the request.
        at: Unix time in seconds at which it was complete in the gateway.
        keep_until: Unix time in seconds from which on it must not be kept any more.
        prompt: Redacted: a JSON list of [role, text]; empty if it is not kept.
        answer: Redacted; empty if there was none, or it is not kept.
        is_cut: Whether something of either is left out for its length.
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


Record = RequestRecord | FeedbackRecord | ProgressRecord | SampleRecord

encode_record: Callable[[Record], bytes] = msgspec.msgpack.Encoder().encode
"""The MessagePack form, one frame's payload."""

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def decode_record(data: bytes) -> Record:
    """Raises `msgspec.DecodeError` (or its `ValidationError`) when it is not a record."""
    return decode_with(_decoder, data)
