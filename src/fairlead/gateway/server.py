"""A gateway worker as a process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Mapping
from typing import Literal

import uvloop

from fairlead.gateway.limits import CONNECTIONS_MAX
from fairlead.gateway.records.recorder import OnTraced
from fairlead.gateway.settings import TlsFiles, WorkerSettings
from fairlead.gateway.worker import Worker

__all__ = ["TlsFiles", "WorkerSettings", "run_worker"]


def run_worker(
    settings: WorkerSettings,
    environ: Mapping[str, str],
    *,
    on_traced: OnTraced | None = None,
) -> None:
    """Serve until SIGTERM (or SIGINT); open requests then have `drain_s` seconds to end.

    After SIGUSR1 it accepts nothing more, and ends when its last client has left.

    Args:
        environ: Where the keys of providers are found. A snapshot names the variables, so nothing
            that is not for providers may be in it.
        on_traced: Is given the records that are traced, where nobody reads them from the spool;
            must not wait.
    """
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s gateway-{settings.worker} %(message)s",
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, environ, on_traced))


def _allow_descriptors() -> None:
    """Each client and each replica's connection is a file descriptor: take as many as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * CONNECTIONS_MAX
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _serve(
    settings: WorkerSettings,
    environ: Mapping[str, str],
    on_traced: OnTraced | None,
) -> None:
    loop = asyncio.get_running_loop()
    _allow_descriptors()
    stop, retire = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, retire.set)
    # The descriptor that was handed over, and no duplicate: once the worker has closed it, nothing
    # of this process listens any more, and another `up` can have the port while requests end here.
    listening = socket.socket(fileno=settings.listen_fd)
    listening.set_inheritable(False)
    listening.setblocking(False)
    worker = Worker(settings, environ, on_traced)
    stopping = loop.create_task(stop.wait())
    starting = loop.create_task(worker.start(listening))
    await _first_of(starting, stopping)
    if not starting.done():
        starting.cancel()
        await worker.stop()
        return
    starting.result()
    spare_collector()
    _say_ready(settings)
    failing = loop.create_task(worker.failed())
    retiring = loop.create_task(retire.wait())
    await _first_of(stopping, failing, retiring)
    if retire.is_set():
        await _first_of(stopping, failing, loop.create_task(worker.retire()))
    await worker.stop()
    if failing.done() and not failing.cancelled():
        failing.result()
    failing.cancel()


def spare_collector() -> None:
    """Let the garbage collector look at nothing of what a worker has when it begins to serve.

    That is nearly all it ever has, and stays; to look at all of it takes some milliseconds, in
    which no request moves on.
    """
    gc.collect()
    gc.freeze()


async def _first_of(*tasks: asyncio.Task[None] | asyncio.Task[Literal[True]]) -> None:
    """Wait until one of them is done."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def _say_ready(settings: WorkerSettings) -> None:
    if settings.ready_fd is not None:
        with os.fdopen(settings.ready_fd, "wb") as pipe:
            pipe.write(b"serves\n")
