"""Replicas as processes of this machine.

The plan decides (`plan.py`), this shell carries out and feeds back what came of it. Each replica
has at most one start or stop and one probe under way, in the background, so that neither
`reconcile` nor the look at the processes ten times a second ever waits for one.

Replicas live in their own folders below the root, and outlive this object: `adopt` finds those
that an earlier control process left running. They end with the supervisor, which they watch
themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path

from fairlead.domain.release import short
from fairlead.domain.replica import ReplicaState, ReplicaStatus, Wanted
from fairlead.targets import lifecycle, process
from fairlead.targets.folder import NotLoopback, Record, ReplicaFolder
from fairlead.targets.lifecycle import Replica
from fairlead.targets.plan import (
    ForgetReplica,
    Instruction,
    KillReplica,
    MarkSurplus,
    ProbeReplica,
    RestartReplica,
    StartReplica,
    StopReplica,
    TakeBack,
    plan,
    upkeep,
)
from fairlead.targets.probe import probe

LOOK_S = 0.1
LOG_LOOK_S = 5.0
STOP_POLL_S = 0.05
KILL_WAIT_S = 5.0
GRACE_S = 15.0

_log = logging.getLogger(__name__)


class LocalTarget:
    """Starts, probes, restarts and stops processes.

    Args:
        root: Folder of the replicas' folders.
        supervisor_pid: The process with which the replicas end; None when they shall outlive all.
        environ: Where variables that replicas keep, and providers' keys, are found.
        now: The time, in Unix seconds.
        grace_s: Seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        root: Path,
        *,
        supervisor_pid: int | None,
        environ: Mapping[str, str],
        now: Callable[[], float] = time.time,
        grace_s: float = GRACE_S,
    ) -> None:
        self._root = root.absolute()
        self._supervisor = supervisor_pid or 0
        self._environ = environ
        self._now = now
        self._grace_s = grace_s
        self._replicas: dict[str, Replica] = {}
        self._kill_reasons: dict[str, str] = {}
        self._work: dict[str, asyncio.Task[None]] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._logs_bounded_at = 0.0
        self._trouble = ""

    async def adopt(self) -> None:
        """Take over what runs, clear away what does not, and begin to look after all of it."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._root.iterdir()):
            folder = ReplicaFolder(path)
            record = folder.load()
            if record is not None and self._runs(record):
                self._put(lifecycle.adopted(record.replica, self._now()))
            else:
                await asyncio.to_thread(folder.remove)
        self._looking = asyncio.create_task(self._look_again_and_again())

    async def reconcile(self, wanted: Sequence[Wanted], may_stop: Callable[[str], bool]) -> None:
        """See `Target.reconcile`."""
        if self._looking is not None and self._looking.done():
            # It never ends by itself: whatever broke it is raised here.
            self._looking.result()
        replicas = list(self._replicas.values())
        stoppable = {r.id for r in replicas if r.state is ReplicaState.SURPLUS and may_stop(r.id)}
        self._execute(plan(wanted, replicas, stoppable, self._now()))
        # Lets the first steps of new starts and stops run.
        await asyncio.sleep(0)

    def replicas(self) -> list[ReplicaStatus]:
        """See `Target.replicas`."""
        return [self._replicas[key].status for key in sorted(self._replicas)]

    async def close(self, *, stop: bool) -> None:
        """See `Target.close`."""
        if self._looking is not None:
            await _end(self._looking)
        for task in list(self._probes.values()):
            await _end(task)
        for key, task in list(self._work.items()):
            # Starts under way take milliseconds. Stops go on, or are left to who adopts next.
            replica = self._replicas.get(key)
            is_stop = replica is not None and replica.state is ReplicaState.STOPPING
            if is_stop and not stop:
                await _end(task)
            elif not is_stop:
                await task
        if stop:
            self._execute([StopReplica(key) for key in self._replicas])
            await asyncio.gather(*self._work.values())

    def _runs(self, record: Record) -> bool:
        """Whether the recorded process runs for this supervisor; one of another is ended."""
        replica = record.replica
        if not replica.pid or process.identity(replica.pid) != replica.identity:
            return False
        if record.supervisor != self._supervisor:
            process.send(replica.pid, replica.identity, signal.SIGKILL)
            return False
        return True

    def _folder(self, replica_id: str) -> ReplicaFolder:
        return ReplicaFolder(self._root / replica_id)

    def _put(self, replica: Replica) -> None:
        """Remember the replica; write it down when more than its probe's time has changed."""
        before = self._replicas.get(replica.id)
        self._replicas[replica.id] = replica
        if before is not None and before.state is replica.state and before.pid == replica.pid:
            return
        if replica.pid:
            # Only the process itself must be known to who adopts it, and that was written
            # before it could run (`_spawn`). What is lost here, probes find out again.
            with contextlib.suppress(OSError):
                self._folder(replica.id).save(Record(self._supervisor, replica))

    def _drop(self, replica_id: str) -> None:
        self._replicas.pop(replica_id, None)
        self._kill_reasons.pop(replica_id, None)
        self._folder(replica_id).remove()

    async def _look_again_and_again(self) -> None:
        while True:
            try:
                self._look()
            except OSError as error:
                # Out of file descriptors, say. It is tried again; said once, not ten times a
                # second.
                if str(error) != self._trouble:
                    _log.error("cannot look at the replicas: %s", error)
                self._trouble = str(error)
            else:
                self._trouble = ""
            self._execute(upkeep(list(self._replicas.values()), self._now()))
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        """See which processes have ended, and which listen by now."""
        for replica in list(self._replicas.values()):
            if replica.pid:
                self._look_at(replica)
        now = self._now()
        if not 0.0 <= now - self._logs_bounded_at < LOG_LOOK_S:
            self._logs_bounded_at = now
            for key in self._replicas:
                with contextlib.suppress(OSError):
                    self._folder(key).bound_log()

    def _look_at(self, replica: Replica) -> None:
        how = process.how_it_ended(replica.pid, replica.identity)
        if how is not None:
            self._has_ended(replica.id, how)
        elif not replica.base_url:
            try:
                base_url = self._folder(replica.id).base_url()
            except NotLoopback as error:
                self._kill(replica.id, str(error))
            else:
                if base_url is not None:
                    self._put(lifecycle.listening(replica, base_url))

    def _has_ended(self, replica_id: str, how: str) -> None:
        replica = self._replicas[replica_id]
        reason = self._kill_reasons.pop(replica_id, how)
        detail = "\n".join(line for line in (reason, self._folder(replica_id).tail()) if line)
        after = lifecycle.ended(replica, detail, self._now())
        if after is None:
            self._drop(replica_id)
            return
        _log.warning("replica %s: %s", replica_id, reason)
        self._put(after)

    def _execute(self, steps: Sequence[Instruction]) -> None:
        for step in steps:
            self._execute_one(step)

    def _execute_one(self, step: Instruction) -> None:
        now = self._now()
        match step:
            case StartReplica(wanted):
                replica_id = f"{short(wanted.engine_digest)}-{secrets.token_hex(4)}"
                self._put(lifecycle.created(replica_id, wanted, now))
                self._background(self._work, replica_id, self._start)
            case RestartReplica(key) if key not in self._work:
                self._put(lifecycle.started_again(self._replicas[key], now))
                self._background(self._work, key, self._start)
            case ProbeReplica(key) if key not in self._probes:
                self._background(self._probes, key, self._probe)
            case KillReplica(key, reason):
                self._kill(key, reason)
            case MarkSurplus(key):
                self._put(lifecycle.unwanted(self._replicas[key], now))
            case TakeBack(key):
                self._put(lifecycle.taken_back(self._replicas[key], now))
            case StopReplica(key) if key not in self._work:
                self._stop_or_drop(key)
            case ForgetReplica(key):
                self._drop(key)
            case _:
                # Already under way.
                pass

    def _background(
        self,
        table: dict[str, asyncio.Task[None]],
        replica_id: str,
        work: Callable[[str], Coroutine[None, None, None]],
    ) -> None:
        task = asyncio.create_task(work(replica_id))
        table[replica_id] = task
        task.add_done_callback(lambda _: table.pop(replica_id, None))

    async def _start(self, replica_id: str) -> None:
        replica = self._replicas[replica_id]
        try:
            started = await asyncio.to_thread(self._spawn, replica)
        except OSError as error:
            self._has_ended(replica_id, f"could not be started: {error}")
            return
        # It may have become surplus meanwhile: only what is new is taken over.
        self._put(
            lifecycle.running(
                self._replicas[replica_id], started.pid, started.identity, self._now()
            )
        )

    def _spawn(self, replica: Replica) -> Replica:
        """In a thread: start the process, write it down, let it run. Raises `OSError`."""
        folder = self._folder(replica.id)
        folder.prepare()
        places = {"{ready_file}": str(folder.ready), "{supervisor_pid}": str(self._supervisor)}
        gate = process.spawn(
            [places.get(word, word) for word in replica.launch.argv],
            folder=folder.path,
            env=process.replica_environment(self._environ, replica.launch.env),
            log=folder.log,
        )
        try:
            known = process.identity(gate.pid) or ""
            started = lifecycle.running(replica, gate.pid, known, self._now())
            folder.save(Record(self._supervisor, started))
        except OSError:
            gate.shut()
            os.waitpid(gate.pid, 0)
            raise
        gate.open()
        return started

    async def _probe(self, replica_id: str) -> None:
        asked = self._replicas[replica_id]
        outcome, detail = await probe(asked.launch, asked.base_url, self._environ)
        replica = self._replicas.get(replica_id)
        if replica is not None and replica.pid == asked.pid:
            self._put(lifecycle.probed(replica, outcome, detail, self._now()))

    def _kill(self, replica_id: str, reason: str) -> None:
        self._kill_reasons.setdefault(replica_id, reason)
        replica = self._replicas[replica_id]
        process.send(replica.pid, replica.identity, signal.SIGKILL)

    def _stop_or_drop(self, replica_id: str) -> None:
        replica = self._replicas[replica_id]
        if not replica.pid:
            self._drop(replica_id)
            return
        self._put(lifecycle.stopping(replica, self._now()))
        self._background(self._work, replica_id, self._stop)

    async def _stop(self, replica_id: str) -> None:
        """SIGTERM, and SIGKILL when the grace is over; ends when the process has ended."""
        replica = self._replicas[replica_id]
        patience = ((signal.SIGTERM, self._grace_s), (signal.SIGKILL, KILL_WAIT_S))
        for number, seconds in patience:
            process.send(replica.pid, replica.identity, number)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if replica_id not in self._replicas:
                    return
                self._look_at(replica)
                await asyncio.sleep(STOP_POLL_S)
        _log.error("replica %s: process %d does not end", replica_id, replica.pid)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
