"""A worker of a gateway that runs alone: `python -m ….worker_process JSON`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fairlead.app.standalone.folder import METRICS, SNAPSHOT
from fairlead.domain.variables import given
from fairlead.gateway.front.scrapers import MetricsAccess
from fairlead.gateway.server import TlsFiles, WorkerSettings, run_worker

if TYPE_CHECKING:
    from fairlead.observer.otlp import SpanSender

TOKEN_VARIABLE = "FAIRLEAD_CONTROL_TOKEN"  # noqa: S105 - a name, not a secret
SEND_S = 3.0
"""For so long a worker that ends sends what spans it has."""


class Settings(msgspec.Struct, frozen=True):
    """What the supervisor tells a worker; the lender's token comes by the environment.

    Attributes:
        run: Folder with the snapshot and the workers' metrics.
        spool: Folder for records; None keeps none.
        limits: Folder in which the worker keeps its part of limits.
        lender_url: Where it asks for snapshots and its part of limits.
        tls: HTTPS with these files; None for plain HTTP.
        otlp: Where the worker sends spans of its requests; empty for nowhere.
        trace_share: Share of requests that begin a trace; None traces nothing.
        ready_fd: Where to say that it serves, when it is to take over from a worker that runs.
    """

    worker: int
    listen_fd: int
    run: str
    spool: str | None
    limits: str
    lender_url: str
    drain_s: float
    tls: TlsFiles | None = None
    ready_fd: int | None = None
    memory_bytes_max: int | None = None
    balance_fd: int | None = None
    metrics: MetricsAccess = MetricsAccess()
    otlp: str = ""
    trace_share: float | None = None


def main() -> None:
    """Run until SIGTERM."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    token = os.environ.pop(TOKEN_VARIABLE)
    environ = given(os.environ)
    ready = settings.ready_fd
    sender = _sender(settings.otlp) if settings.otlp else None
    run_worker(
        WorkerSettings(
            worker=settings.worker,
            boot=f"{settings.worker}-{os.getpid()}-{os.urandom(4).hex()}",
            listen_fd=settings.listen_fd,
            spool_dir=settings.spool,
            snapshot_path=str(Path(settings.run) / SNAPSHOT),
            metrics_dir=str(Path(settings.run) / METRICS),
            quota_path=str(Path(settings.limits) / f"worker-{settings.worker}.json"),
            control_url=settings.lender_url,
            control_token=token,
            drain_s=settings.drain_s,
            tls=settings.tls,
            # Also one that takes over from nobody serves only when the lender has told it what is
            # left of limits; then nobody waits for what it says.
            ready_fd=os.open(os.devnull, os.O_WRONLY) if ready is None else ready,
            memory_bytes_max=settings.memory_bytes_max,
            balance_fd=settings.balance_fd,
            metrics=settings.metrics,
            trace_share=settings.trace_share,
        ),
        environ,
        on_traced=None if sender is None else sender.offer,
    )
    if sender is not None:
        sender.finish(SEND_S)


def _sender(endpoint: str) -> SpanSender:
    # Only here: who traces nothing needs none of it in memory.
    from fairlead.observer.otlp import SpanSender, parse_endpoint

    sender = SpanSender(parse_endpoint(endpoint))
    sender.start()
    return sender


if __name__ == "__main__":
    main()
