"""How requests come to llama.cpp replicas: through the gateway, or by a rule that it has not."""

from __future__ import annotations

import http.client
import itertools
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fairlead.domain.api_keys import api_key_digest
from fairlead.gateway.replicas.affinity import BOUND, prefix_of, rank
from fairlead.wire.record import RequestRecord, decode_record
from fairlead.wire.spool import MAGIC, frames

SLOTS = 4
START_S, END_S = 60.0, 30.0
KEY = "fl-benchmark"
PATH = "/v1/chat/completions"


@dataclass(eq=False)
class Replica:
    """A running replica; what a choice needs to know of it."""

    id: str
    port: int
    slots: int = SLOTS
    in_flight: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


class Unanswered(Exception):
    """A request was not answered well; in a thread of the load, so that it is no end by itself."""


class Way(Protocol):
    """How requests come to the replicas."""

    def ask(self, body: dict[str, Any]) -> Any:
        """The answer to a request."""

    def answered(self) -> Counter[str]:
        """How many requests each replica has answered, once it is over."""


class ByHash:
    """Consistent hashing with bounded loads, by rendezvous; nothing is remembered."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._lock = threading.Lock()
        self._answered: Counter[str] = Counter()

    def ask(self, body: dict[str, Any]) -> Any:
        """Of the replica that ranks highest and has room."""
        data = json.dumps({**body, "model": "m"}).encode()
        prefix = prefix_of(data)
        assert prefix is not None
        with self._lock:
            all_open = sum(r.in_flight for r in self._replicas) + 1
            bound = math.ceil(BOUND * all_open / len(self._replicas))
            free = [r for r in self._replicas if r.in_flight < min(bound, r.slots)]
            chosen = max(free, key=lambda r: rank(prefix.start, r.id))
            chosen.in_flight += 1
        try:
            return ask(chosen.port, data)
        finally:
            with self._lock:
                chosen.in_flight -= 1
                self._answered[chosen.id] += 1

    def answered(self) -> Counter[str]:
        """As it was chosen."""
        return self._answered


class Gateway:
    """`fairlead gateway run` before the replicas.

    Args:
        balance: As a gateway file has it; "" for one service per replica, asked in turns.
    """

    def __init__(
        self, folder: Path, replicas: Sequence[Replica], balance: str, workers: int
    ) -> None:
        self._folder = folder
        groups = [list(replicas)] if balance else [[replica] for replica in replicas]
        services = [
            {
                "name": f"s{number}",
                "releases": [
                    {
                        "name": "r",
                        "replicas": [{"url": r.url, "slots": r.slots} for r in group],
                        "engine": "llama.cpp",
                    }
                ],
                **({"balance": balance} if balance else {}),
            }
            for number, group in enumerate(groups)
        ]
        # JSON is YAML.
        (folder / "gateway.yaml").write_text(
            json.dumps(
                {
                    "listen": "127.0.0.1:0",
                    "workers": workers,
                    "keys": [{"name": "benchmark", "sha256": api_key_digest(KEY)}],
                    "services": services,
                    "spool": "records",
                }
            )
        )
        self._names = itertools.cycle(str(service["name"]) for service in services)
        self._lock = threading.Lock()
        self._log = folder / "gateway.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-P", "-m", "fairlead", "gateway", "run",
                    "--config", str(folder / "gateway.yaml"),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._port = self._await_port()

    def _await_port(self) -> int:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            said = self._log.read_text()
            found = re.search(r"gateway at http://127\.0\.0\.1:(\d+)/v1", said)
            if found and "service " in said:
                return int(found[1])
            time.sleep(0.05)
        self.stop()
        raise SystemExit(f"the gateway did not start:\n{self._log.read_text()}")

    def ask(self, body: dict[str, Any]) -> Any:
        """On a connection of its own, which any worker may accept."""
        with self._lock:
            name = next(self._names)
        return ask(self._port, json.dumps({**body, "model": name}).encode())

    def answered(self) -> Counter[str]:
        """By the gateway's own records."""
        self.stop()
        found: Counter[str] = Counter()
        for segment in (self._folder / "records").glob("**/*.seg"):
            for _, payload in frames(segment.read_bytes(), len(MAGIC)):
                record = decode_record(payload)
                if isinstance(record, RequestRecord):
                    found[record.replica] += 1
        return found

    def stop(self) -> None:
        """End it with its workers."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(END_S)


def ask(port: int, body: bytes) -> Any:
    """The answer, decoded; raises Unanswered."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", PATH, body, headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    if response.status != 200:
        raise Unanswered(f"answered {response.status}: {data[:300]!r}")
    return json.loads(data)
