"""One spool folder, read and cleared away; the clock is a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fairlead.domain.errors import StorageFailed
from fairlead.observer.sink import SpoolCursor
from fairlead.observer.spool import READ_BYTES, RECORDS_MAX, START_GRACE_S, Batch, Spool
from fairlead.wire.record import FeedbackRecord, ProgressRecord, RequestRecord, encode_record
from fairlead.wire.spool import ALIVE_FILE, PAYLOAD_BYTES_MAX, frame, segment_name

Make = Callable[..., RequestRecord]
NOW = 1_000.0


def read_all(spool: Spool, now: float = NOW) -> list[Batch]:
    batches = []
    while (batch := spool.read(now)) is not None:
        batches.append(batch)
        spool.advance(batch)
        spool.clear()
        assert len(batches) < 1000
    return batches


def ids(batches: list[Batch]) -> list[str]:
    return [record.id for batch in batches for record in batch.requests]


def test_it_reads_on_from_where_it_was_and_nothing_when_nothing_is_new(
    writer: Any, request_record: Make
) -> None:
    worker = writer()
    spool = Spool(worker.folder, SpoolCursor())
    worker.write(request_record("q1"), FeedbackRecord("f1", "q1", "k", "ok", 1.0, 2.0))
    (batch,) = read_all(spool)
    assert ([r.id for r in batch.requests], [f.id for f in batch.feedback]) == (["q1"], ["f1"])
    assert spool.read(NOW) is None
    worker.write(request_record("q2"), ProgressRecord(9.0, 8.0))
    again = Spool(worker.folder, batch.cursor)
    assert ids(read_all(again)) == ids(read_all(spool)) == ["q2"]
    assert again.cursor.complete_until == 8.0


def test_segments_are_read_in_order_and_deleted_once_kept(
    writer: Any, request_record: Make
) -> None:
    worker = writer()
    for n in range(3):
        worker.write(request_record(f"q{n}"))
        worker.rotate()
    worker.write(request_record("q3"))
    spool = Spool(worker.folder, SpoolCursor())
    batch = spool.read(NOW)
    assert batch is not None
    assert (worker.folder / segment_name(1)).exists()
    spool.advance(batch)
    spool.clear()
    assert not (worker.folder / segment_name(1)).exists()
    assert ids([batch, *read_all(spool)]) == ["q0", "q1", "q2", "q3"]
    assert {p.name for p in worker.folder.iterdir()} == {ALIVE_FILE, segment_name(4)}


def test_segments_that_were_kept_but_not_deleted_by_an_earlier_life_are_deleted_unread(
    writer: Any, request_record: Make
) -> None:
    worker = writer()
    worker.write(request_record("old"))
    worker.rotate()
    worker.write(request_record("new"))
    spool = Spool(worker.folder, SpoolCursor(segment=2))
    assert ids(read_all(spool)) == ["new"]
    assert not (worker.folder / segment_name(1)).exists()


def test_batches_are_bounded(writer: Any, request_record: Make) -> None:
    worker = writer()
    worker.write(*(request_record(f"q{n}") for n in range(2 * RECORDS_MAX + 5)))
    batches = read_all(Spool(worker.folder, SpoolCursor()))
    assert sum(len(b.requests) for b in batches) == 2 * RECORDS_MAX + 5
    assert max(len(b.requests) for b in batches) <= RECORDS_MAX


def test_a_frame_larger_than_the_usual_read_is_taken(writer: Any, request_record: Make) -> None:
    worker = writer()
    big = request_record("big", error="x" * (PAYLOAD_BYTES_MAX - 1000))
    assert len(encode_record(big)) > READ_BYTES
    worker.write(request_record("q1"), big, request_record("q2"))
    assert ids(read_all(Spool(worker.folder, SpoolCursor()))) == ["q1", "big", "q2"]


def test_complete_until_never_goes_back(writer: Any) -> None:
    worker = writer()
    worker.write(ProgressRecord(9.0, 8.0))
    spool = Spool(worker.folder, SpoolCursor())
    read_all(spool)
    worker.write(ProgressRecord(10.0, 7.0))
    read_all(spool)
    assert spool.cursor.complete_until == 8.0


def test_a_living_workers_spool_stays_open(writer: Any, request_record: Make) -> None:
    worker = writer()
    worker.write(request_record("q1"))
    spool = Spool(worker.folder, SpoolCursor())
    read_all(spool)
    assert not spool.cursor.closed
    assert worker.segment.exists()


def test_a_dead_workers_spool_is_read_to_the_end_closed_and_removed(
    writer: Any, request_record: Make
) -> None:
    worker = writer()
    spool = Spool(worker.folder, SpoolCursor())
    worker.write(request_record("q1"))
    first = read_all(spool)
    worker.write(request_record("q2"))
    worker.rotate()
    worker.write(request_record("q3"))
    worker.die()
    assert ids(first + read_all(spool)) == ["q1", "q2", "q3"]
    assert spool.cursor.closed
    assert not worker.folder.exists()
    assert spool.read(NOW) is None


def test_what_a_worker_wrote_just_before_its_death_is_not_overlooked(
    writer: Any, request_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = writer()
    spool = Spool(worker.folder, SpoolCursor())
    worker.write(request_record("q1"))
    read_all(spool)
    is_dead = spool._is_dead

    def dies_now(now: float) -> bool:
        worker.write(request_record("q2"))
        worker.rotate()
        worker.write(request_record("q3"))
        worker.die()
        return is_dead(now)

    monkeypatch.setattr(spool, "_is_dead", dies_now)
    assert ids(read_all(spool)) == ["q2", "q3"]
    assert spool.cursor.closed


def test_the_torn_last_frame_of_a_dead_worker_is_counted_without_a_warning(
    writer: Any, request_record: Make
) -> None:
    worker = writer()
    worker.write(request_record("q1"))
    worker.raw(frame(encode_record(request_record("q2")))[:-5])
    spool = Spool(worker.folder, SpoolCursor())
    assert ids(read_all(spool)) == ["q1"]
    assert not spool.cursor.closed
    worker.die()
    (batch,) = read_all(spool)
    assert (batch.requests, batch.warnings) == ([], [])
    assert (batch.cursor.broken, batch.cursor.closed) == (1, True)


def test_damage_in_the_middle_is_told_and_the_following_segments_are_read(
    writer: Any, request_record: Make
) -> None:
    worker = writer()
    worker.write(request_record("q1"))
    worker.raw(b"\xff" * 40)
    worker.rotate()
    worker.write(request_record("q2"))
    spool = Spool(worker.folder, SpoolCursor())
    batches = read_all(spool)
    assert ids(batches) == ["q1", "q2"]
    assert spool.cursor.broken == 1
    (warning,) = [w for b in batches for w in b.warnings]
    assert warning.at == NOW
    assert "spool b1: segment 1" in warning.message
    assert "skipped 40 bytes" in warning.message


def test_many_damaged_places_are_told_in_few_words(writer: Any, request_record: Make) -> None:
    worker = writer()
    for n in range(40):
        worker.write(request_record(f"q{n}"))
        worker.raw(b"\xff" * 10)
    worker.write(request_record("last"))
    (batch,) = read_all(Spool(worker.folder, SpoolCursor()))
    assert (len(batch.requests), batch.cursor.broken) == (41, 40)
    assert len(batch.warnings) == 6
    assert "35 more" in batch.warnings[-1].message


def test_a_segment_cut_back_behind_what_was_read_is_gone_on_from_in_the_next_one(
    writer: Any, request_record: Make
) -> None:
    worker = writer()
    spool = Spool(worker.folder, SpoolCursor())
    worker.write(request_record("q1"))
    size = worker.segment.stat().st_size
    worker.write(request_record("q2"))
    first = read_all(spool)
    with worker.segment.open("r+b") as file:
        file.truncate(size)
    assert read_all(spool) == []
    worker.rotate()
    worker.write(request_record("q2"), request_record("q3"))
    assert ids(first + read_all(spool)) == ["q1", "q2", "q2", "q3"]
    assert spool.cursor.broken == 0


def test_a_missing_segment_is_told_and_got_past(writer: Any, request_record: Make) -> None:
    worker = writer()
    worker.rotate()
    worker.rotate()
    worker.write(request_record("q3"))
    for number in (1, 2):
        (worker.folder / segment_name(number)).unlink()
    (batch,) = read_all(Spool(worker.folder, SpoolCursor()))
    assert (ids([batch]), batch.cursor.segment, batch.cursor.broken) == (["q3"], 3, 1)
    assert "segment 1 is missing" in batch.warnings[0].message


def test_a_worker_that_has_not_taken_its_lock_yet_is_not_taken_for_dead(writer: Any) -> None:
    worker = writer(born_at=NOW)
    worker.die()
    spool = Spool(worker.folder, SpoolCursor())
    assert not any(b.cursor.closed for b in read_all(spool, NOW + START_GRACE_S - 0.1))
    (closing,) = read_all(spool, NOW + START_GRACE_S)
    assert closing.cursor.closed


def test_a_folder_without_a_lock_file_is_closed_only_after_a_while(writer: Any) -> None:
    worker = writer()
    worker.segment.unlink()
    (worker.folder / ALIVE_FILE).unlink()
    made_at = worker.folder.stat().st_mtime
    spool = Spool(worker.folder, SpoolCursor())
    assert spool.read(made_at + START_GRACE_S - 0.1) is None
    (closing,) = read_all(spool, made_at + START_GRACE_S + 0.1)
    assert closing.cursor.closed
    assert not worker.folder.exists()


def test_files_that_are_not_the_spools_are_never_deleted(writer: Any, request_record: Make) -> None:
    worker = writer()
    worker.write(request_record("q1"))
    (worker.folder / "notes.txt").write_text("mine")
    (worker.folder / "x.seg").write_text("not a segment")
    worker.die()
    spool = Spool(worker.folder, SpoolCursor())
    spool.read(NOW)
    with pytest.raises(StorageFailed, match="not empty"):
        read_all(spool)
    assert spool.cursor.closed
    assert {p.name for p in worker.folder.iterdir()} == {"notes.txt", "x.seg"}


def test_a_folder_that_cannot_be_read_is_storage_failed(writer: Any) -> None:
    worker = writer()
    worker.segment.unlink()
    worker.segment.mkdir()
    with pytest.raises(StorageFailed, match="b1"):
        Spool(worker.folder, SpoolCursor()).read(NOW)
