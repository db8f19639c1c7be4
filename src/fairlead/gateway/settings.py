"""Settings of one gateway worker, declared once."""

from __future__ import annotations

import msgspec

from fairlead.gateway.front.scrapers import MetricsAccess


class TlsFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """TLS on the front, as PEM files.

    Attributes:
        cert: The certificate, followed by the chain of its issuers.
        key: Its private key.
        client_ca: Authorities; only clients with a certificate of one of them are let in. None
            asks for none.
    """

    cert: str
    key: str
    client_ca: str | None = None


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker is told when it starts.

    Attributes:
        worker: Number of the worker, 0 upwards.
        boot: Id of this life of the worker; also the name of its spool folder.
        listen_fd: A bound and listening TCP socket, shared by all workers.
        spool_dir: Folder below which the worker makes its own spool folder; None records
            nothing.
        snapshot_path: File in which the last snapshot is kept.
        metrics_dir: Folder in which the workers show each other their metrics.
        quota_path: File in which the worker keeps its part of limits; None for one beside the
            snapshot.
        control_url: `http://host:port` of the control plane, or of who stands in for it.
        control_token: Bearer token for the control plane's internal interface.
        local_since_ns: Unix time in nanoseconds at which this installation was started. A snapshot
            kept before it names replicas of this machine that have ended since, so their loopback
            endpoints are left out until control has sent the present ones. 0 leaves out none.
        tls: Serve HTTPS with these files; None serves plain HTTP.
        ready_fd: Set, for one, when another process serves under the same number until this one
            does. It begins to serve only when it has a snapshot and control has been told of it (or
            could not be, for `limits.REPORT_S`), and then writes a line here.
        drain_s: Seconds that open requests are given after SIGTERM.
        balance_fd: Memory in which the workers show each other how many clients they have (see
            `fairlead.gateway.front.balance`); None for a worker that is alone.
        memory_bytes_max: Resident memory that the worker may have; near it, it takes in less
            (`fairlead.gateway.waiting.memory`). None for a share of what the machine or container
            has.
        metrics: Who may read metrics.
        trace_share: Share of requests that begin a trace of their own, from 0 to 1; those whose
            client sends a W3C trace context go by that. None traces nothing.
    """

    worker: int
    boot: str
    listen_fd: int
    spool_dir: str | None
    snapshot_path: str
    metrics_dir: str
    control_url: str
    control_token: str
    drain_s: float = 15.0
    local_since_ns: int = 0
    tls: TlsFiles | None = None
    ready_fd: int | None = None
    quota_path: str | None = None
    memory_bytes_max: int | None = None
    balance_fd: int | None = None
    trace_share: float | None = None
    metrics: MetricsAccess = MetricsAccess()

    def __repr__(self) -> str:
        """Without the token, so that it cannot end up in a log."""
        return f"WorkerSettings(worker={self.worker}, boot={self.boot!r})"
