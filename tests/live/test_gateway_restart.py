"""Restarting the gateway under traffic breaks no connection and no stream, and loses no request."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter

import pytest
from typer.testing import CliRunner

from fairlead.cli.root import app
from fairlead.manifest import Manifest
from fairlead.store import open_store
from fairlead.store.rows import RecordFilter
from support.installation import Installation
from support.load import Load, is_whole

RATE = 60.0
RESTARTS = 3

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]


def patient(manifest: Manifest) -> Manifest:
    """Room for a machine slower than the load: its requests wait instead of being refused."""
    limits = manifest.limits.model_copy(
        update={"queue": 20_000, "queue_timeout_seconds": 120, "request_timeout_seconds": 150}
    )
    return manifest.model_copy(update={"limits": limits})


def restart(installation: Installation) -> str:
    """`fairlead gateway restart`, and what it said."""
    arguments = ["gateway", "restart", "--state", str(installation.paths.root)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.exception, installation.log())
    return result.output


async def test_three_restarts_under_mixed_traffic_are_not_noticed_by_clients(
    installation: Installation, questions: list[tuple[str, str]]
) -> None:
    first = installation.ship(installation.spec("a", patient))
    assert installation.finish(first.id).outcome == "promoted"
    load = Load(installation.gateway, installation.key, questions, RATE, streamed=0.5)
    stop = asyncio.Event()
    sending = asyncio.create_task(load.run(stop))
    lives = [set(installation.pids("gateway_process"))]
    await asyncio.sleep(1.0)
    for number in range(RESTARTS):
        if number == 1:  # With the old processes of the first restart, perhaps.
            for pid in installation.pids("control_process"):
                os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(restart, installation)
        lives.append(set(await asyncio.to_thread(present, installation)))
        await asyncio.sleep(1.0)
    stop.set()
    await sending

    assert [len(pids) for pids in lives] == [2] * (RESTARTS + 1), lives
    assert len(set.union(*lives)) == 2 * (RESTARTS + 1), "each restart makes two new processes"
    assert len(load.replies) == load.sent
    assert load.broken == []
    assert [r for r in load.replies if not is_whole(r)] == []
    assert {reply.stream for reply in load.replies} == {True, False}
    ids = [reply.request_id for reply in load.replies]
    recorded = await asyncio.to_thread(records_of, installation, load.sent)
    assert Counter(recorded) == Counter(ids)
    await asyncio.to_thread(
        installation.wait,
        lambda: len(installation.pids("gateway_process")) == 2,
        "the old processes to end, as their clients have left",
        20,
    )


def present(installation: Installation) -> list[int]:
    """The two newest gateway processes; the others only end what was open in them."""
    pids = installation.pids("gateway_process")
    return sorted(pids, key=started_at)[-2:]


def started_at(pid: int) -> int:
    """When a process began, in clock ticks since the machine did."""
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def records_of(installation: Installation, expected: int) -> list[str]:
    """Ids of all kept records, once the observer has caught up."""
    store = open_store(installation.paths.store_url)
    try:
        deadline = time.monotonic() + 30
        while True:
            found = [row.id for row in store.records(RecordFilter(), limit=1_000_000)]
            if len(found) >= expected or time.monotonic() > deadline:
                return found
            time.sleep(0.2)
    finally:
        store.close()
