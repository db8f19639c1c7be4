"""A store in a temporary folder, with a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.telemetry.reader import TelemetryReader
from fairlead.telemetry.store import TelemetryStore
from fairlead.wire.record import FeedbackRecord, RequestRecord

HOUR = 3_600
NOON = 1_790_000_000 // HOUR * HOUR
"""The start of an hour, Unix time in seconds."""


class Clock:
    """Says what the test wants."""

    def __init__(self) -> None:
        self.now = float(NOON + HOUR // 2)

    def __call__(self) -> float:
        return self.now


class Rig:
    """A folder, and what opens the store in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.warnings: list[str] = []
        self._open: list[TelemetryStore | TelemetryReader] = []

    def store(self, keep_s: float = 0.0) -> TelemetryStore:
        made = TelemetryStore(
            self.folder, keep_s=keep_s, clock=self.clock, warn=self.warnings.append
        )
        self._open.append(made)
        return made

    def reader(self, **options: Any) -> TelemetryReader:
        made = TelemetryReader(self.folder, threads=1, **options)
        self._open.append(made)
        return made

    def ids(self, kind: str = "records") -> list[str]:
        """What a reader sees, sorted; twice what is there twice."""
        answer = self.reader().ask(f"SELECT id FROM {kind} ORDER BY id", limit=1_000_000)
        assert answer.left_out == []
        return [row[0] for row in answer.rows]

    def data(self) -> list[Path]:
        """All Parquet files there are."""
        return sorted((self.folder / "data").rglob("*.parquet"))

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "telemetry")
    yield made
    made.close()


def settle(store: TelemetryStore) -> None:
    """Upkeep until there is none left."""
    for _ in range(1_000):
        if not store.step():
            return
    raise AssertionError("it never comes to an end")


def request(id: str = "q1", started_at: float = NOON, **fields: Any) -> RequestRecord:
    """A request that was answered well."""
    plain = RequestRecord(
        id, "bank", "sha256:a", "champion", "bank-0", "key_1", "unit", 0.1, "r1", 1,
        "/v1/chat/completions", True, 200, "", started_at, 120.0, 15.5, 900.0, 100, 50, 1,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **fields)


def said(id: str = "f1", about: str = "q1", at: float = NOON + 60, value: float = 1.0) -> Any:
    """Feedback."""
    return FeedbackRecord(id, about, "key_1", "success", value, at)


Make = Callable[..., RequestRecord]
