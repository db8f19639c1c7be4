"""A gateway file's `tracing`: where spans of requests are sent."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from fairlead.manifest.values import Share, Strict, shown, wrong


def _endpoint(value: object) -> object:
    is_address = isinstance(value, str) and value.startswith(("http://", "https://"))
    if not is_address:
        raise wrong(f"must be an address such as http://127.0.0.1:4318, not {shown(value)}")
    return value


class Tracing(Strict):
    """Spans of requests, for an OpenTelemetry collector."""

    otlp: Annotated[str, Field(max_length=2_000), BeforeValidator(_endpoint)] = Field(
        description=(
            "Endpoint that takes OTLP over HTTP with JSON; `/v1/traces` is put behind it unless it "
            "is there."
        )
    )
    share: Share = Field(
        default=0.05,
        description=(
            "Share of requests that begin a trace; those whose client sends a W3C trace context go "
            "by that."
        ),
    )
