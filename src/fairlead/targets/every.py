"""All targets of one machine as one: what has a URL of its own is remote, the rest is local."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fairlead.domain.replica import ReplicaStatus, Wanted
from fairlead.targets.local import LocalTarget
from fairlead.targets.remote import RemoteTarget


class EveryTarget:
    """Hands each wish to the target that can fulfil it.

    Args:
        root: Folder of the local replicas.
        supervisor_pid: The process with which local replicas end.
        now: The time, in Unix seconds.
        environ: Variables of this process, by default those at this moment.
    """

    def __init__(
        self,
        root: Path,
        *,
        supervisor_pid: int | None,
        now: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        known = dict(os.environ) if environ is None else environ
        self._local = LocalTarget(root, supervisor_pid=supervisor_pid, environ=known, now=now)
        self._remote = RemoteTarget(environ=known, now=now)

    async def adopt(self) -> None:
        """See `Target.adopt`."""
        await self._local.adopt()
        await self._remote.adopt()

    async def reconcile(self, wanted: Sequence[Wanted], may_stop: Callable[[str], bool]) -> None:
        """See `Target.reconcile`."""
        local = [wish for wish in wanted if wish.launch.base_url is None]
        remote = [wish for wish in wanted if wish.launch.base_url is not None]
        await self._local.reconcile(local, may_stop)
        await self._remote.reconcile(remote, may_stop)

    def replicas(self) -> list[ReplicaStatus]:
        """See `Target.replicas`."""
        return [*self._local.replicas(), *self._remote.replicas()]

    async def close(self, *, stop: bool) -> None:
        """See `Target.close`."""
        await self._remote.close(stop=stop)
        await self._local.close(stop=stop)
