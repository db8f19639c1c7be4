"""A running installation as the command line sees it: a state folder that is locked, addresses, a
token, and control's API behind them. Control is the real one, in a thread, on a simulated target.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvicorn

from control.answering_replica import AnsweringReplica
from control.simulated_world import SimulatedTarget, SimulatedWorker, World
from fairlead.app.state import StatePaths, UpInfo, write_private
from fairlead.control.api import create_app
from fairlead.control.parts import Ground
from fairlead.control.plane import ControlPlane
from fairlead.control.world.hub import SnapshotHub
from fairlead.registry import Registry
from fairlead.store import open_store

BANKING = Path(__file__).parents[2] / "examples" / "banking"
TOKEN = "control-token"


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


class Installation:
    """Control in a thread, with workers that acknowledge and replicas that answer."""

    def __init__(self, root: Path, digests: dict[str, str]) -> None:
        self.paths = StatePaths(root)
        self.digests = digests
        self.replica = AnsweringReplica()
        self._stack = ExitStack()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._stack.enter_context(self.paths.locked())
        write_private(self.paths.token, TOKEN.encode())
        self._thread.start()
        assert self._ready.wait(60), "control does not come up"

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self.replica.close()
        self._stack.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        store = open_store(self.paths.store_url)
        world = World(store, Registry(self.paths.registry), self.digests)
        world.now = time.time()
        target = SimulatedTarget(world)
        target.base_urls = lambda _engine: self.replica.url
        hub = SnapshotHub(clock=time.monotonic, is_alive=lambda _pid: True)
        ground = Ground(
            store=store, registry=world.registry, target=target, hub=hub,
            gateway_url="http://127.0.0.1:7600", now=time.time, monotonic=time.monotonic,
        )  # fmt: skip
        plane = ControlPlane(ground)
        config = uvicorn.Config(
            create_app(plane, TOKEN), host="127.0.0.1", port=0, lifespan="off",
            log_level="error", timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        await plane.start()
        serving = asyncio.create_task(server._serve())
        while not server.started:  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        self._tell(f"http://127.0.0.1:{port}")
        workers = [SimulatedWorker(0), SimulatedWorker(1)]
        while not self._stop.is_set():
            target.step()
            for worker in workers:
                await worker.sync(hub)
            plane.wake()
            await asyncio.sleep(0.02)
        server.should_exit = True
        await serving
        await plane.close(stop_replicas=True)
        store.close()

    def _tell(self, url: str) -> None:
        info = UpInfo(1, "http://127.0.0.1:9", url)
        write_private(self.paths.up, msgspec.json.encode(info))
        self._ready.set()
