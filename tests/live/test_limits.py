"""A limit over two real workers, with real replicas: it holds, and what is used is kept."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from fairlead.control.limits.key_views import KeyRequest, NewKey
from fairlead.domain.quota import Quota
from fairlead.manifest import Manifest
from fairlead.store import open_store
from support.installation import Installation
from support.load import Connection, Reply

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]
LIMIT = 200
LEAST = 0.98 * LIMIT
"""All workers together let through what the limit says, within 2 %."""
ASK = {"model": "banking", "messages": [{"role": "user", "content": "where is my card?"}]}


def no_gates(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"gates": ()})


ASKING_S_MAX = 25.0
QUIET_S = 6.0
"""Several times what a worker may take to be lent what another one holds."""


async def _early_in_the_minute() -> None:
    """All requests of one key must be in one window."""
    second = time.time() % 60
    if second > 59 - ASKING_S_MAX:
        await asyncio.sleep(60.1 - second)


async def _ask_until_refused(installation: Installation, key: str) -> list[Reply]:
    """Eight clients that ask all the time, so that both workers have some of them.

    Until none of them was let through any more for a while.
    """
    await _early_in_the_minute()
    begun = last = time.monotonic()
    replies: list[Reply] = []

    async def client() -> None:
        nonlocal last
        connection = Connection(installation.gateway, key)
        while (now := time.monotonic()) < last + QUIET_S and now < begun + ASKING_S_MAX:
            reply = await connection.post("/v1/chat/completions", ASK)
            if reply.status == 200:
                last = time.monotonic()
            replies.append(reply)
            await asyncio.sleep(0.05)
        connection.close()

    await asyncio.gather(*(client() for _ in range(8)))
    return replies


def test_two_workers_let_through_what_the_limit_says_also_when_control_dies(
    installation: Installation,
) -> None:
    first = installation.ship(installation.spec("a", no_gates))
    assert installation.finish(first.id).outcome == "promoted"
    limits = Quota(requests_per_minute=LIMIT, tokens_per_day=10**6)
    key, another = (
        installation.control.post(NewKey, "keys", body=KeyRequest(name, limits=limits)).key
        for name in ("limited", "another")
    )

    async def until_known(key: str) -> None:
        connection = Connection(installation.gateway, key)
        known = 0
        while known < 5:  # in a row: of both workers, then
            is_known = (await connection.post("/v1/models", ASK)).status != 401
            known = known + 1 if is_known else 0
            connection.close()
            await asyncio.sleep(0.05)

    for each in (key, another):
        asyncio.run(until_known(each))
    replies = asyncio.run(_ask_until_refused(installation, key))
    let = [reply for reply in replies if reply.status == 200]
    refused = [reply for reply in replies if reply.status == 429]
    assert LEAST <= len(let) <= LIMIT
    assert len(let) + len(refused) == len(replies)
    assert f"{LIMIT} requests per minute of this API key" in refused[-1].text

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
    replies = asyncio.run(_ask_until_refused(installation, another))
    assert LEAST <= sum(reply.status == 200 for reply in replies) <= LIMIT
    before = kept()
    installation.wait(lambda: kept() >= before > 0, "the day's use after the restart", 20)
