"""Records as spans, in OTLP's JSON form: one of each request, and below it one of each attempt and
of each time that it waited for a replica.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding : the messages of
opentelemetry-proto as protobuf's JSON, but ids in hexadecimal digits. Attributes are named as in
OpenTelemetry's conventions for generative AI; what these have no name for begins with `fairlead.`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.domain.outcomes import REJECTED, failed_by_server
from fairlead.domain.release import short
from fairlead.wire.gen_ai import PROVIDER, operation_of
from fairlead.wire.record import RequestRecord

INTERNAL = 1
"""SPAN_KIND_INTERNAL: waiting for a replica that has room."""
SERVER = 2
"""SPAN_KIND_SERVER: the gateway's part of what its client waits for."""
CLIENT = 3
"""SPAN_KIND_CLIENT: one attempt, as a client of a replica."""
ERROR = 2
"""STATUS_CODE_ERROR."""
RECORDED = 1
FIRST_EVENT = "fairlead.first_token"
QUEUE = "fairlead.queue"
WAIT_MS_MIN = 1.0
"""Shorter waits are none."""
_TRACE = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})(?:-([0-9a-f]{16}))?")

_NO_FAILURE = frozenset({"lost", "client_closed", REJECTED})
"""How attempts end that the replica did not fail: another one was first, its client left, or it
refused what was asked."""

Value = str | int | float


def encode_spans(records: Sequence[RequestRecord]) -> bytes:
    """An `ExportTraceServiceRequest` with the spans of those records that are traced."""
    scope = {"name": "fairlead", "version": __version__}
    resource = [
        _attribute("service.name", "fairlead-gateway"),
        _attribute("service.version", __version__),
    ]
    spans = [span for record in records for span in _spans(record)]
    return msgspec.json.encode(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": resource},
                    "scopeSpans": [{"scope": scope, "spans": spans}],
                }
            ]
        }
    )


def _spans(record: RequestRecord) -> Iterator[dict[str, Any]]:
    """The request's own one first."""
    match = _TRACE.fullmatch(record.trace)
    if match is None:
        return
    operation = operation_of(record.endpoint)
    trace, own = match[1], match[2]
    span = _span(trace, own, match[3], f"{operation} {record.service}", SERVER)
    yield span | {
        **_time(record, 0.0, record.duration_ms),
        "attributes": [_attribute(*each) for each in _attributes(record, operation)],
        **_first_token(record),
        **_status(
            record.error or str(record.status), failed_by_server(record.status, record.error)
        ),
    }
    for number, (began_ms, ended_ms) in enumerate(_waits(record)):
        wait = _span(trace, _derived(own, number), own, QUEUE, INTERNAL)
        yield wait | _time(record, began_ms, ended_ms) | {"attributes": []}
    for number, tried in enumerate(record.tried):
        name = f"{operation} {short(tried.release)}"
        attempt = _span(trace, tried.span, own, name, CLIENT)
        yield attempt | {
            **_time(record, tried.began_ms, tried.ended_ms),
            "attributes": [_attribute(*each) for each in _of_attempt(record, number)],
            **_status(tried.outcome, bool(tried.outcome) and tried.outcome not in _NO_FAILURE),
        }


def _span(trace: str, own: str, parent: str | None, name: str, kind: int) -> dict[str, Any]:
    span: dict[str, Any] = {
        "traceId": trace, "spanId": own, "flags": RECORDED, "name": name, "kind": kind,
    }  # fmt: skip
    if parent is not None:
        span["parentSpanId"] = parent
    return span


def _time(record: RequestRecord, began_ms: float, ended_ms: float) -> dict[str, str]:
    return {
        "startTimeUnixNano": _nanoseconds(record.started_at + began_ms / 1e3),
        "endTimeUnixNano": _nanoseconds(record.started_at + ended_ms / 1e3),
    }


def _first_token(record: RequestRecord) -> dict[str, Any]:
    if not record.stream or record.ttft_ms < 0:
        return {}
    at = _nanoseconds(record.started_at + record.ttft_ms / 1e3)
    return {"events": [{"timeUnixNano": at, "name": FIRST_EVENT}]}


def _status(why: str, is_error: bool) -> dict[str, Any]:
    return {"status": {"code": ERROR, "message": why}} if is_error else {}


def _waits(record: RequestRecord) -> Iterator[tuple[float, float]]:
    """When it was on no replica: before the first attempt, and between two of them."""
    if not record.tried:
        return
    until = 0.0
    for tried in sorted(record.tried, key=lambda each: each.began_ms):
        if tried.began_ms - until >= WAIT_MS_MIN:
            yield until, tried.began_ms
        until = max(until, tried.ended_ms)


def _derived(span: str, number: int) -> str:
    """An id of its own for a wait: the same whenever the record is sent."""
    made = hashlib.blake2b(f"{span}/{number}".encode(), digest_size=8).hexdigest()
    return made if int(made, 16) else f"{1:016x}"


def _of_attempt(record: RequestRecord, number: int) -> Iterator[tuple[str, Value]]:
    tried = record.tried[number]
    yield "gen_ai.operation.name", operation_of(record.endpoint)
    yield "gen_ai.provider.name", PROVIDER
    yield "gen_ai.request.model", record.service
    yield "gen_ai.response.model", short(tried.release)
    yield "fairlead.replica", tried.replica
    if number:
        yield "http.request.resend_count", number
    if tried.is_hedge:
        yield "fairlead.hedge", 1
    if tried.outcome in _NO_FAILURE:
        yield "fairlead.outcome", tried.outcome
    elif tried.outcome:
        yield "error.type", tried.outcome


def _attributes(record: RequestRecord, operation: str) -> Iterator[tuple[str, Value]]:
    yield "gen_ai.operation.name", operation
    yield "gen_ai.provider.name", PROVIDER
    yield "gen_ai.request.model", record.service
    if record.release:
        yield "gen_ai.response.model", short(record.release)
    yield "gen_ai.response.id", record.id
    if record.prompt_tokens >= 0:
        yield "gen_ai.usage.input_tokens", record.prompt_tokens
    if record.completion_tokens >= 0:
        yield "gen_ai.usage.output_tokens", record.completion_tokens
    yield "http.response.status_code", record.status
    if failed_by_server(record.status, record.error):
        yield "error.type", record.error or str(record.status)
    elif record.error:
        yield "fairlead.error", record.error
    yield "fairlead.arm", record.arm
    yield "fairlead.attempts", record.attempts
    for name, text in (("replica", record.replica), ("rollout", record.rollout)):
        if text:
            yield f"fairlead.{name}", text
    for name, number in (
        ("ttft_ms", record.ttft_ms), ("itl_ms", record.itl_ms), ("cost_usd", record.cost_usd),
    ):  # fmt: skip
        if number >= 0:
            yield f"fairlead.{name}", number


def _attribute(key: str, value: Value) -> dict[str, Any]:
    if isinstance(value, str):
        return {"key": key, "value": {"stringValue": value}}
    if isinstance(value, int):
        # 64 bits are more than JSON's numbers hold for everybody.
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"doubleValue": value}}


def _nanoseconds(seconds: float) -> str:
    # A float of the present knows no nanoseconds.
    return str(1_000 * max(0, round(seconds * 1e6)))
