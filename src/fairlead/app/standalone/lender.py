"""Who lends limits to the workers of a gateway that runs alone: its supervisor itself.

The workers speak the protocol that they speak with control, on a loopback port of their own, and
get snapshots and grants from the same hub and ledger. Everything happens on the supervisor's one
thread, while it waits: `wait` runs the event loop. When nobody lends, each worker goes on with what
it holds.

What was used is kept below the spool, in a store of its own; with the spool off, in memory alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hmac
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fairlead.app.listening import url_of
from fairlead.app.serving import Server, is_alive
from fairlead.app.standalone.folder import LIMITS
from fairlead.control.limits.leases import SAVE_EVERY_S, Leases, UseStore
from fairlead.control.world.hub import SnapshotHub
from fairlead.control.world.sync_answers import sync_response
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, FairleadError, StorageFailed, Unavailable
from fairlead.domain.quota import UseRow
from fairlead.wire.snapshot import Snapshot, SyncRequest, declared_limits

HOST = "127.0.0.1"
REPORT_BYTES_MAX = 1 << 20
_PATH = "/internal/v1/sync"
_ENDS_S = 2.0

_log = logging.getLogger("fairlead.gateway")


class InMemory:
    """Where the spool is off: a restart begins anew."""

    def quota_use(self, now: float) -> list[UseRow]:
        """Nothing is known from before."""
        return []

    def put_quota_use(self, rows: Sequence[UseRow], now: float) -> None:
        """It is in the ledger, which is all there is."""


class Lender:
    """Serves the workers while its owner waits in `wait`.

    Args:
        workers: How many workers share the limits.
        spool: Folder of records, below which the use of limits is kept; None for memory alone.
        token: What workers show.
    """

    def __init__(self, workers: int, spool: Path | None, token: str) -> None:
        self._spool = spool
        self._expected = f"Bearer {token}".encode()
        self._hub = SnapshotHub(clock=time.monotonic, is_alive=is_alive, expected_workers=workers)
        self._undo = contextlib.ExitStack()
        self._store: UseStore | None = None
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._is_closing = asyncio.Event()
        self._listening = _listen()
        self.url = url_of(HOST, self._listening)
        self._server = _server(self._sync)
        self._tasks: list[asyncio.Task[None]] = []
        self._trouble = ""

    @property
    def version(self) -> int:
        """Of the newest snapshot; 0 before the first."""
        return 0 if self._hub.snapshot is None else self._hub.snapshot.version

    def start(self) -> None:
        """Serve from now on, whenever the owner waits."""
        self._tasks = [
            self._loop.create_task(self._server.serve(sockets=[self._listening])),
            self._loop.create_task(self._keep_saving()),
        ]

    def on_signal(self, number: signal.Signals, call: Callable[[], None]) -> None:
        """Call this after the signal, during the next `wait`, which ends then."""

        def heard() -> None:
            call()
            self._wake.set()

        self._loop.add_signal_handler(number, heard)

    def publish(self, snapshot: Snapshot) -> None:
        """Give it to all workers; raises StorageFailed and its kind, and publishes nothing then."""
        if self._hub.leases is None and declared_limits(snapshot):
            self._store = self._store or self._open_store()
            leases = Leases(
                self._store,
                self._hub.worker_count,
                now=time.time,
                monotonic=time.monotonic,
            )
            self._loop.run_until_complete(leases.load())
            self._hub.leases = leases
        self._hub.publish(snapshot)

    def wait(self, seconds: float) -> None:
        """Serve for so long, or until a signal.

        Raises what has ended the serving, which never ends by itself: a defect of ours. Then all
        ends in order, rather than that limits are lent to nobody.
        """

        async def pause() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), seconds)

        self._wake.clear()
        self._loop.run_until_complete(pause())
        for task in self._tasks:
            if task.done():
                task.result()

    def close(self) -> None:
        """Keep what is known, and let go of everything."""
        if self._tasks:
            self._server.should_exit = True
            self._is_closing.set()
            serving, saving = self._tasks
            saving.cancel()
            self._loop.run_until_complete(self._end(serving, saving))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            self._loop.remove_signal_handler(number)
        self._loop.close()
        self._listening.close()
        self._undo.close()

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        await asyncio.wait(tasks, timeout=_ENDS_S)
        await self._save(at_once=True)

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            await self._save(at_once=False)

    async def _save(self, *, at_once: bool) -> None:
        """What cannot be kept now is tried again: the limits hold all the same."""
        if self._hub.leases is None:
            return
        try:
            await self._hub.leases.save(at_once=at_once)
            self._trouble = ""
        except FairleadError as error:
            if error.message != self._trouble:
                self._trouble = error.message
                _log.warning("what was used of limits cannot be kept: %s", error.one_line)

    def _open_store(self) -> UseStore:
        if self._spool is None:
            return InMemory()
        from fairlead.store import open_store

        folder = self._spool / LIMITS
        lock = _alone_in(folder)
        try:
            store = open_store(f"sqlite:///{(folder / 'limits.db').absolute()}")
        except BaseException:
            os.close(lock)
            raise
        self._undo.callback(os.close, lock)
        self._undo.callback(store.close)
        return store

    async def _sync(self, request: Request) -> Response:
        """A worker asks for a newer snapshot, and says what it has used."""
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, self._expected):
            return Response(status_code=401)
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > REPORT_BYTES_MAX:
                return Response(status_code=413)
        try:
            asked = decode_json(bytes(data), SyncRequest)
        except msgspec.MsgspecError:
            return Response(status_code=400)
        answer = asyncio.ensure_future(self._hub.sync(asked))
        closing = asyncio.ensure_future(self._is_closing.wait())
        try:
            await asyncio.wait({answer, closing}, return_when=asyncio.FIRST_COMPLETED)
            return sync_response(answer.result() if answer.done() else None)
        finally:
            answer.cancel()
            closing.cancel()


def _listen() -> socket.socket:
    """A port that only this machine reaches; raises Unavailable."""
    try:
        return socket.create_server((HOST, 0))
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {HOST} for the gateway's own workers: {error.strerror}"
        ) from None


def _alone_in(folder: Path) -> int:
    """Keep others from counting here, too; raises Conflict, StorageFailed."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise Conflict(
            f"{folder}: another gateway counts the use of limits here",
            hint="give each gateway a `spool` of its own",
        ) from None
    return lock


def _server(sync: Callable[..., object]) -> Server:
    app = Starlette(routes=[Route(_PATH, sync, methods=["POST"])])
    return Server(
        uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
    )
