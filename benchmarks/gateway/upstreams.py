"""The upstreams: nginx with a fixed completion, and a fast server of event streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway import nginx
from benchmarks.gateway.processes import Running, free_port, tool, wait_answering
from benchmarks.gateway.traffic import KEY, chat_request


@contextlib.contextmanager
def fixed_completion(folder: Path, core: int) -> Iterator[int]:
    """nginx that says the same to everything; yields its port."""
    folder.mkdir(parents=True)
    port = free_port()
    with _answering(nginx.upstream_command(folder, port), folder, core, port):
        yield port


@contextlib.contextmanager
def event_streams(
    folder: Path, core: int, *, streams: int, events_per_s: int
) -> Iterator[tuple[int, Running]]:
    """The server of `sse_server.py`; yields its port, and the process."""
    folder.mkdir(parents=True)
    port = free_port()
    command = tool("sse_server", port, streams, events_per_s)
    with _answering(command, folder, core, port) as running:
        yield port, running


@contextlib.contextmanager
def _answering(command: list[str], folder: Path, core: int, port: int) -> Iterator[Running]:
    running = Running(command, folder / "log", core=core)
    try:
        wait_answering(running, port, chat_request(0), KEY)
        yield running
    finally:
        running.stop()
