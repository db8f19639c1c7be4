"""Promotion and rollback lose no request, and answer none twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from fairlead.manifest import Manifest
from fairlead.store import open_store
from fairlead.store.rows import RecordFilter
from support.installation import Installation
from support.load import Load, is_whole

RATE = 200.0

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]


def patient(manifest: Manifest) -> Manifest:
    """Room for a machine slower than the load: its requests wait instead of being refused."""
    limits = manifest.limits.model_copy(
        update={"queue": 20_000, "queue_timeout_seconds": 120, "request_timeout_seconds": 150}
    )
    return manifest.model_copy(update={"limits": limits})


async def test_nothing_is_lost_or_answered_twice_at_200_requests_a_second(
    installation: Installation, questions: list[tuple[str, str]]
) -> None:
    """Release b is promoted and release c rolled back under mixed streaming and plain traffic."""
    first = installation.ship(installation.spec("a", patient))
    assert installation.finish(first.id).outcome == "promoted"
    load = Load(installation.gateway, installation.key, questions, RATE, streamed=0.5)
    stop = asyncio.Event()
    sending = asyncio.create_task(load.run(stop))
    outcomes = []
    for release in ("b", "c"):
        spec = await asyncio.to_thread(installation.spec, release, patient)
        view = await asyncio.to_thread(installation.ship, spec)
        ended = await asyncio.to_thread(installation.finish, view.id, 150)
        outcomes.append((ended.outcome, ended.reason))
    stop.set()
    await sending

    assert [outcome for outcome, _ in outcomes] == ["promoted", "rolled_back"], outcomes
    assert len(load.replies) == load.sent
    assert [r for r in load.replies if not is_whole(r)] == []
    assert load.broken == []
    ids = [reply.request_id for reply in load.replies]
    assert len(set(ids)) == load.sent
    assert {reply.stream for reply in load.replies} == {True, False}
    recorded = await asyncio.to_thread(recorded_ids, installation, load.sent)
    assert Counter(recorded) == Counter(ids)


def recorded_ids(installation: Installation, expected: int) -> list[str]:
    """Ids of all kept records, once the observer has caught up."""
    store = open_store(installation.paths.store_url)
    try:
        found: list[Any] = []

        def all_there() -> bool:
            found[:] = store.records(RecordFilter(), limit=1_000_000)
            return len(found) >= expected

        installation.wait(all_there, "the observer to catch up", 30)
        return [row.id for row in found]
    finally:
        store.close()
