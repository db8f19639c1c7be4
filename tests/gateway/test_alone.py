"""A worker without a control plane: it watches a file, and may keep no records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway_rig import CHAT, A, B, Engine, Rig, answers, completion, route, snapshot, until

from fairlead.app.state import write_private
from fairlead.gateway.file_sync import FileSync
from fairlead.gateway.snapshot_file import SnapshotFile
from fairlead.wire.snapshot import Snapshot, encode_snapshot

StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"


def put(path: Path, newest: Snapshot) -> None:
    write_private(path, encode_snapshot(newest))


def test_each_newer_snapshot_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    taken: list[int] = []
    sync = FileSync(SnapshotFile(path, "one"), take=lambda s: taken.append(s.version))
    sync.look()
    assert taken == []
    put(path, snapshot(route(A), version=3))
    sync.look()
    sync.look()
    assert taken == [3]
    put(path, snapshot(route(B), version=2))
    sync.look()
    path.write_bytes(b"{")
    sync.look()
    path.unlink()
    sync.look()
    assert taken == [3]
    put(path, snapshot(route(A), version=4))
    sync.look()
    assert taken == [3, 4]


async def test_it_serves_what_the_file_says_now_and_records_nothing(
    engine: StartEngine, tmp_path: Path
) -> None:
    one, two = await engine(answers("one")), await engine(answers("two"))
    rig = Rig(tmp_path, None, spool_dir=None)
    await rig.start()
    async with rig.client() as client:
        assert (await client.post(PATH, json=CHAT)).status_code == 503
        put(tmp_path / "snapshot.json", snapshot(route(A, one)))
        await until(lambda: rig.worker is not None and rig.worker.loaded is not None)
        assert (await client.post(PATH, json=CHAT)).content == completion("one")
        put(tmp_path / "snapshot.json", snapshot(route(A, two), version=2))
        await until(
            lambda: (
                rig.worker is not None
                and rig.worker.loaded is not None
                and rig.worker.loaded.snapshot.version == 2
            )
        )
        assert (await client.post(PATH, json=CHAT)).content == completion("two")
        page = (await client.get("/metrics")).text
    await rig.stop()
    rig.socket.close()
    assert not (tmp_path / "spool").exists()
    assert 'fairlead_gateway_requests_total{service="bank"' in page
    assert "\nfairlead_gateway_spool_records_total" not in page
