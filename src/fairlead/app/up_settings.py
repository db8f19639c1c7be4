"""What `fairlead up` can be told."""

from __future__ import annotations

import msgspec

from fairlead.gateway.front.scrapers import Access
from fairlead.gateway.settings import TlsFiles

TELEMETRY_DAYS = 400
"""More than a year, so that a week can be compared with that of a year ago."""

TRACE_SHARE = 0.05


class UpSettings(msgspec.Struct, frozen=True):
    """How to run one installation.

    Attributes:
        host: Address of the gateway; loopback unless the user says otherwise.
        control_host: Address of the control API, likewise.
        gateway_port, control_port: 0 lets the system choose.
        workers: Gateway worker processes.
        tls: HTTPS on the gateway; None for plain HTTP.
        drain_s: Seconds that open requests have when the gateway stops.
        worker_memory_mb: Resident memory that each gateway worker may have, in megabytes; None for
            an equal part of most of what the machine or container has.
        telemetry_days: Days for which the telemetry store keeps records; 0 for no such store.
        otlp: OTLP endpoint to which traces are sent; empty to trace nothing.
        trace_share: Share of requests that begin a trace of their own, from 0 to 1.
        metrics: Who may read the gateway's metrics.
    """

    host: str = "127.0.0.1"
    control_host: str = "127.0.0.1"
    gateway_port: int = 7600
    control_port: int = 7601
    workers: int = 2
    drain_s: float = 15.0
    tls: TlsFiles | None = None
    worker_memory_mb: int | None = None
    telemetry_days: int = TELEMETRY_DAYS
    otlp: str = ""
    trace_share: float = TRACE_SHARE
    metrics: Access = "local"
