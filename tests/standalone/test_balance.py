"""Two workers that accept from one socket have about as many clients each."""

from __future__ import annotations

import contextlib
import http.client
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from standalone.running_gateway import KEY, KEYS, RunningGateway, StartEngine, running, write

CLIENTS = 64
FAIR = 24
"""Clients that each of the two has at least."""
ROUNDS = 5
"""A machine that lets one of the workers wait for a core leaves its clients to the other."""


@contextlib.contextmanager
def connected(gateway: RunningGateway) -> Iterator[None]:
    """Clients that come at once, and stay."""
    host, port = gateway.address
    with contextlib.ExitStack() as stack:
        made = [http.client.HTTPConnection(host, port, timeout=120) for _ in range(CLIENTS)]
        for connection in made:
            stack.callback(connection.close)
            connection.connect()
        for connection in made:
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {KEY}"})
        for connection in made:
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()
        yield


def workers_with_metrics(gateway: RunningGateway) -> dict[str, int]:
    """How many clients each says that it has."""
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    shown = re.findall(r'^fairlead_gateway_connections\{worker="(\d+)"\} (\d+)', page, re.M)
    return {worker: int(count) for worker, count in shown}


def clients_of_workers(gateway: RunningGateway) -> dict[str, int]:
    """The same, once all clients are among them: workers write it down once in a second."""
    found: dict[str, int] = {}

    def all_shown() -> bool:
        found.update(workers_with_metrics(gateway))
        return CLIENTS <= sum(found.values()) <= CLIENTS + 1

    gateway.until(all_shown, "clients in the metrics")
    return found


def test_both_workers_have_a_fair_part_of_the_clients(engine: StartEngine, config: Path) -> None:
    one = engine("one")
    write(config, f"name: main, replicas: [{one.url}]", top=KEYS + "workers: 2\n")
    with running(config) as gateway:
        gateway.until(lambda: len(workers_with_metrics(gateway)) == 2)
        seen = []
        for _ in range(ROUNDS):
            with connected(gateway):
                seen.append(clients_of_workers(gateway))
            if min(seen[-1].values()) >= FAIR:
                break
        assert min(seen[-1].values()) >= FAIR, seen
