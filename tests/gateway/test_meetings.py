"""Where two features of the gateway meet."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from gateway_rig import (
    CHAT,
    KEY,
    KEYS,
    A,
    Asked,
    B,
    Control,
    Engine,
    Rig,
    answers,
    completion,
    error_of,
    hangs,
    route,
    snapshot,
    until,
)

from fairlead.domain.quota import Quota
from fairlead.gateway import limits
from fairlead.gateway.quotas.estimates import estimate
from fairlead.gateway.quotas.quota_file import QuotaFile
from fairlead.gateway.replicas import fleet
from fairlead.gateway.requests.dialects import runs_on
from fairlead.gateway.waiting.deadlines import Deadlines
from fairlead.wire.snapshot import ReleaseRoute, Shadow, Snapshot

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]


async def test_a_client_that_reads_nothing_gets_no_more_answers(
    engine: StartEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next requests wait until it has read the answers before them, or is dropped."""
    monkeypatch.setattr(limits, "CLIENT_STALL_S", 1.0)
    rig = await serve(snapshot(route(A, await engine())))
    assert rig.worker is not None
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", rig.port))
    await until(lambda: len(rig.worker._connections) == 1)  # type: ignore[union-attr]
    (connection,) = rig.worker._connections
    transport = connection._transport
    assert transport is not None
    while transport.is_reading():
        assert transport.get_write_buffer_size() < 2 * limits.WRITE_BUFFER_BYTES
        before = connection._writer.request_id
        sock.send(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await until(lambda: connection._writer.request_id != before)  # noqa: B023
    await until(lambda: connection._writer.transport is None)
    sock.close()


async def test_a_client_that_reads_again_is_served_again(engine: StartEngine, serve: Serve) -> None:
    rig = await serve(snapshot(route(A, await engine())))
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer " + KEY.encode()
    for _ in range(3):
        writer.write(head + b"\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"]}")
    writer.close()


async def test_an_answer_in_the_background_is_refused(engine: StartEngine, serve: Serve) -> None:
    one = await engine()
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        body = {"model": "bank", "input": "x", "background": True}
        assert error_of(await client.post("/v1/responses", json=body)) == (400, "invalid_body")
    assert one.asked == []
    assert not runs_on("responses", b'{"input":"background"}')
    assert not runs_on("chat/completions", b'{"background":true}')


def test_what_a_response_may_be_long_is_reserved() -> None:
    body = b'{"model":"m","max_output_tokens":100000}'
    assert estimate("responses", body, None)[1:] == (100_000, True)
    assert estimate("chat/completions", body, None)[2] is False


def test_a_deadline_that_ends_another_one_ends_it_once() -> None:
    deadlines = Deadlines()
    ended: list[str] = []

    class Timed:
        def __init__(self, name: str) -> None:
            self.name = name
            self.other: Timed | None = None

        def timed_out(self) -> None:
            ended.append(self.name)
            if self.other is not None:
                deadlines.end(self.other)

    one, two, three = Timed("one"), Timed("two"), Timed("three")
    one.other = two
    for timed in (one, two, three):
        deadlines.begin(timed, 1.0)
    deadlines.check(2.0)
    assert ended == ["one", "three"]


def test_a_seat_of_a_running_process_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "quota-0"
    path.write_bytes(b'{"seat":"old","pid":1,"boot":"old","uses":[]}')
    assert QuotaFile(path, "new").take_over().seat == "new"


def mirrored(champion: ReleaseRoute, trial: ReleaseRoute, *, version: int = 1) -> Snapshot:
    """A copy of each request goes to the trial."""
    base = snapshot(champion, version=version)
    bank = msgspec.structs.replace(
        base.services["bank"],
        releases={champion.digest: champion, trial.digest: trial},
        shadow=Shadow(trial.digest, 1.0, 16),
        rollout="ro-1",
    )
    return msgspec.structs.replace(base, services={"bank": bank})


def provided(digest: str, engine: Engine, key_env: str) -> ReleaseRoute:
    """A release of a provider who wants a key."""
    made = route(digest, engine)
    endpoints = tuple(msgspec.structs.replace(e, api_key_env=key_env) for e in made.endpoints)
    return msgspec.structs.replace(made, endpoints=endpoints)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_a_copy_carries_the_credentials_of_its_own_provider_and_no_others(
    engine: StartEngine, rig: Rig, path: str
) -> None:
    live, trial = await engine(), await engine()
    rig.environ.update(LIVE="sk-live", TRIAL="sk-trial")
    await rig.start(mirrored(provided(A, live, "LIVE"), provided(B, trial, "TRIAL")))
    async with rig.client() as client:
        body = {**CHAT, "max_tokens": 3}
        headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
        assert (await client.post(path, json=body, headers=headers)).status_code == 200
    await until(lambda: bool(trial.asked))
    for one, key in ((live, "sk-live"), (trial, "sk-trial")):
        sent = one.asked[0].headers
        assert sent["authorization"] == f"Bearer {key}"
        if path == "/v1/messages":
            assert (sent["x-api-key"], sent["anthropic-version"]) == (key, "2023-06-01")
        others = {"sk-live", "sk-trial", KEY} - {key}
        assert not any(other in value for other in others for value in sent.values())


async def test_a_retried_request_gets_the_slot_that_a_copy_gives_back_for_it(
    engine: StartEngine, control: Control, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets it at once, not when those that wait are next looked at."""
    for where, name in (
        (limits, "SWEEP_EVERY_S"),
        (fleet, "EJECTION_S_MIN"),
        (fleet, "EJECTION_S_MAX"),
    ):
        monkeypatch.setattr(where, name, 60.0)
    fails = asyncio.Event()

    async def failing(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await answers(status=503, after=fails)(asked, writer)

    async def shared(asked: Asked, writer: asyncio.StreamWriter) -> None:
        is_copy = asked.headers["x-request-id"].endswith(".shadow")
        await (hangs if is_copy else answers("well"))(asked, writer)

    one, two = await engine(failing), await engine(shared)
    trial = route(B, two, slots=1)
    rig = await serve(mirrored(route(A, one, slots=1), trial))
    async with rig.client() as client:
        asking = asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT))
        await until(lambda: bool(one.asked) and bool(two.asked))
        control.publish(mirrored(route(A, two, slots=1), trial, version=2))
        await until(lambda: control.questions[-1].version == 2)
        fails.set()
        async with asyncio.timeout(5):
            assert (await asking).content == completion("well")
    assert two.hung_up == 1


async def test_a_worker_that_has_retired_leaves_the_file_of_its_seat_to_its_successor(
    engine: StartEngine, rig: Rig
) -> None:
    key = msgspec.structs.replace(KEYS[0], quota=Quota(tokens_per_day=10**6))
    kept = msgspec.structs.replace(snapshot(route(A, await engine())), keys=(key, *KEYS[1:]))
    await rig.start(kept)
    assert rig.worker is not None
    path = Path(f"{rig.settings.snapshot_path}.quota-0")
    async with rig.client() as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        await until(lambda: path.exists() and bool(json.loads(path.read_bytes())["uses"]))
        retiring = asyncio.ensure_future(rig.worker.retire())
        await until(lambda: rig.worker.is_draining)  # type: ignore[union-attr]
        path.write_bytes(b"the successor's")
        # What its last clients use is something new to write down.
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        rig.worker._publish()
        assert path.read_bytes() == b"the successor's"
    await retiring
    await rig.stop()
    assert path.read_bytes() == b"the successor's"


async def test_a_worker_that_ends_tells_control_what_it_has_used_and_that_it_holds_no_more(
    engine: StartEngine, rig: Rig, control: Control
) -> None:
    key = msgspec.structs.replace(KEYS[0], quota=Quota(tokens_per_day=10**6))
    given = msgspec.structs.replace(snapshot(route(A, await engine())), keys=(key, *KEYS[1:]))
    await rig.start(given)
    assert rig.worker is not None
    await until(lambda: bool(control.questions))
    async with rig.client() as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        retiring = asyncio.ensure_future(rig.worker.retire())
    await retiring
    (meter,) = rig.worker._quotas.meters.values()
    used = meter.window.used
    await rig.stop()
    last = control.questions[-1]
    assert used > 0
    assert last.wait_s == 0
    assert last.quota is not None
    (use,) = last.quota.uses
    assert (use.used, use.held) == (used, used)


async def test_a_worker_that_is_stopped_keeps_what_it_holds_for_the_next_on_its_seat(
    engine: StartEngine, rig: Rig, control: Control
) -> None:
    key = msgspec.structs.replace(KEYS[0], quota=Quota(tokens_per_day=10**6))
    given = msgspec.structs.replace(snapshot(route(A, await engine())), keys=(key, *KEYS[1:]))
    await rig.start(given)
    await until(lambda: bool(control.questions))
    async with rig.client() as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    await rig.stop()
    last = control.questions[-1].quota
    assert last is not None
    assert last.uses[0].held == 10**6
    assert 0 < last.uses[0].used < 10**6
    (kept,) = json.loads(Path(f"{rig.settings.snapshot_path}.quota-0").read_bytes())["uses"]
    assert kept == msgspec.to_builtins(last.uses[0])


async def test_a_worker_ends_though_control_does_not_answer_its_last_report(
    engine: StartEngine, rig: Rig, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await rig.start(snapshot(route(A, await engine())))
    await until(lambda: bool(control.questions))
    control.engine.behave = hangs
    async with asyncio.timeout(5):
        await rig.stop()
    assert "control did not hear this worker's last report: it does not answer" in caplog.text
