"""A gateway worker as a process."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping

import uvloop

from fairlead.gateway.settings import WorkerSettings
from fairlead.gateway.worker import Worker

__all__ = ["WorkerSettings", "run_worker"]


def run_worker(settings: WorkerSettings, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM (or SIGINT); open requests then have `drain_s` seconds to end.

    Args:
        environ: Where the keys of providers are found. A snapshot names the variables, so nothing
            that is not for providers may be in it.
    """
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s gateway-{settings.worker} %(message)s",
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, environ))


async def _serve(settings: WorkerSettings, environ: Mapping[str, str]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # The descriptor that was handed over, and no duplicate: once the worker has closed it, nothing
    # of this process listens any more, and another `up` can have the port while requests end here.
    listening = socket.socket(fileno=settings.listen_fd)
    listening.set_inheritable(False)
    listening.setblocking(False)
    worker = Worker(settings, environ)
    await worker.start(listening)
    stopping = loop.create_task(stop.wait())
    failing = loop.create_task(worker.failed())
    await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
    await worker.stop()
    if failing.done() and not failing.cancelled():
        failing.result()
    failing.cancel()
