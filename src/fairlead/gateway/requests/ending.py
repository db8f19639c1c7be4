"""What is said of a request when it is over: its record, and what it has used of its limits."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.domain.outcomes import ANSWERED_WELL
from fairlead.domain.quota import Price
from fairlead.gateway.guardrails.guarding import UNGUARDED
from fairlead.gateway.quotas.quota_answers import cost_of
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.requests.answers import UNSEEN, cost_usd
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.metering import StreamMeter
from fairlead.gateway.requests.relay import Relay, StreamRelay
from fairlead.gateway.requests.usage import UNKNOWN, Usage
from fairlead.wire.record import RequestRecord, Tried
from fairlead.wire.snapshot import ReleaseRoute


class Ending(NamedTuple):
    """How a request ended.

    Attributes:
        error: Machine code; "" when it was answered well.
        usage: What the answer's end said of it.
        meter: Of the stream, over all its parts; None for a plain answer.
        started, ended: In monotonic seconds.
        started_at: As Unix time.
        release, replica: Where it was sent last; "" for nowhere.
        price: Of that release, if it is known.
        facts: Whether its answer refuses, and is malformed; -1 for what nobody looked for.
        guarded: How many guardrails it hit, which, and which of them ended it.
    """

    status: int
    error: str
    usage: Usage
    meter: StreamMeter | None
    started: float
    started_at: float
    ended: float
    release: str
    replica: str
    attempts: int
    price: Price | None = None
    facts: tuple[int, int] = UNSEEN
    guarded: tuple[int, str, str] = UNGUARDED


def meter_of(relay: Relay | None) -> StreamMeter | None:
    """What measures the answer that comes in through this."""
    return relay.meter if isinstance(relay, StreamRelay) else None


def record_of(call: Call, ending: Ending) -> RequestRecord:
    """The record of a request, as of its own service and unit."""
    status, meter, usage = ending.status, ending.meter, ending.usage
    duration_ms = (ending.ended - ending.started) * 1000.0
    if meter is not None:
        has_first = meter.first_at >= 0
        ttft_ms = (meter.first_at - ending.started) * 1000.0 if has_first else -1.0
        if usage is UNKNOWN:
            usage = meter.usage
    else:
        ttft_ms = duration_ms if 200 <= status < 300 else -1.0
    assignment = call.assignment
    hits, guardrails, blocked_by = ending.guarded
    # By position: with names it takes four times as long.
    return RequestRecord(
        call.request_id,
        call.service.route.name,
        ending.release,
        assignment.arm,
        ending.replica,
        call.key_id,
        assignment.unit,
        assignment.rho,
        assignment.rollout,
        assignment.phase,
        call.kind,
        call.fields.stream is True,
        status,
        ending.error,
        ending.started_at,
        ttft_ms,
        meter.itl_ms if meter is not None else -1.0,
        duration_ms,
        usage.prompt_tokens,
        usage.completion_tokens,
        ending.attempts,
        cost_usd(ending.price, usage),
        *ending.facts,
        call.trace.record,
        hits,
        guardrails,
        blocked_by,
        _tried(call, ending),
        call.stratum,
    )


def _tried(call: Call, ending: Ending) -> tuple[Tried, ...]:
    """Its attempts, where it is traced; the last one ends as the request does."""
    if not call.trace.record:
        return ()
    outcome = "" if ending.error in ANSWERED_WELL else ending.error
    return call.trace.tried(ending.started, ending.ended, outcome)


def settle(
    call: Call,
    record: RequestRecord,
    route: ReleaseRoute | None,
    meter: StreamMeter | None,
    metrics: GatewayMetrics,
) -> None:
    """Put right what was reserved of the request's limits."""
    if call.hold is None:
        return
    events = meter.events if meter is not None else 0
    cost, is_estimate = cost_of(call.hold, record, route, events=events)
    call.hold.settle(cost)
    if is_estimate:
        metrics.usage_estimated.inc((record.service,))
