"""Replicas that run elsewhere: nothing is started or stopped, probes say whether they answer.

An endpoint is one replica, however many are wanted: more of them would be the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from fairlead.domain.release import short
from fairlead.domain.replica import ReplicaState, ReplicaStatus, Wanted
from fairlead.targets import lifecycle
from fairlead.targets.lifecycle import Replica
from fairlead.targets.plan import (
    ForgetReplica,
    Instruction,
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

LOOK_S = 0.25


class RemoteTarget:
    """Watches OpenAI-compatible endpoints.

    Args:
        environ: Where the providers' keys are found.
        now: The time, in Unix seconds.
    """

    def __init__(self, *, environ: Mapping[str, str], now: Callable[[], float] = time.time) -> None:
        self._environ = environ
        self._now = now
        self._replicas: dict[str, Replica] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def adopt(self) -> None:
        """Begin to probe; there is nothing to take over."""
        self._looking = asyncio.create_task(self._look_again_and_again())

    async def reconcile(self, wanted: Sequence[Wanted], may_stop: Callable[[str], bool]) -> None:
        """See `Target.reconcile`."""
        if self._looking is not None and self._looking.done():
            # It never ends by itself: whatever broke it is raised here.
            self._looking.result()
        once = [msgspec.structs.replace(wish, count=min(1, wish.count)) for wish in wanted]
        replicas = list(self._replicas.values())
        stoppable = {r.id for r in replicas if r.state is ReplicaState.SURPLUS and may_stop(r.id)}
        for step in plan(once, replicas, stoppable, self._now()):
            self._execute(step)
        await asyncio.sleep(0)

    def replicas(self) -> list[ReplicaStatus]:
        """See `Target.replicas`."""
        return [self._replicas[key].status for key in sorted(self._replicas)]

    async def close(self, *, stop: bool) -> None:
        """See `Target.close`; `stop` makes no difference to what runs elsewhere."""
        for task in [self._looking, *self._probes.values()]:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if stop:
            self._replicas.clear()

    async def _look_again_and_again(self) -> None:
        while True:
            for step in upkeep(list(self._replicas.values()), self._now()):
                self._execute(step)
            await asyncio.sleep(LOOK_S)

    def _execute(self, step: Instruction) -> None:
        now = self._now()
        match step:
            case StartReplica(wanted):
                # The same id after a restart of control: the gateway's routes stay as they are.
                replica_id = f"remote-{short(wanted.engine_digest)}"
                self._replicas[replica_id] = lifecycle.created(replica_id, wanted, now)
            case RestartReplica(key):
                self._replicas[key] = lifecycle.started_again(self._replicas[key], now)
            case ProbeReplica(key) if key not in self._probes:
                task = asyncio.create_task(self._probe(key))
                self._probes[key] = task
                task.add_done_callback(lambda _: self._probes.pop(key, None))
            case MarkSurplus(key):
                self._replicas[key] = lifecycle.unwanted(self._replicas[key], now)
            case TakeBack(key):
                self._replicas[key] = lifecycle.taken_back(self._replicas[key], now)
            case StopReplica(key) | ForgetReplica(key):
                del self._replicas[key]
            case _:
                # Without a process there is nothing to kill.
                pass

    async def _probe(self, replica_id: str) -> None:
        asked = self._replicas[replica_id]
        outcome, detail = await probe(asked.launch, asked.base_url, self._environ)
        replica = self._replicas.get(replica_id)
        if replica is not None:
            self._replicas[replica_id] = lifecycle.probed(replica, outcome, detail, self._now())
