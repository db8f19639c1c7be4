"""A worker of a gateway that runs alone: `python -m ….worker_process JSON`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from fairlead.gateway.server import WorkerSettings, run_worker

SNAPSHOT = "snapshot.json"
METRICS = "metrics"
_OWN_PREFIX = "FAIRLEAD_"


class Settings(msgspec.Struct, frozen=True):
    """What the supervisor tells a worker.

    Attributes:
        run: Folder with the snapshot and the workers' metrics.
        spool: Folder for records; None keeps none.
    """

    worker: int
    listen_fd: int
    run: str
    spool: str | None
    drain_s: float


def main() -> None:
    """Run until SIGTERM."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    environ = {n: value for n, value in os.environ.items() if not n.startswith(_OWN_PREFIX)}
    run_worker(
        WorkerSettings(
            worker=settings.worker,
            boot=f"{settings.worker}-{os.getpid()}-{os.urandom(4).hex()}",
            listen_fd=settings.listen_fd,
            spool_dir=settings.spool,
            snapshot_path=str(Path(settings.run) / SNAPSHOT),
            metrics_dir=str(Path(settings.run) / METRICS),
            control_url=None,
            control_token="",
            drain_s=settings.drain_s,
        ),
        environ,
    )


if __name__ == "__main__":
    main()
