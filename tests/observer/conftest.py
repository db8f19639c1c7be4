from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import Unavailable
from fairlead.observer.sink import SpoolCursor, SpoolWarning
from fairlead.wire.record import FeedbackRecord, Record, RequestRecord, SampleRecord, encode_record
from fairlead.wire.spool import ALIVE_FILE, MAGIC, frame, segment_name


class Writer:
    """Writes a spool as a gateway worker does."""

    def __init__(self, folder: Path, *, born_at: float = 0.0) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.number = 0
        self._lock = os.open(folder / ALIVE_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.utime(folder / ALIVE_FILE, (born_at, born_at))
        self.rotate()

    @property
    def segment(self) -> Path:
        return self.folder / segment_name(self.number)

    def rotate(self) -> None:
        self.number += 1
        self.segment.write_bytes(MAGIC)

    def write(self, *records: Record) -> None:
        self.raw(b"".join(frame(encode_record(record)) for record in records))

    def raw(self, data: bytes) -> None:
        with self.segment.open("ab") as file:
            file.write(data)

    def die(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class MemorySink:
    """Keeps what it is given in memory; `down` makes it unavailable."""

    def __init__(self) -> None:
        self.requests: dict[str, RequestRecord] = {}
        self.feedback: dict[str, FeedbackRecord] = {}
        self.cursors: dict[str, SpoolCursor] = {}
        self.warnings: list[str] = []
        self.calls: list[str] = []
        self.down = False
        self.fails_after_commit = False
        self.prunable = 0
        self.samples: dict[str, SampleRecord] = {}

    def open_spool(self, boot: str) -> SpoolCursor:
        self._call(f"open {boot}")
        return self.cursors.setdefault(boot, SpoolCursor())

    def open_spools(self) -> dict[str, SpoolCursor]:
        self._call("list")
        return {boot: cursor for boot, cursor in self.cursors.items() if not cursor.closed}

    def ingest(
        self,
        boot: str,
        records: Any,
        feedback: Any,
        cursor: SpoolCursor,
        warnings: Any = (),
        samples: Any = (),
    ) -> None:
        self._call(f"ingest {boot} {len(records)}+{len(feedback)}")
        for record in records:
            self.requests.setdefault(record.id, record)
        for given in feedback:
            self.feedback.setdefault(given.id, given)
        for sample in samples:
            self.samples.setdefault(sample.id, sample)
        self.cursors[boot] = cursor
        self.warnings += [warning.message for warning in warnings]
        assert all(isinstance(warning, SpoolWarning) for warning in warnings)
        if self.fails_after_commit:
            raise Unavailable("the connection broke while it committed")

    def prune(self, before: float) -> int:
        self._call(f"prune {before:.0f}")
        count, self.prunable = min(self.prunable, 10), max(0, self.prunable - 10)
        return count

    def prune_samples(self, now: float) -> int:
        gone = [key for key, sample in self.samples.items() if sample.keep_until <= now]
        for key in gone:
            del self.samples[key]
        return len(gone)

    def _call(self, call: str) -> None:
        if self.down:
            raise Unavailable("the store is locked")
        self.calls.append(call)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    writers: list[Writer] = []

    def make(boot: str = "b1", **options: Any) -> Writer:
        writers.append(Writer(tmp_path / "spool" / boot, **options))
        return writers[-1]

    yield make
    for each in writers:
        each.die()


@pytest.fixture(scope="session")
def request_record() -> Callable[..., RequestRecord]:
    def make(request_id: str, started_at: float = 1.0, **changes: Any) -> RequestRecord:
        record = RequestRecord(
            id=request_id,
            service="bank",
            release="sha256:a",
            arm="champion",
            replica="a-1",
            key="k1",
            unit="u1",
            rho=0.1,
            rollout="r1",
            phase=1,
            endpoint="/v1/chat/completions",
            stream=False,
            status=200,
            error="",
            started_at=started_at,
            ttft_ms=10.0,
            itl_ms=-1.0,
            duration_ms=20.0,
            prompt_tokens=5,
            completion_tokens=7,
            attempts=1,
        )
        return msgspec.structs.replace(record, **changes)

    return make
