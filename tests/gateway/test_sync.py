"""The snapshot's way from control to the worker, and living without control."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from gateway_rig import (
    CHAT,
    A,
    Asked,
    B,
    Control,
    Engine,
    Rig,
    answers,
    completion,
    head,
    route,
    running,
    snapshot,
    streams,
    until,
)

from fairlead.gateway.state.snapshot_file import SnapshotFile
from fairlead.wire.snapshot import Endpoint, Snapshot, encode_snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"


def version(rig: Rig) -> int:
    assert rig.worker is not None
    return rig.worker.loaded.snapshot.version if rig.worker.loaded else 0


async def test_a_newer_snapshot_is_taken_kept_and_acknowledged(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    one = await engine()
    rig = await serve(snapshot(route(A, one), version=3))
    await until(lambda: bool(control.questions))
    assert control.questions[0].version == 3
    assert control.questions[0].boot == "boot-0"
    assert abs(control.questions[0].at - time.time()) < 60.0, "by the clock that dates records"
    assert (control.questions[0].unwritten, control.questions[0].lost) == (0, 0)
    assert control.tokens[0] == "Bearer control-token"
    newer = snapshot(route(B, one), version=4)
    control.publish(newer)
    await until(lambda: control.questions[-1].version == 4)
    assert version(rig) == 4
    assert SnapshotFile(rig.folder / "snapshot.json", "x").load() == newer
    assert [p.name for p in rig.folder.glob(".*")] == []


async def test_a_lower_version_is_refused(
    engine: StartEngine, serve: Serve, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    async def offers_old(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = encode_snapshot(snapshot(route(B), version=2))
        writer.write(head(200, content_length=len(body)) + body)

    control.engine.behave = offers_old
    rig = await serve(snapshot(route(A, await engine()), version=3))
    await until(lambda: len(control.engine.asked) > 3)
    assert version(rig) == 3
    assert "version 2 after 3" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        answers(body=b"{"),
        answers(body=b'{"version":"x"}'),
        answers(body=b'{"version":4,"request_id_key":"\xff"}'),
        answers(status=401),
        answers(status=500),
    ],
)
async def test_an_unusable_answer_changes_nothing_and_is_asked_for_again(
    engine: StartEngine, serve: Serve, control: Control, answer: object
) -> None:
    good = control.engine.behave
    control.engine.behave = answer  # type: ignore[assignment]
    one = await engine()
    rig = await serve(snapshot(route(A, one), version=3))
    await until(lambda: len(control.engine.asked) > 2)
    async with rig.client() as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 200
        assert "fairlead_gateway_sync_failures_total 0" not in (await client.get("/metrics")).text
    control.engine.behave = good
    control.publish(snapshot(route(A, one), version=5))
    await until(lambda: version(rig) == 5)


async def test_it_starts_from_the_kept_snapshot_with_control_down_and_follows_it_later(
    engine: StartEngine, rig: Rig, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    await control.engine.kill()
    one = await engine(answers("kept"))
    await rig.start(snapshot(route(A, one), version=3))
    async with rig.client() as client:
        for _ in range(5):
            assert (await client.post(PATH, json=CHAT)).content == completion("kept")
            await asyncio.sleep(0.05)
        assert caplog.text.count("control cannot be asked") == 1
        await control.engine.start()
        control.publish(snapshot(route(A, one), version=4))
        await until(lambda: version(rig) == 4)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"version":1}',
        b"[" * 5000,
        b'{"version":1,"request_id_key":"\xff"}',
        b'{"version":1,"request_id_key":"","services":{"\xff":{}}}',
    ],
)
async def test_a_damaged_kept_snapshot_is_not_used(
    rig: Rig, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (rig.folder / "snapshot.json").write_bytes(content)
    await rig.start()
    assert version(rig) == 0
    assert "cannot be used" in caplog.text


def test_a_slower_worker_does_not_put_an_older_snapshot_back(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    SnapshotFile(path, "one").keep(snapshot(route(A), version=6))
    SnapshotFile(path, "two").keep(snapshot(route(A), version=5))
    kept = SnapshotFile(path, "three").load()
    assert kept is not None
    assert kept.version == 6
    assert path.stat().st_mode & 0o777 == 0o600


LOCAL = (
    "127.0.0.1",
    "127.8.9.1",
    "127.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "LocalHost.",
)
REMOTE = ("api.example.com", "10.0.0.1", "[fd00::1]", "127.example.com", "localhost.example.com")


def test_of_an_older_installation_only_endpoints_elsewhere_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    made = snapshot(route(A, *(f"http://{host}:8000" for host in LOCAL + REMOTE)), version=7)
    SnapshotFile(path, "one").keep(made)
    written_ns = path.stat().st_mtime_ns
    assert SnapshotFile(path, "x", local_since_ns=written_ns - 1).load() == made
    later = SnapshotFile(path, "x", local_since_ns=written_ns)
    kept = later.load()
    assert kept is not None
    endpoints: tuple[Endpoint, ...] = kept.services["bank"].releases[A].endpoints
    assert [e.base_url for e in endpoints] == [f"http://{host}:8000" for host in REMOTE]
    assert kept.version == 0  # Control is to send its snapshot whatever version that has.


def test_a_snapshot_of_an_older_installation_is_replaced_whatever_its_version(
    tmp_path: Path,
) -> None:
    path = tmp_path / "snapshot.json"
    SnapshotFile(path, "one").keep(snapshot(route(A), version=7))
    file = SnapshotFile(path, "two", local_since_ns=path.stat().st_mtime_ns)
    file.keep(snapshot(route(B), version=6))
    kept = SnapshotFile(path, "three").load()
    assert kept is not None
    assert kept.version == 6


def test_a_disk_that_refuses_the_snapshot_does_not_stop_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SnapshotFile(tmp_path / "nowhere" / "snapshot.json", "one").keep(snapshot(None))
    assert "cannot be kept" in caplog.text


async def test_control_hears_at_once_when_a_replica_that_was_taken_out_is_drained(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    may_end = asyncio.Event()

    async def waits(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await may_end.wait()
        await streams("a", "d")(asked, writer)

    old, new = await engine(waits), await engine(answers("new"))
    rig = await serve(snapshot(route(A, old), version=1))
    async with rig.client() as client:
        asking = asyncio.ensure_future(client.post(PATH, json={**CHAT, "stream": True}))
        await until(lambda: bool(old.asked))
        control.publish(snapshot(route(A, new), version=2))
        await until(lambda: control.questions[-1].version == 2)
        assert control.questions[-1].open_replicas == (f"r-{old.port}",)
        assert control.questions[-1].wait_s <= 0.25
        assert (await client.post(PATH, json=CHAT)).content == completion("new")
        may_end.set()
        assert b'"d"' in (await asking).content
        await until(lambda: control.questions[-1].open_replicas == (), within_s=0.2)
    assert not new.hung_up


async def test_swapping_snapshots_under_load_loses_nothing(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    one = await engine(answers("one", delay=0.003))
    two = await engine(streams("two", gap=0.003))
    rig = await serve(snapshot(route(A, one, slots=32), version=1))
    got: list[int] = []
    stop = asyncio.Event()

    async def ask(number: int) -> None:
        async with rig.client() as client:
            while not stop.is_set():
                body = {**CHAT, "user": f"u{number}-{len(got)}"}
                got.append((await client.post(PATH, json=body)).status_code)

    tasks = [asyncio.ensure_future(ask(n)) for n in range(8)]
    for number in range(2, 30):
        champion, canary = (one, two) if number % 2 else (two, one)
        control.publish(
            snapshot(
                route(A, champion, slots=32),
                route(B, canary, slots=32),
                share=0.5,
                version=number,
                salt=str(number),
            )
        )
        before = len(got)
        await until(lambda: version(rig) == number and len(got) >= before + 5)  # noqa: B023
    stop.set()
    await asyncio.gather(*tasks)
    assert version(rig) == 29
    assert len(got) > 100
    assert set(got) == {200}
    assert len(rig.requests()) == len(got)
    assert len({r.id for r in rig.requests()}) == len(got)
    assert {r.error for r in rig.requests()} == {""}


async def test_what_a_snapshot_remembers_of_units_goes_with_it_while_its_streams_go_on(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    release = asyncio.Event()
    one = await engine(answers(after=release))
    rig = await serve(snapshot(route(A, one)))
    assert rig.worker is not None
    assert rig.worker.loaded is not None
    live = rig.worker.loaded.services["bank"]
    async with rig.client() as client:
        asking = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(one.asked) == 1)
        assert live._without
        control.publish(snapshot(route(A, one), version=2))
        await until(lambda: version(rig) == 2)
        assert not live._without
        release.set()
        assert (await asking).status_code == 200


async def test_a_waiting_canary_request_survives_its_rollback(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    one, two = await engine(answers("champion")), await engine(answers("canary", delay=0.3))
    rig = await serve(snapshot(route(A, one), route(B, two, slots=1), share=1.0))
    async with rig.client() as client:
        first = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: len(two.asked) == 1)
        waits = asyncio.ensure_future(client.post(PATH, json=CHAT))
        await until(lambda: rig.waiting("bank") == 1)
        control.publish(snapshot(route(A, one), version=2))
        assert (await waits).content == completion("champion")
        assert (await first).content == completion("canary")
    assert len(two.asked) == 1
    assert {(r.arm, r.release, r.error) for r in rig.requests()} == {
        ("canary", B, ""),
        ("canary", A, "canary_unavailable"),
    }


async def test_stopping_and_starting_again_goes_on_from_what_was_kept(
    engine: StartEngine, tmp_path: Path, control: Control
) -> None:
    one = await engine()
    control.publish(snapshot(route(A, one), version=9))
    first = Rig(tmp_path, control.engine.url)
    async with running(first):
        await until(lambda: version(first) == 9)
        await until(lambda: (tmp_path / "snapshot.json").exists())
    first.socket.close()
    await control.engine.kill()
    second = Rig(tmp_path, control.engine.url, boot="boot-1")
    async with running(second):
        assert version(second) == 9
    second.socket.close()


async def test_a_slow_control_is_heard_although_there_is_always_news_for_it(
    engine: StartEngine, serve: Serve, control: Control
) -> None:
    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        await control._sync(asked, writer)

    rig = await serve(snapshot(route(A, await engine()), version=3))
    await until(lambda: bool(control.questions))
    control.engine.behave = slow
    control.publish(snapshot(route(B), version=4))

    async def keeps_having_news() -> None:
        while version(rig) < 4:
            rig.worker._sync.hurry()  # type: ignore[union-attr]
            await asyncio.sleep(0.02)

    async with asyncio.timeout(5):
        await keeps_having_news()
