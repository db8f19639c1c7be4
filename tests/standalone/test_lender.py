"""The lender answers its own workers only, and lends no more than there is."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import json as msgspec_json

from fairlead.app.standalone.lender import Lender
from fairlead.control.limits.leases import Leases
from fairlead.domain.errors import Conflict, StorageFailed
from fairlead.domain.quota import Quota
from fairlead.wire.quota import GRANTS_TYPE, QuotaReport, WindowUse, decode_grants
from fairlead.wire.snapshot import KeyEntry, Snapshot, SyncRequest, decode_snapshot

TOKEN = "t"


def limited(version: int = 1) -> Snapshot:
    key = KeyEntry(id="k", name="k", sha256="00", quota=Quota(usd_per_month=100))
    return Snapshot(version=version, request_id_key="00", keys=(key,), workers=2)


class Served:
    """A lender that is waited in by a thread of its own."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        lender.start()
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.lender.wait(0.02)
        self.lender.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def ask(
        self, body: bytes, token: str = TOKEN, path: str = "/internal/v1/sync"
    ) -> tuple[int, str, bytes]:
        host = self.lender.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("POST", path, body, {"authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.getheader("content-type", ""), data


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    lender = Lender(2, _spool(tmp_path), TOKEN)
    lender.publish(limited())
    made = Served(lender)
    yield made
    made.close()


def _spool(folder: Path) -> Path:
    (folder / "limits").mkdir(exist_ok=True)
    return folder


def asked(worker: int, uses: tuple[WindowUse, ...] = (), sequence: int = 1) -> bytes:
    report = QuotaReport(f"seat-{worker}", worker, sequence, uses)
    request = SyncRequest(
        worker=worker, boot=f"boot-{worker}", pid=os.getpid(), version=1, wait_s=0.3, quota=report
    )
    return msgspec_json.encode(request)


def test_who_has_no_token_or_asks_something_else_learns_nothing(served: Served) -> None:
    good = asked(0)
    for token in ("", "x", TOKEN * 2):
        assert served.ask(good, token)[::2] == (401, b"")
    assert served.ask(b"{")[0] == 400
    assert served.ask(b" " * (2 << 20))[0] == 413
    assert served.ask(good, path="/internal/v1/other")[0] == 404
    status, _, data = served.ask(msgspec_json.encode({**json.loads(good), "version": 0}))
    assert (status, decode_snapshot(data)) == (200, limited())


def test_what_one_has_used_is_not_lent_to_another(served: Served) -> None:
    start = _this_month()
    limit, share = "key:k:usd_per_month", 50 * 10**12
    assert served.ask(asked(1))[0] == 204
    used = WindowUse(limit, start, share, share, share, 10**12)
    assert served.ask(asked(0, (used,)))[0] == 204, "nothing is free before the other gives it"
    status, kind, data = served.ask(asked(1, sequence=2))
    assert (status, kind.encode()) == (200, GRANTS_TYPE)
    [less] = decode_grants(data).grants
    assert (less.limit, less.left) == (limit, share)
    assert 0 < less.held < share
    assert (
        served.ask(asked(1, (WindowUse(limit, start, less.held, 0, 0, 0),), sequence=3))[0] == 204
    )
    status, _, data = served.ask(asked(0, (used,), sequence=2))
    [more] = decode_grants(data).grants
    assert share < more.held <= 2 * share - less.held


def _this_month() -> int:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    return int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp())


def test_the_use_is_there_again_after_a_new_start_and_for_one_lender_at_a_time(
    tmp_path: Path,
) -> None:
    start, limit = _this_month(), "key:k:usd_per_month"
    first = Lender(2, _spool(tmp_path), TOKEN)
    first.publish(limited())
    second = Lender(2, tmp_path, TOKEN)
    with pytest.raises(Conflict, match="another gateway counts"):
        second.publish(limited())
    second.close()
    serving = Served(first)
    used = WindowUse(limit, start, 50 * 10**12, 40 * 10**12, 40 * 10**12, 0)
    assert serving.ask(asked(0, (used,)))[0] in (200, 204)
    serving.close()
    third = Lender(2, tmp_path, TOKEN)
    third.publish(limited())
    again = Served(third)

    def held_by_fresh(worker: int, sequence: int) -> list[int]:
        """What a worker is told that knows nothing of before."""
        body: dict[str, Any] = json.loads(asked(worker, sequence=sequence))
        body["boot"], body["quota"]["seat"] = f"new-{worker}", f"new-seat-{worker}"
        status, _, data = again.ask(msgspec_json.encode(body))
        return [] if status == 204 else [grant.held for grant in decode_grants(data).grants]

    # 40 of 100 are used: two that would begin with 50 each are told so.
    held_by_fresh(0, 1)
    [one] = held_by_fresh(1, 1)
    [other] = held_by_fresh(0, 2)
    again.close()
    assert one + other == 60 * 10**12


def test_limits_that_could_not_be_loaded_once_are_loaded_at_the_next_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lender = Lender(2, _spool(tmp_path), TOKEN)

    async def fails(_: Leases) -> None:
        raise StorageFailed("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Leases, "load", fails)
        with pytest.raises(StorageFailed):
            lender.publish(limited())
    lender.publish(limited())
    assert lender.version == 1
    lender.close()
