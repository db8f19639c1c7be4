"""A worker that keeps no records, as one of a gateway that runs alone may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway_rig import CHAT, A, Engine, Rig, answers, completion, route, snapshot, until

from fairlead.app.state import write_private
from fairlead.wire.snapshot import encode_snapshot

StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
NOBODY = "http://127.0.0.1:9"


async def test_it_serves_on_the_kept_snapshot_and_records_nothing(
    engine: StartEngine, tmp_path: Path
) -> None:
    one = await engine(answers("one"))
    write_private(tmp_path / "snapshot.json", encode_snapshot(snapshot(route(A, one))))
    rig = Rig(tmp_path, NOBODY, spool_dir=None)
    await rig.start()
    async with rig.client() as client:
        await until(lambda: rig.worker is not None and rig.worker.loaded is not None)
        assert (await client.post(PATH, json=CHAT)).content == completion("one")
        page = (await client.get("/metrics")).text
    await rig.stop()
    rig.socket.close()
    assert not (tmp_path / "spool").exists()
    assert 'fairlead_gateway_requests_total{service="bank"' in page
    assert "\nfairlead_gateway_spool_records_total" not in page
