"""Records as spans, in OTLP's JSON form.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding : the messages of
opentelemetry-proto as protobuf's JSON, but ids in hexadecimal digits. Attributes are named as in
OpenTelemetry's conventions for generative AI; what these have no name for begins with `fairlead.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.domain.outcomes import failed_by_server
from fairlead.domain.release import short
from fairlead.wire.gen_ai import PROVIDER, operation_of
from fairlead.wire.record import RequestRecord

SERVER = 2
"""SPAN_KIND_SERVER: the gateway's part of what its client waits for."""
ERROR = 2
"""STATUS_CODE_ERROR."""
RECORDED = 1
FIRST_EVENT = "fairlead.first_token"
_TRACE = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})(?:-([0-9a-f]{16}))?")

Value = str | int | float


def encode_spans(records: Sequence[RequestRecord]) -> bytes:
    """An `ExportTraceServiceRequest` with a span for each of the records that are traced."""
    scope = {"name": "fairlead", "version": __version__}
    resource = [
        _attribute("service.name", "fairlead-gateway"),
        _attribute("service.version", __version__),
    ]
    spans = [span for record in records for span in _span(record)]
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


def _span(record: RequestRecord) -> Iterator[dict[str, Any]]:
    match = _TRACE.fullmatch(record.trace)
    if match is None:
        return
    operation = operation_of(record.endpoint)
    span: dict[str, Any] = {
        "traceId": match[1],
        "spanId": match[2],
        "flags": RECORDED,
        "name": f"{operation} {record.service}",
        "kind": SERVER,
        "startTimeUnixNano": _nanoseconds(record.started_at),
        "endTimeUnixNano": _nanoseconds(record.started_at + record.duration_ms / 1e3),
        "attributes": [_attribute(*each) for each in _attributes(record, operation)],
    }
    if match[3] is not None:
        span["parentSpanId"] = match[3]
    if record.stream and record.ttft_ms >= 0:
        at = _nanoseconds(record.started_at + record.ttft_ms / 1e3)
        span["events"] = [{"timeUnixNano": at, "name": FIRST_EVENT}]
    if failed_by_server(record.status, record.error):
        span["status"] = {"code": ERROR, "message": record.error or str(record.status)}
    yield span


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
