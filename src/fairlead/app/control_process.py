"""The control process: `python -m fairlead.app.control_process SETTINGS_JSON`.

SIGTERM ends it and leaves the replicas running, for the next control process to adopt; SIGINT
stops the replicas too. The supervisor sends the one for a restart, the other for the end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec
import uvicorn

from fairlead.app.heap import keep_trimmed
from fairlead.app.serving import Server, is_alive
from fairlead.app.state import StatePaths, write_private
from fairlead.control.api import create_app
from fairlead.control.metrics.observer_families import read_standing
from fairlead.control.parts import Ground
from fairlead.control.plane import ControlPlane
from fairlead.control.world.hub import SnapshotHub
from fairlead.domain.errors import FairleadError
from fairlead.gateway.front.scrapers import metrics_token
from fairlead.registry import Registry
from fairlead.store import open_store
from fairlead.targets import EveryTarget


class Settings(msgspec.Struct, frozen=True):
    """What the supervisor tells control; the token comes by the environment.

    Attributes:
        workers: How many gateway workers it keeps running.
        gateway_pids: The gateway's processes when control was started. There are more of them than
            workers while old ones end.
    """

    state: str
    listen_fd: int
    gateway_url: str
    supervisor_pid: int
    workers: int
    gateway_pids: tuple[int, ...] = ()


def main() -> None:
    """Run until a signal."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    keep_trimmed()
    # Taken out of the environment, so that no child process inherits it.
    token = os.environ.pop("FAIRLEAD_CONTROL_TOKEN")
    try:
        asyncio.run(_serve(settings, token))
    except FairleadError as error:
        sys.exit(f"control cannot run: {error.one_line}")


async def _serve(settings: Settings, token: str) -> None:
    paths = StatePaths(Path(settings.state))
    # Not for the replicas, which outlive this process and would keep its port.
    listening = socket.socket(fileno=settings.listen_fd)
    listening.set_inheritable(False)
    store = open_store(paths.store_url)
    ground = Ground(
        store=store,
        registry=Registry(paths.registry),
        target=EveryTarget(paths.replicas, supervisor_pid=settings.supervisor_pid, now=time.time),
        hub=SnapshotHub(
            clock=time.monotonic,
            is_alive=is_alive,
            expected_workers=settings.workers,
            expected_pids=settings.gateway_pids,
            wall=time.time,
        ),
        gateway_url=settings.gateway_url,
        now=time.time,
        monotonic=time.monotonic,
        word_vectors=paths.word_vectors,
        service_vectors=paths.service_vectors,
    )
    plane = ControlPlane(ground)
    plane.exposition.observer = plane.platform.observer = lambda: read_standing(paths.observer)
    plane.platform.free_bytes = lambda: _free_bytes(paths.spool)
    write_private(paths.metrics_token, metrics_token(token).encode())
    stop_replicas = False
    server = Server(
        uvicorn.Config(
            create_app(plane, token), lifespan="off", log_level="warning", access_log=False,
            timeout_graceful_shutdown=2,
        )
    )  # fmt: skip

    def end(*, replicas: bool) -> None:
        nonlocal stop_replicas
        stop_replicas = replicas
        server.should_exit = True

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: end(replicas=False))
    loop.add_signal_handler(signal.SIGINT, lambda: end(replicas=True))
    await plane.start(on_broken=lambda: end(replicas=False))
    plane.replica_metrics.start()
    try:
        await server.serve(sockets=[listening])
    finally:
        await plane.replica_metrics.close()
        await plane.close(stop_replicas=stop_replicas)
        store.close()


def _free_bytes(folder: Path) -> int | None:
    """What a process may still write there; None where nobody can say."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


if __name__ == "__main__":
    main()
