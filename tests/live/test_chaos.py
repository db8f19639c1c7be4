"""Killing any process at any moment loses nothing that could be kept, and changes no verdict."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter

import pytest

from fairlead.domain.errors import FairleadError
from fairlead.domain.replica import ReplicaState
from fairlead.manifest import Manifest
from fairlead.manifest.rollout import Step
from fairlead.store import open_store
from support.installation import Installation
from support.load import Load, Reply, is_whole

KILLS = 50
KILL_EVERY_S = 1.2
RATE = 40.0
VICTIMS = {
    "control": "fairlead.app.control_process",
    "observer": "fairlead.app.observer_process",
    "gateway": "fairlead.app.gateway_process",
    "replica": "fairlead.engines.llamacpp",
}

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]


def slow_steps(manifest: Manifest) -> Manifest:
    """Steps long enough for many kills."""
    steps = (
        Step(share=0.1, requests=10, seconds=6),
        Step(share=0.3, requests=30, seconds=6),
        Step(share=0.5, requests=60, seconds=6),
    )
    rollout = manifest.rollout.model_copy(update={"steps": steps})
    return manifest.model_copy(update={"rollout": rollout})


class Killer:
    """Kills a random process every so often, each kind in turn, and notes when."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._dice = random.Random(20)
        self.kills: list[tuple[float, str]] = []

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(0.5, 1.5) * KILL_EVERY_S)
            kind = self._dice.choice(list(VICTIMS))
            pids = await asyncio.to_thread(self._victims, kind)
            if pids:
                os.kill(self._dice.choice(pids), signal.SIGKILL)
                self.kills.append((time.time(), kind))

    def _victims(self, kind: str) -> list[int]:
        """Who may be killed: what another one can stand in for, or what clients do not need."""
        if kind == "replica":
            try:
                status = self._installation.status()
            except FairleadError:
                return []
            ready = [r for r in status.replicas if r.state is ReplicaState.READY]
            engines = Counter(r.engine_digest for r in ready)
            covered = max(engines.values(), default=0) > 1
            return [
                r.pid
                for r in ready
                if engines[r.engine_digest] > 1 or (covered and len(engines) > 1)
            ]
        pids = self._installation.pids(VICTIMS[kind])
        return pids if kind != "gateway" or len(pids) > 1 else []


async def test_fifty_kills_change_no_verdict_and_lose_no_record(
    installation: Installation, questions: list[tuple[str, str]]
) -> None:
    """Control, observer, gateway workers and replicas are killed under traffic, 50 times."""
    first = installation.ship(installation.spec("a", slow_steps))
    assert installation.finish(first.id).outcome == "promoted"
    load = Load(installation.gateway, installation.key, questions, RATE, patience=3)
    stop = asyncio.Event()
    sending = asyncio.create_task(load.run(stop))
    killer = Killer(installation)
    killing = asyncio.create_task(killer.run())
    ends: list[tuple[str, str, str]] = []
    for release in ["b", *["c"] * 20]:
        if len(killer.kills) >= KILLS:
            break
        spec = await asyncio.to_thread(installation.spec, release, slow_steps)
        view = await asyncio.to_thread(ship_again, installation, spec)
        ended = await asyncio.to_thread(installation.finish, view.id, 200)
        ends.append((release, ended.outcome, ended.reason))
    killing.cancel()
    await asyncio.gather(killing, return_exceptions=True)
    stop.set()
    await sending

    expected = {"b": "promoted", "c": "rolled_back"}
    assert [(r, o) for r, o, _ in ends] == [(r, expected[r]) for r, _, _ in ends], ends
    assert len(killer.kills) >= KILLS
    assert {kind for _, kind in killer.kills} == set(VICTIMS)
    assert [r for r in load.replies if not is_whole(r)] == []
    assert [r for r in load.broken if not worker_died(r, killer.kills)] == []
    delivered = {reply.request_id for reply in load.replies}
    assert await asyncio.to_thread(missing_records, installation, delivered) == set()


def ship_again(installation: Installation, spec: object) -> object:
    """Ship; while control is being started again, try again."""
    shipped: list[object] = []

    def ship() -> bool:
        shipped.append(installation.ship(spec))  # type: ignore[arg-type]
        return True

    installation.wait(ship, "control to take the release", 30)
    return shipped[0]


def worker_died(reply: Reply, kills: list[tuple[float, str]]) -> bool:
    """Whether a gateway worker was killed while this request, or its idle connection, was open."""
    return any(
        kind == "gateway" and reply.idle_since - 0.5 <= at <= reply.ended + 0.5
        for at, kind in kills
    )


def missing_records(installation: Installation, ids: set[str]) -> set[str]:
    """Ids of delivered answers that have no record once the observer has caught up."""
    store = open_store(installation.paths.store_url)
    try:
        missing = set(ids)

        def all_there() -> bool:
            missing.difference_update({i for i in missing if store.record(i) is not None})
            return not missing

        try:
            installation.wait(all_there, "all records", 30)
        except AssertionError:
            return missing
        return missing
    finally:
        store.close()
