"""The second reader of the spool: both have every record once, and nothing goes before both do."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fairlead.domain.errors import Damaged, StorageFailed, Unavailable
from fairlead.observer import archive, service
from fairlead.observer.archive import ArchiveSettings, ArchiveThread, Archivist
from fairlead.observer.holding import LOOK_EVERY_S, Holding
from fairlead.observer.service import LOCK_FILE, Observer, ObserverSettings, run
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
        self.filled, self.closings = threading.Event(), 0

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
        self.filled.set()
        return len(requests)

    def step(self) -> bool:
        return False

    def interrupt(self) -> None: ...

    def close(self) -> None:
        self.closings += 1


class Pair:
    """An observer and an archivist on the same spools."""

    def __init__(self, folder: Path, sink: Any, held_bytes_max: int) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._sink, self._held_bytes_max = folder, sink, held_bytes_max
        self.archive = MemoryArchive()
        self.now = 0.0
        self.again()

    def again(self) -> None:
        """A new life of both."""
        self.archivist = Archivist(self._folder, self.archive, clock=lambda: NOW)
        self.holding = Holding(self._folder, self._held_bytes_max, clock=lambda: self.now)
        self.observer = Observer(
            self._folder,
            self._sink,
            clock=lambda: NOW,
            archived=lambda boot: self.holding.position(boot, self.archivist.kept),
        )

    def observe(self) -> None:
        for _ in range(100):
            if not self.observer.take_in(lambda: True):
                return
        raise AssertionError("it never comes to an end")


@pytest.fixture
def pair(tmp_path: Path, sink: Any) -> Pair:
    return Pair(tmp_path / "spool", sink, 1 << 30)


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


def ids(found: Sequence[str]) -> set[str]:
    """Of which writes records are there."""
    return {id.split("-")[0] for id in found}


def test_too_much_is_not_held_whatever_the_archive_does(
    tmp_path: Path, sink: Any, writer: Any, request_record: Make, caplog: Any
) -> None:
    """The disk is the gateway's too. Nobody asks the archive here: it may hang.

    The oldest go, of whichever worker, until the rest is within the bound; it is taken in later.
    """
    workers = [writer("b1"), writer("b2")]
    for n in range(6):
        worker = workers[n % 2]
        segment = worker.segment
        worker.write(*(request_record(f"q{n}-{k}") for k in range(10)))
        worker.rotate()
        os.utime(segment, (NOW + n, NOW + n))
    size = segment.stat().st_size
    pair = Pair(tmp_path / "spool", sink, 3 * size + size // 2)
    pair.observe()
    held = [len(list(worker.folder.glob("*.seg"))) for worker in workers]
    pair.now += LOOK_EVERY_S
    with caplog.at_level(logging.WARNING):
        pair.observe()
        pair.observe()
    assert "the oldest 3 segments" in caplog.text
    after = [len(list(worker.folder.glob("*.seg"))) for worker in workers]
    assert (after[0], after[1]) == (held[0] - 2, held[1] - 1)
    pair.archivist.take_in()
    assert ids(pair.archive.ids) == {"q3", "q4", "q5"}
    assert len(sink.requests) == 60
    pair.now += LOOK_EVERY_S
    pair.observe()
    assert caplog.text.count("too much waits in the spool") == 1


def test_all_of_a_dead_worker_goes_with_its_folder_when_too_much_waits(
    tmp_path: Path, sink: Any, writer: Any, request_record: Make
) -> None:
    worker = writer("b1")
    worker.write(request_record("q1"))
    worker.die()
    pair = Pair(tmp_path / "spool", sink, 1)
    pair.observe()
    assert worker.folder.exists()
    pair.now += LOOK_EVERY_S
    pair.observe()
    assert not worker.folder.exists()
    assert sink.requests.keys() == {"q1"}


def test_what_the_archive_has_does_not_count_as_waiting(
    tmp_path: Path, sink: Any, writer: Any, request_record: Make, caplog: Any
) -> None:
    """So what waits for the store alone takes nothing from the archive."""
    worker = writer("b1")
    for n in range(3):
        worker.write(request_record(f"q{n}"))
        worker.rotate()
    pair = Pair(tmp_path / "spool", sink, worker.segment.stat().st_size + 1)
    pair.archivist.take_in()
    pair.now += LOOK_EVERY_S
    assert pair.holding.position("b1", pair.archivist.kept) == pair.archivist.kept["b1"]
    assert caplog.text == ""


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
    assert thread.position("b1").closed is False


@pytest.mark.parametrize(
    "trouble",
    [Unavailable("locked"), StorageFailed("full"), Damaged("torn"), ValueError("a defect")],
)
def test_an_archive_that_cannot_be_opened_now_is_opened_later_and_the_spool_waits(
    tmp_path: Path, writer: Any, request_record: Make, caplog: Any, trouble: Exception
) -> None:
    kept = MemoryArchive()
    troubles = [trouble, trouble]
    seen: list[SpoolCursor] = []

    def opened() -> MemoryArchive:
        seen.append(thread.position("b1"))
        if troubles:
            raise troubles.pop()
        return kept

    writer("b1").write(request_record("q1"))
    thread = ArchiveThread(tmp_path / "spool", opened, ArchiveSettings(every_s=0.01))
    thread.start()
    assert kept.filled.wait(60.0)
    thread.finish(60.0)
    assert seen == [SpoolCursor()] * 3
    assert kept.ids == ["q1"]
    assert caplog.text.count("telemetry waits") == 2
    assert str(trouble) in caplog.text


def test_after_a_defect_it_goes_on_with_an_archive_opened_anew(
    tmp_path: Path, writer: Any, request_record: Make, caplog: Any
) -> None:
    kept, openings, twice = MemoryArchive(), 0, threading.Event()
    defects = [KeyError("what nobody thought of")]

    def step() -> bool:
        if defects:
            raise defects.pop()
        return False

    def again() -> MemoryArchive:
        nonlocal openings
        openings += 1
        if openings == 2:
            twice.set()
        return kept

    kept.step = step  # type: ignore[method-assign]
    thread = ArchiveThread(tmp_path / "spool", again, ArchiveSettings(every_s=0.01))
    worker = writer("b1")
    worker.write(request_record("q1"))
    thread.start()
    assert twice.wait(60.0)
    worker.write(request_record("q2"))
    thread.finish(60.0)
    assert (kept.ids, kept.closings) == (["q1", "q2"], openings)
    assert "what nobody thought of" in caplog.text


def test_upkeep_goes_on_until_the_next_portion_is_due(
    tmp_path: Path, writer: Any, request_record: Make
) -> None:
    """Else portions make files faster than upkeep makes one of them."""
    kept, steps, done = MemoryArchive(), 0, threading.Event()

    def step() -> bool:
        nonlocal steps
        steps += 1
        worker.write(request_record(f"q{steps}"))
        if steps == 20:
            done.set()
        return steps < 20

    kept.step = step  # type: ignore[method-assign]
    worker = writer("b1")
    worker.write(request_record("q0"))
    thread = ArchiveThread(tmp_path / "spool", lambda: kept, ArchiveSettings(every_s=3_600.0))
    thread.start()
    assert done.wait(60.0)
    assert kept.ids == ["q0"]
    thread.finish(60.0)
    assert len(kept.ids) == 21


def test_upkeep_without_end_does_not_keep_portions_out(
    tmp_path: Path, writer: Any, request_record: Make
) -> None:
    kept, second = MemoryArchive(), threading.Event()

    def step() -> bool:
        worker.write(request_record(f"q{len(kept.ids)}"))
        if kept.portions == 2:
            second.set()
        return True

    kept.step = step  # type: ignore[method-assign]
    worker = writer("b1")
    worker.write(request_record("q0"))
    thread = ArchiveThread(tmp_path / "spool", lambda: kept, ArchiveSettings(every_s=0.01))
    thread.start()
    assert second.wait(60.0)
    thread.finish(60.0)


@pytest.mark.parametrize("hangs", [True, False])
def test_the_lock_is_kept_as_long_as_the_archive_may_still_write(
    tmp_path: Path, sink: Any, writer: Any, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """Also when the observer itself ends with a defect. The next one waits for it."""
    free, inside, kept = threading.Event(), threading.Event(), MemoryArchive()

    def step() -> bool:
        inside.set()
        return hangs and not free.wait(60.0)

    def observing(*_: Any) -> None:
        assert inside.wait(60.0)
        raise KeyError("a defect")

    taken: list[Any] = []
    lock_it = service._lock

    def locking(*given: Any) -> Any:
        taken.append(lock_it(*given))
        return taken[0]

    kept.step = step  # type: ignore[method-assign]
    writer("b1")
    monkeypatch.setattr(service, "_lock", locking)
    monkeypatch.setattr(service, "_observe", observing)
    monkeypatch.setattr(service._Wish, "install", lambda _: None)
    thread = ArchiveThread(tmp_path / "spool", lambda: kept)
    settings = ObserverSettings(str(tmp_path / "spool"), "", drain_s=0.0 if hangs else 60.0)
    with pytest.raises(KeyError):
        run(settings, sink, thread)
    assert thread._thread.is_alive() == hangs
    lock = os.open(tmp_path / "spool" / LOCK_FILE, os.O_RDWR)
    if hangs:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free.set()
        assert thread.finish(60.0)
        os.close(taken[0])
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


def test_a_thread_that_was_never_begun_has_ended(tmp_path: Path) -> None:
    assert ArchiveThread(tmp_path, MemoryArchive).finish(0.0)
