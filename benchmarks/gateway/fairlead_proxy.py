"""fairlead as the supervisor starts it, with every feature on, and no control plane to ask.

The worker is the real process (`fairlead.app.gateway_process`) on a state folder in which the
snapshot lies ready: an API key, limits on requests, tokens and money, prices, a champion and a
canary, records to a spool on disk.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gateway.processes import READY_S, BenchmarkFailed, Running, wait_answering
from benchmarks.gateway.traffic import KEY, KEY_SHA256, SERVICE, chat_request
from msgspec.structs import replace

from fairlead.app.state import StatePaths
from fairlead.domain.quota import USD_MAX, Price, Quota
from fairlead.gateway.front.balance import shared_counts
from fairlead.wire.record import RequestRecord, decode_record
from fairlead.wire.snapshot import (
    Endpoint,
    KeyEntry,
    Limits,
    ReleaseRoute,
    ServiceRoute,
    Snapshot,
    encode_snapshot,
)
from fairlead.wire.spool import MAGIC, frames

CANARY_SHARE = 0.2
CHAMPION = "sha256:" + "a" * 64
CANARY = "sha256:" + "b" * 64
PRICE = Price(input_per_million=0.15, output_per_million=0.6)
_MANY = 1_000_000_000
"""A limit that is counted, but never reached."""
_BACKLOG = 4096


class FairleadGateway:
    """One listening socket and the workers on it.

    Args:
        cores: One worker on each.
        upstreams: Ports on loopback; each is a replica of both releases.
        slots: Requests that each replica serves at the same time.
        compiled: The folder of the compiled package, if that is what is to be run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cores: Sequence[int],
        upstreams: Sequence[int],
        slots: int,
        compiled: Path | None = None,
    ) -> None:
        self._compiled = compiled
        self._paths = StatePaths(folder / "state")
        self._paths.create()
        self._prepare(upstreams, slots, len(cores))
        # Control is down: a port that is taken, and on which nothing listens.
        self._control = socket.socket()
        self._control.bind(("127.0.0.1", 0))
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(_BACKLOG)
        self.port = int(self._listening.getsockname()[1])
        self._balance = shared_counts(len(cores))
        self.workers: list[Running] = []
        try:
            for number, core in enumerate(cores):
                self.workers.append(self._start(number, core, folder))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.stop()
        self._listening.close()
        self._control.close()
        if self._balance is not None:
            os.close(self._balance)

    def wait_ready(self) -> None:
        """Until every worker has the socket; raises BenchmarkFailed."""
        for worker in self.workers:
            wait_answering(worker, self.port, chat_request(0), KEY)
            self.check_build(worker)
        deadline = time.monotonic() + READY_S
        # A worker shows its metrics at the moment at which it begins to serve.
        while len(list(self._paths.metrics.glob("*.metrics"))) < len(self.workers):
            if time.monotonic() > deadline:
                raise BenchmarkFailed("a worker did not start")
            time.sleep(0.1)

    def check_build(self, worker: Running) -> None:
        """Raises BenchmarkFailed when it is not the build that is to be measured."""
        is_compiled = "__mypyc" in Path(f"/proc/{worker.pid}/maps").read_text(encoding="utf-8")
        if is_compiled is not (self._compiled is not None):
            raise BenchmarkFailed(f"the worker is {'' if is_compiled else 'not '}compiled")

    def split(self) -> tuple[int, int]:
        """How many requests were recorded, and how many of them were the canary's.

        Raises BenchmarkFailed when an answer was not counted in money.
        """
        records, canary = 0, 0
        for segment in self._paths.spool.glob("*/*.seg"):
            for _, payload in frames(segment.read_bytes(), len(MAGIC)):
                record = decode_record(payload)
                if isinstance(record, RequestRecord):
                    if record.status == 200 and record.cost_usd <= 0:
                        raise BenchmarkFailed("a record without its cost: not all was on")
                    records += 1
                    canary += record.arm == "canary"
        return records, canary

    def _prepare(self, upstreams: Sequence[int], slots: int, workers: int) -> None:
        self._paths.up.write_text("{}")
        os.utime(self._paths.up, (1, 1))  # The snapshot is newer: its replicas are the present.
        self._paths.snapshot.write_bytes(encode_snapshot(everything(upstreams, slots, workers)))

    def _start(self, number: int, core: int, folder: Path) -> Running:
        control_port = self._control.getsockname()[1]
        settings = {
            "state": str(self._paths.root),
            "worker": number,
            "listen_fd": self._listening.fileno(),
            "control_url": f"http://127.0.0.1:{control_port}",
            "drain_s": 1.0,
            "balance_fd": self._balance,
        }
        inherited = [self._listening.fileno(), self._balance]
        return Running(
            [sys.executable, "-m", "fairlead.app.gateway_process", json.dumps(settings)],
            folder / f"worker-{number}.log",
            core=core,
            environ=self._environ(),
            pass_fds=[given for given in inherited if given is not None],
        )

    def _environ(self) -> dict[str, str]:
        environ = {"FAIRLEAD_CONTROL_TOKEN": "benchmark"}
        if self._compiled is not None:
            environ["PYTHONPATH"] = str(self._compiled)
        return environ


def everything(upstreams: Sequence[int], slots: int, workers: int = 1) -> Snapshot:
    """With limits on requests, tokens and money, of the key and of the service, and prices."""
    served = snapshot(upstreams, slots, workers)
    service = served.services[SERVICE]
    of_key = Quota(requests_per_minute=_MANY, tokens_per_minute=_MANY, usd_per_month=USD_MAX)
    of_service = Quota(tokens_per_day=10 * _MANY, usd_per_day=USD_MAX)
    releases = {
        digest: replace(release, price=PRICE) for digest, release in service.releases.items()
    }
    limits = replace(service.limits, quota=of_service)
    service = replace(service, releases=releases, limits=limits)
    keys = tuple(replace(key, quota=of_key) for key in served.keys)
    return replace(served, keys=keys, services={SERVICE: service})


def snapshot(upstreams: Sequence[int], slots: int, workers: int = 1) -> Snapshot:
    """A rollout at its second phase: champion and canary, on the same upstreams."""
    releases = {
        digest: ReleaseRoute(
            digest=digest,
            name=name,
            endpoints=tuple(
                Endpoint(
                    replica=f"{name}-{number}", base_url=f"http://127.0.0.1:{port}", slots=slots
                )
                for number, port in enumerate(upstreams)
            ),
        )
        for name, digest in (("champion", CHAMPION), ("canary", CANARY))
    }
    service = ServiceRoute(
        name=SERVICE,
        releases=releases,
        champion=CHAMPION,
        canary=CANARY,
        canary_share=CANARY_SHARE,
        rollout="ro-bench",
        phase=2,
        salt="bench",
        limits=Limits(queue=4096),
    )
    limit = Quota(requests_per_minute=_MANY)
    key = KeyEntry(id="k1", name="bench", sha256=KEY_SHA256, quota=limit)
    return Snapshot(
        version=1,
        request_id_key="11" * 32,
        keys=(key,),
        services={SERVICE: service},
        workers=workers,
    )
