"""A gateway worker process: `python -m fairlead.app.gateway_process SETTINGS_JSON`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec

from fairlead.app.state import StatePaths
from fairlead.domain.variables import given
from fairlead.gateway.front.scrapers import Access, access_of, metrics_token
from fairlead.gateway.server import TlsFiles, WorkerSettings, run_worker

_TOKEN_VARIABLE = "FAIRLEAD_CONTROL_TOKEN"  # noqa: S105 - a name, not a secret


class Settings(msgspec.Struct, frozen=True):
    """What the supervisor tells a gateway worker; the token comes by the environment.

    Attributes:
        ready_fd: Where to say that it serves, when it is to take over from a worker that runs.
    """

    state: str
    worker: int
    listen_fd: int
    control_url: str
    drain_s: float
    tls: TlsFiles | None = None
    ready_fd: int | None = None
    memory_bytes_max: int | None = None
    balance_fd: int | None = None
    trace_share: float | None = None
    metrics: Access = "local"


def main() -> None:
    """Run until SIGTERM."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    paths = StatePaths(Path(settings.state))
    # Nothing that runs in this process later, and no replica's settings, can ask for the token.
    token = os.environ.pop(_TOKEN_VARIABLE)
    environ = given(os.environ)
    run_worker(
        WorkerSettings(
            worker=settings.worker,
            boot=f"{settings.worker}-{os.getpid()}-{os.urandom(4).hex()}",
            listen_fd=settings.listen_fd,
            spool_dir=str(paths.spool),
            snapshot_path=str(paths.snapshot),
            metrics_dir=str(paths.metrics),
            control_url=settings.control_url,
            control_token=token,
            drain_s=settings.drain_s,
            local_since_ns=_up_since_ns(paths),
            tls=settings.tls,
            ready_fd=settings.ready_fd,
            memory_bytes_max=settings.memory_bytes_max,
            balance_fd=settings.balance_fd,
            trace_share=settings.trace_share,
            metrics=access_of(settings.metrics, metrics_token(token)),
        ),
        environ,
    )


def _up_since_ns(paths: StatePaths) -> int:
    """When the supervisor of this worker wrote down that it is up, by the file system's clock."""
    try:
        return paths.up.stat().st_mtime_ns
    except OSError:
        return time.time_ns()  # Nobody vouches for the replicas of a kept snapshot.


if __name__ == "__main__":
    main()
