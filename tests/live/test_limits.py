"""A limit over two real workers, with real replicas: it holds, and what is used is kept."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from fairlead.control.views import KeyRequest, NewKey
from fairlead.domain.quota import Quota
from fairlead.manifest import Manifest
from fairlead.store import open_store
from support.installation import Installation
from support.load import Connection, Reply

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]
LIMIT = 30
ASK = {"model": "banking", "messages": [{"role": "user", "content": "where is my card?"}]}


def no_gates(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"gates": ()})


async def _minute_begins() -> None:
    """A test's requests must all be in one window."""
    await asyncio.sleep(60.1 - time.time() % 60)


async def _ask_for(installation: Installation, key: str, seconds: float) -> list[Reply]:
    """Eight clients that ask all the time, so that both workers have some of them."""
    until = time.monotonic() + seconds
    replies: list[Reply] = []

    async def client() -> None:
        connection = Connection(installation.gateway, key)
        while time.monotonic() < until:
            replies.append(await connection.post("/v1/chat/completions", ASK))
            await asyncio.sleep(0.05)
        connection.close()

    await asyncio.gather(*(client() for _ in range(8)))
    return replies


def test_two_workers_let_through_what_the_limit_says_also_when_control_dies(
    installation: Installation,
) -> None:
    first = installation.ship(installation.spec("a", no_gates))
    assert installation.finish(first.id).outcome == "promoted"
    asked = KeyRequest("limited", limits=Quota(requests_per_minute=LIMIT, tokens_per_day=10**6))
    key = installation.control.post(NewKey, "keys", body=asked).key

    async def until_known() -> None:
        connection = Connection(installation.gateway, key)
        known = 0
        while known < 5:  # in a row: of both workers, then
            is_known = (await connection.post("/v1/models", ASK)).status != 401
            known = known + 1 if is_known else 0
            connection.close()
            await asyncio.sleep(0.05)

    asyncio.run(until_known())
    asyncio.run(_minute_begins())
    replies = asyncio.run(_ask_for(installation, key, 15))
    let = [reply for reply in replies if reply.status == 200]
    refused = [reply for reply in replies if reply.status == 429]
    assert 0.9 * LIMIT <= len(let) <= LIMIT
    assert len(let) + len(refused) == len(replies)
    assert "30 requests per minute of this API key" in refused[-1].text

    def kept() -> int:
        store = open_store(installation.paths.store_url)
        try:
            rows = store.quota_use(time.time())
        finally:
            store.close()
        return sum(row.used for row in rows if row.limit.endswith("tokens_per_day"))

    installation.wait(lambda: kept() > 0, "the day's use", 20)
    (control,) = installation.pids("control_process")
    os.kill(control, signal.SIGKILL)
    asyncio.run(_minute_begins())
    replies = asyncio.run(_ask_for(installation, key, 15))
    assert 0.9 * LIMIT <= sum(reply.status == 200 for reply in replies) <= LIMIT
    before = kept()
    installation.wait(lambda: kept() >= before > 0, "the day's use after the restart", 20)
