"""The second reader of the spool: both have every record once, and nothing goes before both do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fairlead.domain.errors import StorageFailed, Unavailable
from fairlead.observer import archive
from fairlead.observer.archive import ArchiveSettings, ArchiveThread, Archivist
from fairlead.observer.service import Observer
from fairlead.observer.sink import SpoolCursor
from fairlead.wire.record import FeedbackRecord, ProgressRecord, RequestRecord

Make = Callable[..., RequestRecord]
NOW = 1_000.0


class MemoryArchive:
    """Keeps what it is given, with doubles, so that a test sees them; fails while `down`."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.given: list[str] = []
        self.kept: dict[str, SpoolCursor] = {}
        self.down = False
        self.portions = 0

    def positions(self) -> dict[str, SpoolCursor]:
        return dict(self.kept)

    def take_in(
        self,
        requests: Sequence[RequestRecord],
        feedback: Sequence[FeedbackRecord],
        positions: Mapping[str, SpoolCursor],
        forget: Sequence[str] = (),
    ) -> int:
        if self.down:
            raise StorageFailed("the disk is full")
        self.portions += 1
        self.ids += [record.id for record in requests]
        self.given += [each.id for each in feedback]
        self.kept.update(positions)
        for boot in forget:
            self.kept.pop(boot, None)
        return len(requests)

    def step(self) -> bool:
        return False

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class Pair:
    """An observer and an archivist on the same spools."""

    def __init__(self, folder: Path, sink: Any, settings: ArchiveSettings) -> None:
        folder.mkdir()
        self._folder, self._sink, self._settings = folder, sink, settings
        self.archive = MemoryArchive()
        self.again()

    def again(self) -> None:
        """A new life of both."""
        self.archivist = Archivist(self._folder, self.archive, self._settings, clock=lambda: NOW)
        self.observer = Observer(
            self._folder, self._sink, clock=lambda: NOW, archived=self.archivist.position
        )

    def observe(self) -> None:
        for _ in range(100):
            if not self.observer.take_in(lambda: True):
                return
        raise AssertionError("it never comes to an end")


@pytest.fixture
def pair(tmp_path: Path, sink: Any) -> Pair:
    return Pair(tmp_path / "spool", sink, ArchiveSettings())


def test_segments_stay_until_both_have_them(
    pair: Pair, writer: Any, sink: Any, request_record: Make
) -> None:
    worker = writer("b1")
    first = worker.segment
    worker.write(request_record("q1"))
    worker.rotate()
    worker.write(request_record("q2"))
    pair.observe()
    assert sink.requests.keys() == {"q1", "q2"}
    assert first.exists()
    pair.archivist.take_in()
    assert first.exists()  # deleting is the observer's
    pair.observe()
    assert not first.exists()
    assert pair.archive.ids == ["q1", "q2"]
    worker.die()
    pair.observe()
    assert worker.folder.exists()
    pair.archivist.take_in()
    pair.observe()
    assert not worker.folder.exists()
    pair.archivist.take_in()
    assert pair.archive.kept == {}
    assert (pair.archive.ids, sink.cursors["b1"].closed) == (["q1", "q2"], True)


def test_the_archive_may_be_ahead_and_nothing_goes_before_the_store_has_it(
    pair: Pair, writer: Any, sink: Any, request_record: Make
) -> None:
    worker = writer("b1")
    worker.write(request_record("q1"))
    worker.die()
    pair.archivist.take_in()
    pair.archivist.take_in()
    assert pair.archive.kept["b1"].closed
    assert worker.folder.exists()
    pair.observe()
    assert not worker.folder.exists()
    assert sink.requests.keys() == {"q1"}


def test_a_folder_that_waits_for_the_archive_is_removed_by_a_later_life(
    pair: Pair, writer: Any, sink: Any, request_record: Make
) -> None:
    worker = writer("b1")
    worker.write(request_record("q1"))
    worker.die()
    pair.observe()
    pair.again()
    pair.observe()
    assert worker.folder.exists()
    pair.archivist.take_in()
    pair.observe()
    assert (worker.folder.exists(), pair.archive.ids) == (False, ["q1"])


def test_what_the_archive_cannot_take_now_it_takes_later_and_the_store_does_not_wait(
    pair: Pair, writer: Any, sink: Any, request_record: Make
) -> None:
    worker = writer("b1")
    worker.write(request_record("q1"), FeedbackRecord("f1", "q1", "k", "ok", 1.0, 2.0))
    pair.archive.down = True
    for _ in range(3):
        with pytest.raises(StorageFailed):
            pair.archivist.take_in()
    pair.observe()
    assert sink.requests.keys() == {"q1"}
    worker.write(request_record("q2"), ProgressRecord(5.0, 4.0))
    pair.archive.down = False
    pair.archivist.take_in()
    assert (pair.archive.ids, pair.archive.given) == (["q1", "q2"], ["f1"])
    assert pair.archive.kept["b1"].complete_until == 4.0


def test_portions_are_bounded(
    pair: Pair, writer: Any, request_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PORTION", 2_000)
    monkeypatch.setattr("fairlead.observer.spool.RECORDS_MAX", 1_000)
    for boot in ("b1", "b2"):
        writer(boot).write(*(request_record(f"{boot}-{n}") for n in range(2_500)))
    more = [pair.archivist.take_in() for _ in range(3)]
    assert more == [True, True, False]
    assert len(pair.archive.ids) == len(set(pair.archive.ids)) == 5_000


def test_too_much_is_not_held_for_an_archive_that_cannot_be_written(
    tmp_path: Path, sink: Any, writer: Any, request_record: Make, caplog: Any
) -> None:
    """The disk is the gateway's too. Once it can be written again, it goes on from there."""
    pair = Pair(tmp_path / "spool", sink, ArchiveSettings(held_bytes_max=2_000))
    worker = writer("b1")
    pair.archive.down = True
    for n in range(3):
        worker.write(*(request_record(f"q{n}-{k}") for k in range(10)))
        worker.rotate()
    segments = len(list(worker.folder.glob("*")))
    pair.observe()
    assert len(list(worker.folder.glob("*"))) == segments
    with caplog.at_level(logging.WARNING), pytest.raises(StorageFailed):
        pair.archivist.take_in()
    pair.observe()
    assert len(list(worker.folder.glob("*"))) < segments
    assert caplog.text.count("too much waits in the spool") == 1
    pair.archive.down = False
    worker.write(request_record("new"))
    pair.archivist.take_in()
    pair.observe()
    assert pair.archive.ids == ["new"]
    assert len(sink.requests) == 31


def test_a_spool_that_cannot_be_read_does_not_hold_up_the_others(
    pair: Pair, writer: Any, request_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for boot in ("b1", "b2"):
        writer(boot).write(request_record(boot))
    read = archive.Spool.read

    def failing(self: Any, now: float) -> Any:
        if self.boot == "b1":
            raise StorageFailed("spool b1: no")
        return read(self, now)

    with monkeypatch.context() as patch:
        patch.setattr(archive.Spool, "read", failing)
        pair.archivist.take_in()
    assert pair.archive.ids == ["b2"]
    pair.archivist.take_in()
    assert pair.archive.ids == ["b2", "b1"]


def test_a_thread_takes_in_what_is_left_when_it_is_told_to_finish(
    tmp_path: Path, writer: Any, request_record: Make
) -> None:
    kept = MemoryArchive()
    worker = writer("b1")
    thread = ArchiveThread(tmp_path / "spool", lambda: kept, ArchiveSettings(every_s=3_600.0))
    assert thread.position("b1") == SpoolCursor()  # nothing goes before it has looked
    thread.start()
    worker.write(*(request_record(f"q{n}") for n in range(50)))
    thread.finish(60.0)
    assert sorted(set(kept.ids)) == sorted(f"q{n}" for n in range(50))
    assert len(kept.ids) == 50
    assert thread.position("b1") is None


def test_an_archive_that_cannot_be_opened_holds_up_nothing(tmp_path: Path, caplog: Any) -> None:
    def opened() -> MemoryArchive:
        raise Unavailable("no DuckDB here")

    thread = ArchiveThread(tmp_path, opened)
    thread.start()
    thread._thread.join(60.0)
    assert thread.position("b1") is None
    assert "telemetry is off until the next start: no DuckDB here" in caplog.text
