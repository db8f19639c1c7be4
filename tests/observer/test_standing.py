"""The observer writes down how far it is, and is held up by nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.observer.archive import ArchiveThread
from fairlead.observer.service import Observer
from fairlead.observer.standing import StandingFile
from fairlead.wire.observing import ObserverStanding, decode_standing
from fairlead.wire.record import FeedbackRecord, ProgressRecord, RequestRecord

Make = Callable[..., RequestRecord]


def told(path: Path) -> ObserverStanding:
    return decode_standing(path.read_bytes())


def test_what_was_taken_in_and_what_is_held_is_in_the_file(
    tmp_path: Path, sink: Any, writer: Callable[..., Any], request_record: Make
) -> None:
    spool, path = tmp_path / "spool", tmp_path / "observer.json"
    worker = writer("one")
    worker.write(request_record("r1"), FeedbackRecord("f1", "r1", "k", "good", 1.0, 5.0))
    worker.raw(b"\x05\x00\x00\x00XXXXhello")  # its checksum is none
    worker.write(request_record("r2"))
    worker.rotate()
    observer = Observer(spool, sink, clock=lambda: 100.0)
    standing = StandingFile(path, spool)
    while observer.take_in(lambda: True):
        pass
    standing.failures = 3
    standing.tell(observer.taken)
    found = told(path)
    assert (found.requests, found.feedback, found.damaged, found.failures) == (2, 1, 1, 3)
    assert found.spools == 1
    assert found.spool_bytes == sum(f.stat().st_size for f in worker.folder.glob("*.seg")) > 0
    assert not found.archives
    assert path.stat().st_mode & 0o077 == 0


def test_it_is_written_once_a_second_and_at_the_end(tmp_path: Path, sink: Any) -> None:
    (tmp_path / "spool").mkdir()
    path = tmp_path / "observer.json"
    observer = Observer(tmp_path / "spool", sink, clock=lambda: 100.0)
    standing = StandingFile(path, tmp_path / "spool")
    standing.tell(observer.taken)
    observer.taken.requests = 5
    standing.tell(observer.taken)
    assert told(path).requests == 0
    standing.tell(observer.taken, at_once=True)
    assert told(path).requests == 5


def test_a_disk_that_refuses_it_is_no_trouble(tmp_path: Path, sink: Any) -> None:
    observer = Observer(tmp_path, sink, clock=lambda: 100.0)
    StandingFile(tmp_path / "no-folder" / "observer.json", tmp_path).tell(observer.taken)
    StandingFile(tmp_path / "observer.json", tmp_path / "no-spool").tell(observer.taken)
    assert list(tmp_path.iterdir()) == []


class _Archive:
    """Keeps positions and nothing else."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def positions(self) -> dict[str, Any]:
        return dict(self.kept)

    def take_in(self, requests: Any, feedback: Any, positions: Any, forget: Any = ()) -> int:
        self.kept.update(positions)
        return len(requests)

    def step(self) -> bool:
        return False

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.timeout(60)
def test_the_archive_says_up_to_when_it_has_all_records(
    tmp_path: Path, writer: Callable[..., Any], request_record: Make
) -> None:
    """A spool that it has not met is as old as its lock; one that is over holds nothing back."""
    first = writer("one")
    first.write(request_record("r1"), ProgressRecord(50.0, 40.0))
    archive = ArchiveThread(tmp_path / "spool", _Archive)
    assert archive.complete_until(["one"]) == 0.0  # it is not open
    archive.start()
    while archive.complete_until(["one"]) != 40.0:
        pass
    writer("two", born_at=7.0)
    assert archive.complete_until(["one", "two"]) == 7.0
    assert archive.finish(30.0)


def test_spans_are_in_it(tmp_path: Path, sink: Any) -> None:
    (tmp_path / "spool").mkdir()
    path = tmp_path / "observer.json"
    standing = StandingFile(path, tmp_path / "spool", traces=lambda: {"sent": 3, "dropped": 1})
    standing.tell(Observer(tmp_path / "spool", sink, clock=lambda: 100.0).taken)
    assert told(path).traces == {"sent": 3, "dropped": 1}
