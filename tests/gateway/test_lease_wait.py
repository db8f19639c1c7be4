"""A burst on one worker waits for what the others hold of a limit and do not use."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import msgspec
import pytest
from gateway_rig import (
    CHAT,
    KEYS,
    A,
    Asked,
    Control,
    Engine,
    Rig,
    error_of,
    head,
    route,
    running,
    snapshot,
    until,
)

from fairlead.control.limits.leases import Leases
from fairlead.control.world.hub import SnapshotHub
from fairlead.domain.quota import Quota
from fairlead.gateway.clock import Clock
from fairlead.gateway.errors import OVERLOADED
from fairlead.gateway.quotas import lease_wait, quota
from fairlead.gateway.quotas.quota_answers import Lacking
from fairlead.wire.quota import GRANTS_TYPE, Grants
from fairlead.wire.snapshot import Snapshot, SyncRequest, encode_snapshot

StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
LIMIT = 40
WORKERS = 2


@pytest.fixture(autouse=True)
async def early_in_the_minute() -> None:
    """What a test does must be in one window."""
    second = time.time() % 60
    if second > 45:
        await asyncio.sleep(60.2 - second)


class Lender(Control):
    """Control with its real hub and ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = SnapshotHub(
            clock=time.monotonic, is_alive=lambda _: True, expected_workers=WORKERS
        )
        store = cast(Any, None)  # Nothing is saved.
        self.hub.leases = Leases(store, WORKERS, now=time.time, monotonic=time.monotonic)

    async def _sync(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        answer = await self.hub.sync(msgspec.json.decode(asked.body, type=SyncRequest))
        if answer is None:
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif isinstance(answer, Grants):
            body = msgspec.json.encode(answer)
            writer.write(head(200, GRANTS_TYPE.decode(), content_length=len(body)) + body)
        else:
            body = encode_snapshot(answer)
            writer.write(head(200, content_length=len(body)) + body)
        await writer.drain()


def limited(engine: Engine) -> Snapshot:
    key = msgspec.structs.replace(KEYS[0], quota=Quota(requests_per_minute=LIMIT))
    given = snapshot(route(A, engine, slots=64))
    return msgspec.structs.replace(given, keys=(key, *KEYS[1:]), workers=WORKERS)


@pytest.fixture
async def lender() -> AsyncIterator[Lender]:
    made = Lender()
    await made.engine.start()
    yield made
    await made.engine.stop()


def worker(folder: Path, control: Control, number: int) -> Rig:
    (folder / str(number)).mkdir()
    rig = Rig(folder / str(number), control.engine.url, boot=f"boot-{number}")
    rig.settings = msgspec.structs.replace(rig.settings, worker=number)
    return rig


async def burst(client: httpx.AsyncClient, number: int) -> list[httpx.Response]:
    return await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(number)))


def waiting(rig: Rig) -> int:
    assert rig.worker is not None
    return len(rig.worker._quotas._waiters)


async def test_a_burst_on_one_worker_gets_the_whole_limit(
    engine: StartEngine, lender: Lender, tmp_path: Path
) -> None:
    given = limited(await engine())
    lender.hub.publish(given)
    one, two = (worker(tmp_path, lender, number) for number in range(WORKERS))
    async with running(one, given), running(two, given), one.client() as client:
        await until(lambda: lender.hub.is_current and len(lender.hub.workers()) == WORKERS)
        answers = await burst(client, LIMIT)
        assert Counter(answer.status_code for answer in answers) == {200: LIMIT}
        # And never more than that, on either of them.
        (refused,) = await burst(client, 1)
        assert error_of(refused) == (429, "rate_limit_exceeded")
        async with two.client() as other:
            (refused,) = await burst(other, 1)
        assert error_of(refused) == (429, "rate_limit_exceeded")
        assert waiting(one) == waiting(two) == 0
    for rig in (one, two):
        rig.socket.close()


async def test_two_bursts_at_once_share_the_limit_and_exceed_it_by_nothing(
    engine: StartEngine, lender: Lender, tmp_path: Path
) -> None:
    given = limited(await engine())
    lender.hub.publish(given)
    rigs = [worker(tmp_path, lender, number) for number in range(WORKERS)]
    async with (
        running(rigs[0], given),
        running(rigs[1], given),
        rigs[0].client() as one,
        rigs[1].client() as two,
    ):
        await until(lambda: lender.hub.is_current and len(lender.hub.workers()) == WORKERS)
        answers = [*await asyncio.gather(burst(one, LIMIT), burst(two, LIMIT // 4))]
    codes = Counter(answer.status_code for some in answers for answer in some)
    assert codes == {200: LIMIT, 429: LIMIT // 4}
    for rig in rigs:
        rig.socket.close()


async def test_where_nothing_is_lent_in_time_it_is_refused_as_before(
    engine: StartEngine, control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_wait, "LEASE_WAIT_S", 0.3)
    await control.engine.kill()
    rig = worker(tmp_path, control, 0)
    async with running(rig, limited(await engine())), rig.client() as client:
        assert {a.status_code for a in await burst(client, LIMIT // 2)} == {200}
        begun = time.monotonic()
        (refused,) = await burst(client, 1)
        assert time.monotonic() - begun >= 0.3
        assert error_of(refused) == (429, "rate_limit_exceeded")
        assert refused.headers["retry-after"] == "1"
        assert waiting(rig) == 0
        # Only so many wait at a time.
        monkeypatch.setattr(quota, "WAITERS_MAX", 0)
        monkeypatch.setattr(lease_wait, "LEASE_WAIT_S", 60.0)
        (refused,) = await burst(client, 1)
        assert refused.headers["retry-after"] == "1"
        metrics = (await client.get("/metrics")).text
    assert 'fairlead_gateway_rejected_total{reason="rate_limit_exceeded"} 2' in metrics
    assert len(rig.requests()) == LIMIT // 2
    rig.socket.close()


async def test_a_client_that_leaves_waits_no_more(
    engine: StartEngine, control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_wait, "LEASE_WAIT_S", 60.0)
    await control.engine.kill()
    rig = worker(tmp_path, control, 0)
    async with running(rig, limited(await engine())):
        async with rig.client() as client:
            await burst(client, LIMIT // 2)
            asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
            await until(lambda: waiting(rig) == 1)
            asking.cancel()
            await until(lambda: waiting(rig) == 0)
        async with rig.client() as client:
            asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
            await until(lambda: waiting(rig) == 1)
            await rig.stop()
            assert error_of(await asking) == (503, "shutting_down")
    rig.socket.close()


class Deaf:
    """A client's connection of which nothing but its end is wanted."""

    def __init__(self) -> None:
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


@pytest.mark.interpreted
@pytest.mark.parametrize("where", ["begin", "start"])
async def test_a_request_that_breaks_as_its_wait_ends_does_not_leave_its_client_waiting(
    where: str,
) -> None:
    class Broken:
        def start(self) -> None:
            raise ZeroDivisionError

    def begin(*_: object) -> Any:
        if where == "begin":
            raise ZeroDivisionError
        return Broken()

    client = Deaf()
    book = quota.QuotaBook("seat", 0, sequence=1, hurry=lambda: None)
    lacking = Lacking(OVERLOADED)
    plant: Any = SimpleNamespace(clock=Clock())
    call: Any = SimpleNamespace(
        key_id="k", service=SimpleNamespace(route=SimpleNamespace(name="s"))
    )
    wait = lease_wait.LeaseWait(plant, cast(Any, client), call, book, lacking, begin)
    wait.start()
    assert not client.is_cut
    wait.look_again()
    assert client.is_cut
    assert not book._waiters


@pytest.mark.interpreted
@pytest.mark.parametrize("is_slow", [True, False])
async def test_a_client_that_does_not_keep_up_pauses_what_its_wait_becomes_once_that_has_begun(
    is_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange that is paused before it has begun has nothing yet that it could pause."""
    told: list[str] = []

    class Begun:
        def start(self) -> None:
            told.append("start")

        def pause(self) -> None:
            told.append("pause")

    book = quota.QuotaBook("seat", 0, sequence=1, hurry=lambda: None)
    plant: Any = SimpleNamespace(clock=Clock())
    call: Any = SimpleNamespace(key_id="k", kind="chat/completions")
    monkeypatch.setattr(lease_wait.quota_answers, "take", lambda *_args, **_more: None)
    wait = lease_wait.LeaseWait(
        plant, cast(Any, None), call, book, Lacking(OVERLOADED), lambda *_: cast(Any, Begun())
    )
    wait.start()
    wait.pause()
    if not is_slow:
        wait.resume()
    assert told == []
    wait.look_again()
    assert told == (["start", "pause"] if is_slow else ["start"])
