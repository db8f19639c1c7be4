"""The observer over several spools, with a sink in memory and a clock that the test sets."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import StorageFailed, Unavailable
from fairlead.observer.service import Observer
from fairlead.observer.sink import SpoolCursor
from fairlead.observer.spool import Batch, Spool
from fairlead.wire.record import ProgressRecord, RequestRecord, SampleRecord

Make = Callable[..., RequestRecord]
NOW = 1_000.0


def always() -> bool:
    return True


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observer(tmp_path: Path, sink: Any, clock: Clock) -> Observer:
    (tmp_path / "spool").mkdir()
    return Observer(tmp_path / "spool", sink, clock=clock)


def take_in_all(observer: Observer) -> None:
    for _ in range(50):
        if not observer.take_in(always):
            return
    raise AssertionError("it never comes to an end")


def test_all_spools_are_known_to_the_store_before_any_is_read(
    observer: Observer, writer: Any, sink: Any, request_record: Make
) -> None:
    for boot in ("b1", "b2", "b3"):
        writer(boot).write(request_record(boot))
    take_in_all(observer)
    assert sink.calls[:4] == ["list", "open b1", "open b2", "open b3"]
    assert sink.requests.keys() == {"b1", "b2", "b3"}


def test_a_worker_that_comes_up_while_another_is_read_is_known_before_that_is_kept(
    observer: Observer,
    writer: Any,
    sink: Any,
    request_record: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer("b1").write(request_record("q1"), ProgressRecord(5.0, 5.0))
    read = Spool.read

    def read_meanwhile(spool: Spool, now: float) -> Batch | None:
        batch = read(spool, now)
        monkeypatch.undo()
        writer("b2")
        return batch

    monkeypatch.setattr(Spool, "read", read_meanwhile)
    observer.take_in(always)
    assert sink.calls == ["list", "open b1", "open b2", "ingest b1 1+0"]


def test_a_folder_removed_while_it_is_read_loses_nothing_of_what_was_read(
    observer: Observer,
    writer: Any,
    sink: Any,
    request_record: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = writer("b1")
    worker.write(request_record("q1"))
    read = Spool.read

    def read_meanwhile(spool: Spool, now: float) -> Batch | None:
        batch = read(spool, now)
        shutil.rmtree(worker.folder)
        return batch

    monkeypatch.setattr(Spool, "read", read_meanwhile)
    observer.take_in(always)
    assert sink.requests.keys() == {"q1"}
    assert not observer.take_in(always)


def test_spools_take_turns(
    observer: Observer, writer: Any, sink: Any, request_record: Make
) -> None:
    for boot in ("b1", "b2"):
        writer(boot).write(*(request_record(f"{boot}-{n}") for n in range(1500)))
    take_in_all(observer)
    assert [c.split()[1] for c in sink.calls if "ingest" in c] == ["b1", "b2", "b1", "b2"]


def test_it_stops_between_batches_when_no_longer_wanted(
    observer: Observer, writer: Any, sink: Any, request_record: Make
) -> None:
    for boot in ("b1", "b2"):
        writer(boot).write(request_record(boot))
    answers = iter([True, False])
    observer.take_in(lambda: next(answers))
    assert sink.requests.keys() == {"b1"}


def test_while_the_store_is_down_nothing_is_lost_and_nothing_moves(
    observer: Observer, writer: Any, sink: Any, request_record: Make
) -> None:
    worker = writer()
    worker.write(request_record("q1"))
    sink.down = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            observer.take_in(always)
    worker.rotate()
    worker.write(request_record("q2"))
    sink.down = False
    take_in_all(observer)
    sink.down = True
    worker.write(request_record("q3"))
    with pytest.raises(Unavailable):
        observer.take_in(always)
    sink.down = False
    take_in_all(observer)
    assert sink.requests.keys() == {"q1", "q2", "q3"}


def test_a_commit_that_succeeded_but_was_reported_as_failed_is_done_again(
    observer: Observer, writer: Any, sink: Any, request_record: Make
) -> None:
    worker = writer()
    worker.write(request_record("q1"))
    sink.fails_after_commit = True
    with pytest.raises(Unavailable):
        observer.take_in(always)
    sink.fails_after_commit = False
    take_in_all(observer)
    assert sum("ingest b1 1+0" in call for call in sink.calls) == 2
    assert sink.cursors["b1"].offset == worker.segment.stat().st_size


def test_dead_workers_are_closed_and_forgotten(
    observer: Observer, writer: Any, sink: Any, request_record: Make
) -> None:
    worker = writer()
    worker.write(request_record("q1"), ProgressRecord(5.0, 5.0))
    worker.die()
    take_in_all(observer)
    assert sink.cursors["b1"].closed
    assert not worker.folder.exists()
    calls = len(sink.calls)
    assert not observer.take_in(always)
    assert len(sink.calls) == calls


def test_a_folder_that_was_kept_and_closed_but_not_removed_is_removed(
    observer: Observer, writer: Any, sink: Any, request_record: Make
) -> None:
    worker = writer()
    worker.write(request_record("q1"))
    worker.die()
    sink.cursors["b1"] = SpoolCursor(1, 500, 5.0, closed=True)
    take_in_all(observer)
    assert sink.requests == {}
    assert not worker.folder.exists()


@pytest.mark.parametrize("seen_before", [True, False])
def test_a_spool_whose_folder_was_removed_by_hand_is_closed_with_a_warning(
    observer: Observer, writer: Any, sink: Any, request_record: Make, seen_before: bool
) -> None:
    worker = writer()
    if seen_before:
        worker.write(request_record("q1"))
        take_in_all(observer)
    else:
        sink.cursors["b1"] = SpoolCursor(1, 8, 5.0)
    shutil.rmtree(worker.folder)
    take_in_all(observer)
    assert sink.cursors["b1"].closed
    assert ["gone" in warning for warning in sink.warnings] == [True]


def test_one_unreadable_spool_does_not_hold_up_the_others_and_is_told_every_ten_seconds(
    observer: Observer,
    writer: Any,
    sink: Any,
    request_record: Make,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = writer("b1")
    bad.segment.unlink()
    bad.segment.mkdir()
    writer("b2").write(request_record("q1"))
    with caplog.at_level(logging.WARNING):
        take_in_all(observer)
        for _ in range(5):
            observer.take_in(always)
        assert len(caplog.records) == 1
        clock.now += 11.0
        observer.take_in(always)
    assert sink.requests.keys() == {"q1"}
    assert len(caplog.records) == 2
    assert "b1" in caplog.text


def test_a_spool_folder_that_is_not_there_is_storage_failed_and_closes_nothing(
    tmp_path: Path, sink: Any, clock: Clock
) -> None:
    sink.cursors["b1"] = SpoolCursor(1, 8, 5.0)
    with pytest.raises(StorageFailed, match="nowhere"):
        Observer(tmp_path / "nowhere", sink, clock=clock).take_in(always)
    assert not sink.cursors["b1"].closed


def test_hidden_folders_and_files_are_no_spools(
    observer: Observer, tmp_path: Path, sink: Any
) -> None:
    (tmp_path / "spool" / ".new").mkdir()
    (tmp_path / "spool" / "observer.lock").write_text("")
    assert not observer.take_in(always)
    assert sink.calls == ["list"]


def test_samples_are_taken_in_once_and_not_beyond_their_time(
    tmp_path: Path, sink: Any, writer: Callable[..., Any]
) -> None:
    """What lay in the spool for longer than it may be kept is not kept at all."""
    spool = writer()
    kept = SampleRecord("q1", "bank", "k1", "u1", 1.0, 900.0, "[]", "a", False)
    late = msgspec.structs.replace(kept, id="q2", keep_until=50.0)
    unfit = msgspec.structs.replace(kept, id="q3", keep_until=float("nan"))
    spool.write(kept, late, unfit)
    observer = Observer(tmp_path / "spool", sink, clock=lambda: 100.0)
    while observer.take_in(lambda: True):
        pass
    assert sink.samples == {"q1": kept}
    assert sink.prune_samples(900.0) == 1
