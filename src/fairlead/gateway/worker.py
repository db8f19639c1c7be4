"""One gateway worker, wired: what lives as long as the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

from fairlead.gateway import errors, limits
from fairlead.gateway.clock import Clock
from fairlead.gateway.copies.capture import Captures
from fairlead.gateway.copies.shadow import Shadows
from fairlead.gateway.front.accepting import Accepting, accept
from fairlead.gateway.front.balance import Balance
from fairlead.gateway.front.client import ClientConnection
from fairlead.gateway.front.connections import Connections, Rounds
from fairlead.gateway.front.request_id import RequestIds
from fairlead.gateway.front.scrapers import MetricsAccess
from fairlead.gateway.front.tls import serving_with
from fairlead.gateway.guardrails.turns import Turns
from fairlead.gateway.quotas.quota_file import QuotaFile
from fairlead.gateway.quotas.quota_gauges import show_limits
from fairlead.gateway.records.gen_ai import with_gen_ai
from fairlead.gateway.records.metric_families import render
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.records.metrics_share import MetricsShare
from fairlead.gateway.records.recorder import OnTraced, Recorder
from fairlead.gateway.records.spool import spool_of
from fairlead.gateway.replicas.fleet import Fleet
from fairlead.gateway.requests.plant import Plant
from fairlead.gateway.requests.tracing import tracing_of
from fairlead.gateway.settings import WorkerSettings
from fairlead.gateway.state.harm import HarmBudgets
from fairlead.gateway.state.loaded import Loaded
from fairlead.gateway.state.snapshot_file import SnapshotFile
from fairlead.gateway.state.sync import SnapshotSync
from fairlead.gateway.streams.batching import Batches
from fairlead.gateway.waiting.admission import Admission
from fairlead.gateway.waiting.deadlines import Deadlines
from fairlead.gateway.waiting.memory import MemoryGuard
from fairlead.wire.quota import Grant
from fairlead.wire.snapshot import Snapshot, SyncRequest

_IDLE_GRACE_S = 0.5
_ACCEPTED_S = 0.1
_FLUSH_S = 1.0


class Worker:
    """Serves until it is stopped. Belongs to the event loop that it is made in.

    What each request reads of it (`operations.Host`) are attributes: a property costs a call.

    Args:
        environ: Where the keys of providers are found (`Endpoint.api_key_env`).
    """

    def __init__(
        self,
        settings: WorkerSettings,
        environ: Mapping[str, str],
        on_traced: OnTraced | None = None,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._label = str(settings.worker)
        self._loop = asyncio.get_running_loop()
        clock = Clock()
        self._batches = Batches(self._loop.call_later, clock.now)
        self._metrics = GatewayMetrics()
        self._queue = Admission(clock, self._metrics)
        self._fleet = Fleet(clock, on_room=self._queue.pump, on_drained=self._drained)
        self._recorder = Recorder(spool_of(settings), clock, self._metrics, on_traced=on_traced)
        deadlines = Deadlines()
        turns = Turns(clock.now, self._loop.call_soon)
        self._shadows = Shadows(clock, deadlines, self._fleet, self._recorder, self._metrics, turns)
        self._captures = Captures(self._recorder)
        self.plant = Plant(
            clock=clock,
            deadlines=deadlines,
            fleet=self._fleet,
            queue=self._queue,
            recorder=self._recorder,
            metrics=self._metrics,
            shadows=self._shadows,
            captures=self._captures,
            batches=self._batches,
            turns=turns,
            tracing=tracing_of(settings.trace_share),
        )
        self._share = MetricsShare(Path(settings.metrics_dir), settings.boot)
        self._file = SnapshotFile(
            Path(settings.snapshot_path), settings.boot, local_since_ns=settings.local_since_ns
        )
        self._sync = self._make_sync()
        self._quota_file = QuotaFile(
            Path(settings.quota_path or f"{settings.snapshot_path}.quota-{settings.worker}"),
            settings.boot,
        )
        self._harms = HarmBudgets()
        self._quotas = self._quota_file.book(settings.worker, self._sync.hurry)
        self._syncing: asyncio.Task[None] | None = None
        self._server: Accepting | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._connections: Connections[ClientConnection] = Connections()
        self._balance = Balance(settings.balance_fd, settings.worker, clock.now)
        self._rounds = Rounds(self._connections, self._loop.call_later, clock.now)
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._held_body_bytes = 0
        self._memory = MemoryGuard(self._metrics, self._label, settings.memory_bytes_max)
        self._boot_ids = RequestIds(os.urandom(32))
        self.loaded: Loaded | None = None
        self._has_snapshot = asyncio.Event()
        self.is_draining = False
        self._is_retired = False
        self.date = b""

    # operations.Host

    @property
    def scrapers(self) -> MetricsAccess:
        return self._settings.metrics

    def connected(self, connection: ClientConnection, address: str) -> bool:
        self._is_empty.clear()
        leaver = self._connections.enter(connection, address)
        self._show_clients()
        if leaver is not None and leaver is not connection:
            leaver.give_way()
        return leaver is not connection

    def recognised(self, connection: ClientConnection) -> None:
        self._connections.known(connection)

    def disconnected(self, connection: ClientConnection) -> None:
        self._connections.leave(connection)
        self._show_clients()
        if not self._connections:
            self._is_empty.set()

    def new_request_id(self, key_id: str) -> str:
        ids = self._boot_ids if self.loaded is None else self.loaded.ids
        return ids.new(key_id)

    def hold_body(self, size: int, held: int = 0) -> bool:
        memory = self._memory
        if (
            size + held > memory.body_bytes_max
            or self._held_body_bytes + size > memory.bodies_bytes_max
        ):
            return False
        self._held_body_bytes += size
        return True

    def let_go_of_body(self, size: int) -> None:
        self._held_body_bytes -= size

    @property
    def memory(self) -> MemoryGuard:
        """What watches this process's memory."""
        return self._memory

    @property
    def held_body_bytes(self) -> int:
        """Bytes of request bodies that are held at this moment."""
        return self._held_body_bytes

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def metrics_page(self) -> bytes:
        self._refresh_gauges()
        return render(with_gen_ai(self._share.total(self._metrics.states())))

    # Life

    async def start(self, listening: socket.socket) -> None:
        """Serve on this socket from now on, on the kept snapshot if there is one."""
        self._share.fold_dead()
        kept = self._file.load()
        if kept is not None:
            self._use(kept)
        self._recorder.start()
        self._sweep()
        self._publish()
        self._syncing = self._loop.create_task(self._sync.run())
        if self._settings.ready_fd is not None:
            await self._report()
        self._server = await accept(
            listening,
            lambda: ClientConnection(self),
            self._balance,
            lambda: len(self._connections),
            serving_with(self._settings.tls),
        )

    async def _report(self) -> None:
        """Wait until control knows of this worker, and there is something to serve.

        Control does not wait for workers that it has not heard of, when it stops a replica.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.REPORT_S):
                await self._sync.has_reported.wait()
        await self._has_snapshot.wait()

    async def failed(self) -> None:
        """Return (by raising) only when a task that never ends has ended: a defect of ours.

        Without it the worker would serve an ever older snapshot; the process ends instead, in
        order, and is started anew.
        """
        assert self._syncing is not None
        await asyncio.shield(self._syncing)

    async def retire(self) -> None:
        """Accept nothing more, and return when the last client has left; then comes `stop`.

        A connection is closed with its next answer, or when it was idle for as long as any may be:
        one that is closed sooner may be just about to be used.
        """
        assert self._server is not None
        self._server.close()
        self.is_draining = self._is_retired = True
        # Another process goes by this number now; added up, the two would be a third version.
        self._metrics.snapshot_version.drop((self._label,))
        # What was accepted in this turn of the loop becomes a connection in one of the next; with
        # TLS only when both sides have shaken hands.
        has_tls = self._settings.tls is not None
        await asyncio.sleep(limits.TLS_HANDSHAKE_S if has_tls else _ACCEPTED_S)
        await self._is_empty.wait()

    async def stop(self) -> None:
        """Accept nothing more, give open requests `drain_s`, write everything down."""
        deadline = self.plant.clock.now() + self._settings.drain_s
        if self._server is not None:
            self._server.close()
        self.is_draining = True
        # A client may be about to use its idle connection: answer that, with `connection: close`.
        was_idle = {connection for connection in self._connections if connection.is_idle}
        while not self._is_empty.is_set() and self.plant.clock.now() < deadline:
            await self._wait_empty(min(deadline, self.plant.clock.now() + _IDLE_GRACE_S))
            is_idle = {connection for connection in self._connections if connection.is_idle}
            for connection in is_idle & was_idle:
                connection.close()
            was_idle = is_idle
        for connection in self._connections:
            connection.shut_down(errors.DRAINING)
        self._shadows.close()
        # Their records are written at the end of this turn, and their last bytes sent after that.
        await asyncio.sleep(0)
        await self._end_sync()
        for timer in self._timers.values():
            timer.cancel()
        self._rounds.close()
        self._captures.close()
        self._recorder.close()
        for connection in self._connections:
            connection.close()
        self._fleet.close()
        self._share.publish(self._metrics.states())
        self._keep_quotas()
        await self._wait_empty(self.plant.clock.now() + _FLUSH_S)

    async def _wait_empty(self, deadline: float) -> None:
        """Until no client is connected, or until the deadline."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - self.plant.clock.now())):
                await self._is_empty.wait()

    async def _end_sync(self) -> None:
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)
            if self._is_retired:
                self._quotas.give_up()  # Its successor holds a part of its own.
            await self._sync.say_last()

    # Snapshots

    def _use(self, snapshot: Snapshot) -> None:
        self._quotas.use(snapshot, self.plant.clock.wall())
        loaded = Loaded(snapshot, self._fleet, self._environ, self._quotas, self._harms)
        if self.loaded is not None:
            self.loaded.retire()
        self.loaded = loaded
        self._has_snapshot.set()
        self._queue.use(loaded)
        self._shadows.use(loaded)
        self._captures.workers = snapshot.workers

    def _make_sync(self) -> SnapshotSync:
        return SnapshotSync(
            self._settings.control_url,
            self._settings.control_token,
            describe=self._describe,
            take=self._use,
            grant=self._granted,
            keep=self._file.keep,
            on_failure=lambda: self._metrics.sync_failures.inc(()),
        )

    def _sync_wait_s(self, *, is_draining: bool) -> float:
        if self._server is None and self._settings.ready_fd is not None:
            return 0.0
        return limits.SYNC_DRAINING_WAIT_S if is_draining else limits.SYNC_WAIT_S

    def _describe(self) -> SyncRequest:
        is_draining = self._fleet.is_draining
        return SyncRequest(
            worker=self._settings.worker,
            boot=self._settings.boot,
            pid=os.getpid(),
            version=self.loaded.snapshot.version if self.loaded is not None else 0,
            open_replicas=self._fleet.open_replicas,
            wait_s=self._sync_wait_s(is_draining=is_draining),
            quota=self._quotas.report(self.plant.clock.wall()),
            at=self.plant.clock.wall(),
            unwritten=self._recorder.unwritten,
            lost=self._recorder.lost,
        )

    def _granted(self, grants: tuple[Grant, ...]) -> None:
        now = self.plant.clock.wall()
        self._quotas.heard(now)
        self._quotas.apply(grants, now)

    def _drained(self) -> None:
        self._sync.hurry()

    # Housekeeping

    def _sweep(self) -> None:
        # The next turn is planned first: a defect in this one must not be the end of them.
        self._timers["sweep"] = self._loop.call_later(limits.SWEEP_EVERY_S, self._sweep)
        self.date = formatdate(time.time(), usegmt=True).encode()
        self._batches.adjust(limits.SWEEP_EVERY_S)
        now = self.plant.clock.now()
        self.plant.deadlines.check(now)
        self._fleet.check(now)
        self._queue.check()
        self._show_clients()
        self._rounds.begin()
        self._memory.check(now, self._connections)

    def _show_clients(self) -> None:
        """Another process may begin to serve under this number, or have begun."""
        if self._server is not None and not self.is_draining:
            self._balance.show(len(self._connections))

    def _publish(self) -> None:
        self._timers["publish"] = self._loop.call_later(limits.METRICS_EVERY_S, self._publish)
        self._refresh_gauges()
        self._share.publish(self._metrics.states())
        self._keep_quotas()

    def _keep_quotas(self) -> None:
        if self._is_retired:
            return  # The file is its successor's.
        self._quota_file.keep(self._quotas.seat, self._quotas.to_keep(self.plant.clock.wall()))

    def _refresh_gauges(self) -> None:
        version = self.loaded.snapshot.version if self.loaded is not None else 0
        if not self.is_draining:
            self._metrics.snapshot_version.set((self._label,), version)
        self._metrics.open_requests.set(
            (self._label,), self._recorder.open_count - self._captures.open_count
        )
        self._metrics.connections.set((self._label,), len(self._connections))
        self._metrics.batching.set((self._label,), self._batches.delay_s)
        for service, depth in self._queue.depths().items():
            self._metrics.queue_depth.set((service, self._label), depth)
        self._memory.show()
        show_limits(self._metrics, self._quotas, self._label, self.plant.clock.wall())
